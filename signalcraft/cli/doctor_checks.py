"""The checks of ``doctor``: each asks one question about a deployment and yields findings.

A check whose dependency is unavailable says so; it never raises. No finding shows a secret.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from peewee import PeeweeException
from redis import Redis
from redis.exceptions import RedisError

from signalcraft.domain.errors import RecoverableError, SignalCraftError
from signalcraft.queues import backlog, jobs, redis_clients
from signalcraft.settings import Settings
from signalcraft.storage import migrations, tenants
from signalcraft.storage.database import database, session
from signalcraft.storage.models import ApiToken

_SHORTEST_SECRET: Final = 16
_OLDEST_REDIS: Final = (6, 2)
_OLDEST_POSTGRESQL: Final = 140_000
_SKEW_WARNING_SECONDS: Final = 2.0
_SKEW_FAILURE_SECONDS: Final = 60.0
_WISE_WINDOW: Final = range(30, 61)


class Grade(StrEnum):
    """How bad a finding is. Only a failure makes ``doctor`` fail."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: what was looked at, what is the case, and what to do about it."""

    grade: Grade
    about: str
    says: str
    advice: str = ""


def ok(about: str, says: str) -> Finding:
    """All is well."""
    return Finding(grade=Grade.OK, about=about, says=says)


def warning(about: str, says: str, advice: str) -> Finding:
    """It works, and could be better or soon will not."""
    return Finding(grade=Grade.WARNING, about=about, says=says, advice=advice)


def failure(about: str, says: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(grade=Grade.FAILURE, about=about, says=says, advice=advice)


Check = Callable[[Settings, Redis], Iterable[Finding]]


def check_settings(settings: Settings, _: Redis) -> Iterator[Finding]:
    """What can be read and is unwise."""
    yield ok("settings", "All can be read.")
    if settings.grouping_window_minutes not in _WISE_WINDOW:
        says = f"GROUPING_WINDOW_MINUTES is {settings.grouping_window_minutes}."
        yield warning("settings", says, "Between 30 and 60 groups neither tear nor swallow what is new.")
    if not settings.metrics_token:
        yield warning("settings", "/metrics is open to everybody.", "Set METRICS_TOKEN if the web process is public.")


def check_secrets(settings: Settings, _: Redis) -> Iterator[Finding]:
    """What explains signatures and opens the API."""
    yield from _check_environments_secrets(settings.sentry_client_secrets)
    try:
        with session():
            stored = {slug: _live(slug, settings) for slug in tenants.workspaces()}
            tokens = ApiToken.select().where(ApiToken.revoked_at.is_null()).count()
    except (RecoverableError, PeeweeException):
        yield warning("secrets", "Those in the database cannot be read now.", "See postgresql, below.")
        return
    lost = [f"{slug}/{name}" for slug, values in stored.items() for name, opens in values.items() if not opens]
    own = stored.get(settings.default_workspace)
    if own is None:
        says = f"There is no workspace {settings.default_workspace}."
        yield failure("secrets", says, "Run `python -m signalcraft migrate`: it makes the default workspace.")
        return
    live = len(settings.sentry_client_secrets) + sum(own.values())
    if not live:
        says = f"The workspace {settings.default_workspace} has none: every delivery is refused."
        yield failure("secrets", says, "Set SENTRY_CLIENT_SECRET to the integration's Client Secret.")
    else:
        yield ok("secrets", f"{live} live in the workspace {settings.default_workspace}.")
    if lost:
        says = f"Cannot be decrypted: {', '.join(lost)}."
        yield failure("secrets", says, "Put back the key of then, after the newest in ENCRYPTION_KEY.")
    if not tokens and not settings.api_token:
        yield warning("secrets", "Nobody can read the API.", "`token create --workspace ...`, or set API_TOKEN.")


def _check_environments_secrets(values: Iterable[str]) -> Iterator[Finding]:
    for number, value in enumerate(values, start=1):
        if value[0] in "'\"" or value[-1] in "'\"":
            says = f"SENTRY_CLIENT_SECRET-{number} begins or ends with a quotation mark."
            yield warning("secrets", says, "Set it without: some platforms keep the marks of a .env file.")
        elif len(value) < _SHORTEST_SECRET:
            says = f"SENTRY_CLIENT_SECRET-{number} has only {len(value)} characters."
            yield warning("secrets", says, "Copy the Client Secret whole: Sentry's have 64.")


def _live(slug: str, settings: Settings) -> dict[str, bool]:
    """The names of a workspace's live secrets, and whether a key of ours opens them."""
    opened = tenants.opened_secrets(slug, settings.encryption_keys)
    return {info.name: value is not None for info, value in opened if info.retired_at is None}


def check_clock(_: Settings, redis: Redis) -> Iterator[Finding]:
    """This machine's clock against the servers': grouping goes by the moment at which a delivery was received."""
    clocks: dict[str, Callable[[], float]] = {"Redis": lambda: _redis_time(redis), "PostgreSQL": _postgresql_time}
    for name, read in clocks.items():
        try:
            skew = datetime.now(UTC).timestamp() - read()
        except (RedisError, RecoverableError, PeeweeException):
            yield warning("clock", f"Cannot be compared with that of {name}, which is away.", "See below.")
            continue
        says = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} {name}."
        if abs(skew) > _SKEW_FAILURE_SECONDS:
            yield failure("clock", says, "Set the clock by NTP: alerts would be grouped by a wrong time.")
        elif abs(skew) > _SKEW_WARNING_SECONDS:
            yield warning("clock", says, "Set the clocks by NTP.")
        else:
            yield ok("clock", says)


def _redis_time(redis: Redis) -> float:
    seconds, microseconds = redis.time()
    return seconds + microseconds / 1_000_000


def _postgresql_time() -> float:
    with session():
        (seconds,) = database.execute_sql("SELECT extract(epoch FROM clock_timestamp())").fetchone()
    return float(seconds)


def check_redis(settings: Settings, redis: Redis) -> Iterator[Finding]:
    """Whether it takes writes, and keeps what it took."""
    try:
        redis_clients.check_writable(redis)
    except SignalCraftError as error:
        advice = "Check REDIS_URL, and whether it is full or a replica. Deliveries go to PostgreSQL's inbox meanwhile."
        yield failure("redis", f"Takes no writes ({error}).", advice)
        return
    yield ok("redis", "Takes writes.")
    if settings.ingest_durability == "inbox":
        return  # PostgreSQL has every delivery first
    try:
        info: Mapping[str, Any] = redis.info("everything")
    except RedisError:
        info = {}
    yield from judge_redis(info)


def judge_redis(info: Mapping[str, Any]) -> Iterator[Finding]:
    """What Redis's INFO says of its settings; where a provider hides it, or part of it, nobody knows."""
    version = str(info.get("redis_version", ""))
    if version and tuple(map(int, version.split(".")[:2])) < _OLDEST_REDIS:
        yield failure("redis", f"It is version {version}.", "SignalCraft needs 6.2 or newer: BLMOVE, and more.")
    durable = "Turn it on, or set INGEST_DURABILITY=inbox: a restart would lose acknowledged deliveries."
    yield _judge("appendonly", info.get("aof_enabled"), {1: "yes"}, durable)
    evicting = "Set it to noeviction: a full Redis must refuse, not forget jobs."
    yield _judge("maxmemory-policy", info.get("maxmemory_policy"), {"noeviction": "noeviction"}, evicting)


def _judge(name: str, value: object, good: Mapping[object, str], advice: str) -> Finding:
    if value is None:
        return warning("redis", f"{name} is unknown: it does not say.", f"Ask your provider. {advice}")
    if value in good:
        return ok("redis", f"{name} is {good[value]}.")
    return warning("redis", f"{name} is {'no' if value == 0 else value}.", advice)


def check_postgresql(_: Settings, __: Redis) -> Iterator[Finding]:
    """Whether it can be reached, and has the tables that this release works with."""
    try:
        with session():
            version = database.server_version
            missing = migrations.pending(database)
    except (RecoverableError, PeeweeException) as error:
        yield failure("postgresql", f"Cannot be reached ({error}).", "Check DATABASE_URL, and whether it runs.")
        return
    if missing:
        says = f"Lacks {len(missing)} migrations, from {missing[0]} on."
        yield failure("postgresql", says, "Run `python -m signalcraft migrate`.")
    elif version < _OLDEST_POSTGRESQL:
        yield warning("postgresql", f"It is version {version // 10_000}.", "Tested are 14 and newer.")
    else:
        yield ok("postgresql", "Can be reached and has all migrations.")


def check_workers(_: Settings, redis: Redis) -> Iterator[Finding]:
    """Whether somebody works off deliveries, and notifications."""
    for queue, command in ((jobs.ALERTS, "python worker.py"), (jobs.NOTIFICATIONS, "python worker.py notifications")):
        about = "worker" if queue == jobs.ALERTS else "notifier"
        complain = failure if queue == jobs.ALERTS else warning
        try:
            seconds = backlog.heartbeat_seconds(redis, queue)
        except RecoverableError:
            yield complain(about, "Nobody knows: Redis is away.", "See redis, above.")
            continue
        if seconds is None:
            yield complain(about, f"None is registered on the queue {queue}.", f"Start one: `{command}`.")
        elif seconds > backlog.HEARTBEAT_SECONDS:
            says = f"The last one was at the queue {seconds:.0f} s ago."
            yield complain(about, says, "It hangs or was killed: see its log, and start it anew.")
        else:
            yield ok(about, f"Was at the queue {seconds:.0f} s ago.")


CHECKS: Final[Sequence[Check]] = (
    check_settings,
    check_secrets,
    check_clock,
    check_redis,
    check_postgresql,
    check_workers,
)
