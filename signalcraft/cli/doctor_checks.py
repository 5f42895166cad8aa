"""The checks of ``doctor``: each tests one part of a deployment and yields findings.

A check whose dependency is unavailable reports that; it never raises. No finding shows a secret.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from peewee import PeeweeException
from redis import Redis
from redis.exceptions import RedisError

from signalcraft.domain.deliveries import Secret
from signalcraft.domain.errors import DatabaseUnusable, InvalidSetting, RecoverableError, SignalCraftError
from signalcraft.notify import config as notify_config
from signalcraft.notify import queries as notify_queries
from signalcraft.queues import backlog, jobs, redis_clients, redis_persistence
from signalcraft.queues.redis_persistence import Judgement
from signalcraft.settings import Settings
from signalcraft.sources import SOURCES, Source
from signalcraft.storage import migrations, tenants
from signalcraft.storage.database import check_disk, current_time, database, session
from signalcraft.storage.models import ApiToken

_MIN_SECRET_LENGTH: Final = 16
_MIN_REDIS_VERSION: Final = (6, 2)
_MIN_POSTGRESQL_VERSION: Final = 140_000
_SKEW_WARNING_SECONDS: Final = 2.0
_SKEW_FAILURE_SECONDS: Final = 60.0
_RECOMMENDED_WINDOW_MINUTES: Final = range(30, 61)
#: The usual secret of each source in the environment.
_VARIABLES: Final = " or ".join(source.KINDS[0].variable for source in SOURCES.values())


class Grade(StrEnum):
    """How bad a finding is. Only a failure makes ``doctor`` fail."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report: the part checked, its state, and advice."""

    grade: Grade
    about: str
    says: str
    advice: str = ""


def ok(about: str, says: str) -> Finding:
    """Return a finding of grade OK."""
    return Finding(grade=Grade.OK, about=about, says=says)


def warning(about: str, says: str, advice: str) -> Finding:
    """Return a finding that does not make ``doctor`` fail."""
    return Finding(grade=Grade.WARNING, about=about, says=says, advice=advice)


def failure(about: str, says: str, advice: str) -> Finding:
    """Return a finding that makes ``doctor`` fail."""
    return Finding(grade=Grade.FAILURE, about=about, says=says, advice=advice)


Check = Callable[[Settings, Redis], Iterable[Finding]]


def check_settings(settings: Settings, _: Redis) -> Iterator[Finding]:
    """Check for settings that are valid but not advisable."""
    yield ok("settings", "All are valid.")
    if settings.grouping_window_minutes not in _RECOMMENDED_WINDOW_MINUTES:
        says = f"GROUPING_WINDOW_MINUTES is {settings.grouping_window_minutes}."
        yield warning("settings", says, "Use 30 to 60: a shorter window splits groups, a longer one hides new alerts.")
    if settings.payload_retention_days > settings.retention_days:
        says = f"PAYLOAD_RETENTION_DAYS is {settings.payload_retention_days}, RETENTION_DAYS {settings.retention_days}."
        yield warning("settings", says, "A body is deleted with its event: raise RETENTION_DAYS, or lower the other.")
    if not settings.metrics_token:
        yield warning("settings", "/metrics needs no token.", "Set METRICS_TOKEN if the web process is public.")
    own = {
        "API_TOKEN": settings.api_token,
        "METRICS_TOKEN": settings.metrics_token,
        "DASHBOARD_PASSWORD": settings.dashboard_password,
    }
    for name, value in own.items():
        if 0 < len(value) < _MIN_SECRET_LENGTH:
            yield warning("settings", f"{name} has only {len(value)} characters.", "Make one: `openssl rand -hex 32`.")


def check_names(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check for variables that are read by nobody, with names like those of settings."""
    for name, meant in Settings.misspelt(environ).items():
        yield warning("settings", f"{name} is no setting, and {meant} is not set.", f"Rename it if {meant} is meant.")


def check_secrets(settings: Settings, _: Redis) -> Iterator[Finding]:
    """Check the webhook secrets and the API tokens."""
    of_environment = settings.environment_secrets()
    yield from _check_environment_secrets(secret for _, secret in of_environment)
    try:
        with session():
            stored = {slug: _live(slug, settings) for slug in tenants.workspaces()}
            tokens = ApiToken.select().where(ApiToken.revoked_at.is_null()).count()
    except (RecoverableError, PeeweeException):
        yield warning("secrets", "Those in the database cannot be read.", "See postgresql, below.")
        return
    yield from _check_stored_secrets(stored, settings.default_workspace)
    default = stored.get(settings.default_workspace)
    if default is None:
        says = f"There is no workspace {settings.default_workspace}."
        yield failure("secrets", says, "Run `python -m signalcraft migrate`: it creates the default workspace.")
        return
    live = len(of_environment) + sum(value is not None for value in default.values())
    if not live:
        says = f"The workspace {settings.default_workspace} has none: every delivery is refused."
        yield failure("secrets", says, f"Set {_VARIABLES}, or `secret add` one.")
    else:
        yield ok("secrets", f"{live} live in the workspace {settings.default_workspace}.")
    if not tokens and not settings.api_token:
        yield warning("secrets", "No client can read the API.", "`token create --workspace ...`, or set API_TOKEN.")


def _check_environment_secrets(secrets: Iterable[Secret]) -> Iterator[Finding]:
    for secret in secrets:
        value = secret.value.decode()
        if value[0] in "'\"" or value[-1] in "'\"":
            says = f"{secret.name} begins or ends with a quotation mark."
            yield warning("secrets", says, "Remove it: some platforms keep the quotation marks of a .env file.")
        elif len(value) < _MIN_SECRET_LENGTH:
            yield warning("secrets", f"{secret.name} has only {len(value)} characters.", "Copy the whole secret.")


def _check_stored_secrets(stored: Mapping[str, Mapping[str, bytes | None]], default: str) -> Iterator[Finding]:
    """Check the live secrets in the database, by workspace and name."""
    named = {f"{slug}/{name}": value for slug, values in stored.items() for name, value in values.items()}
    undecryptable = [name for name, value in named.items() if value is None]
    if undecryptable:
        says = f"Cannot be decrypted: {', '.join(undecryptable)}."
        advice = "Append the key that encrypted them to ENCRYPTION_KEY, after the newest, here and in each web process."
        yield failure("secrets", says, advice)
    for name, value in named.items():
        if value is not None and len(value) < _MIN_SECRET_LENGTH:
            says = f"{name} has only {len(value)} characters."
            yield warning("secrets", says, "`secret add` the whole secret, and retire it.")
    for slug, values in stored.items():
        if slug != default and not values:
            says = f"The workspace {slug} has none: every delivery to it is refused."
            yield warning("secrets", says, f"`secret add --workspace {slug}`.")


def signing_secret(workspace: str, settings: Settings, source: Source | None) -> tuple[Source, Secret] | None:
    """Return a source, and its secret for a sample of ``workspace``.

    The source is ``source``, else the first that has one. None if there is none that can be read.

    Raises:
        TenancyError: no such workspace.
    """
    found = settings.environment_secrets() if workspace == settings.default_workspace else []
    with suppress(RecoverableError, PeeweeException), session():
        found += [
            (info.source, Secret(name=info.name, kind=info.kind, value=value))
            for info, value in tenants.opened_secrets(workspace, settings.encryption_keys)
            if value is not None and info.retired_at is None
        ]
    for name, secret in found:
        candidate = SOURCES[name]
        if candidate is (source or candidate) and secret.kind == candidate.KINDS[0].name:
            return candidate, secret
    return None


def _live(slug: str, settings: Settings) -> dict[str, bytes | None]:
    """Return a workspace's live secrets by name, None for one that ENCRYPTION_KEY does not decrypt."""
    opened = tenants.opened_secrets(slug, settings.encryption_keys)
    return {info.name: value for info, value in opened if info.retired_at is None}


def check_clock(_: Settings, redis: Redis) -> Iterator[Finding]:
    """Compare the local clock with the servers' clocks: grouping uses the time of receipt."""
    clocks: dict[str, Callable[[], float]] = {"Redis": lambda: _redis_time(redis), "PostgreSQL": _postgresql_time}
    for name, read in clocks.items():
        try:
            skew = datetime.now(UTC).timestamp() - read()
        except (RedisError, RecoverableError, PeeweeException):
            yield warning("clock", f"Cannot be compared with that of {name}, which is unavailable.", "See below.")
            continue
        says = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} {name}."
        if abs(skew) > _SKEW_FAILURE_SECONDS:
            yield failure("clock", says, "Synchronize the clock by NTP: alerts would be grouped by a wrong time.")
        elif abs(skew) > _SKEW_WARNING_SECONDS:
            yield warning("clock", says, "Synchronize the clocks by NTP.")
        else:
            yield ok("clock", says)


def _redis_time(redis: Redis) -> float:
    seconds, microseconds = redis.time()
    return seconds + microseconds / 1_000_000


def _postgresql_time() -> float:
    with session():
        return current_time().timestamp()


def check_redis(settings: Settings, redis: Redis) -> Iterator[Finding]:
    """Check that Redis accepts writes, and is configured to keep them."""
    try:
        redis_clients.check_writable(redis)
    except SignalCraftError as error:
        advice = "Check REDIS_URL, and whether Redis is full or a replica. Deliveries go to the inbox meanwhile."
        yield failure("redis", f"Accepts no writes ({error}).", advice)
        return
    yield ok("redis", "Accepts writes.")
    if settings.ingest_durability == "inbox":
        return  # PostgreSQL has every delivery first
    try:
        info: Mapping[str, Any] = redis.info("everything")
    except RedisError:
        info = {}
    yield from judge_redis(info)


def judge_redis(info: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge the settings in Redis's INFO; a field that the provider hides is unknown."""
    version = str(info.get("redis_version", ""))
    if version and tuple(map(int, version.split(".")[:2])) < _MIN_REDIS_VERSION:
        yield failure("redis", f"Is version {version}.", "SignalCraft needs 6.2 or newer, among others for BLMOVE.")
    for judgement in redis_persistence.judge(info):
        yield _finding(judgement)


def _finding(judgement: Judgement) -> Finding:
    setting, advice = judgement.setting, judgement.advice
    if judgement.value is None:
        return warning("redis", f"{setting} is unknown: INFO does not show it.", f"Ask your provider. {advice}")
    if judgement.is_safe:
        return ok("redis", f"{setting} is {judgement.value}.")
    return warning("redis", f"{setting} is {judgement.value}.", advice)


def check_postgresql(_: Settings, __: Redis) -> Iterator[Finding]:
    """Check that PostgreSQL is available, and that no migration is pending."""
    try:
        with session():
            version = database.server_version
            missing = migrations.pending(database)
            check_disk()
    except DatabaseUnusable as error:
        yield failure("postgresql", f"Cannot be used: {error}.", "")
        return
    except (RecoverableError, PeeweeException) as error:
        yield failure("postgresql", f"Is unavailable ({error}).", "Check DATABASE_URL, and whether PostgreSQL runs.")
        return
    if missing:
        yield failure("postgresql", migrations.advice(missing), "")
    elif version < _MIN_POSTGRESQL_VERSION:
        yield warning("postgresql", f"Is version {version // 10_000}.", "SignalCraft is tested with 14 and newer.")
    else:
        yield ok("postgresql", "Is available and has all migrations.")


def check_workers(settings: Settings, redis: Redis) -> Iterator[Finding]:
    """Check that a worker is registered on each queue and has a recent heartbeat."""
    for queue, command in ((jobs.ALERTS, "python worker.py"), (jobs.NOTIFICATIONS, "python worker.py notifications")):
        about = "worker" if queue == jobs.ALERTS else "notifier"
        problem = failure if queue == jobs.ALERTS or settings.notify else warning
        try:
            seconds = backlog.heartbeat_seconds(redis, queue)
        except RecoverableError:
            yield problem(about, "Unknown: Redis is unavailable.", "See redis, above.")
            continue
        if seconds is None:
            yield problem(about, f"None is registered on the queue {queue}.", f"Start one: `{command}`.")
        elif seconds > backlog.HEARTBEAT_SECONDS:
            says = f"The last heartbeat was {seconds:.0f} s ago."
            yield problem(about, says, "It hangs or was killed: see its log, and restart it.")
        else:
            yield ok(about, f"The last heartbeat was {seconds:.0f} s ago.")


def check_receivers(settings: Settings, _: Redis) -> Iterator[Finding]:
    """Check the receivers of notifications, without sending any."""
    try:
        config = notify_config.load(settings.notify, os.environ)
    except InvalidSetting as error:
        yield failure("receivers", str(error), "No worker and no notifier starts with it. `routes check` tries again.")
        return
    try:
        with session():
            known = {row["receiver"]: row for row in notify_queries.receivers()}
    except (RecoverableError, PeeweeException):
        known = {}
    for name, receiver in config.receivers.items():
        problems = notify_config.problems_of(receiver, os.environ)
        if (row := known.get(name)) and row["broken_since"]:
            problems.append(f"It is broken ({row['broken_code']}) and {row['waiting']} messages wait.")
        for problem in problems:
            yield warning("receivers", f"{name}: {problem}", f"Mend it, then `receivers test {name}`.")
        if not problems:
            yield ok("receivers", f"{name} ({receiver.kind}): nothing is known to be wrong.")


CHECKS: Final[Sequence[Check]] = (
    check_settings,
    check_secrets,
    check_clock,
    check_redis,
    check_postgresql,
    check_workers,
    check_receivers,
)
