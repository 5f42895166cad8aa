"""Who may come in: the live workspaces, secrets and tokens, as the web process knows them.

Everything is read at once and kept in memory, so that neither a delivery nor a junk request costs a query, and
PostgreSQL's absence costs nobody an alert. What is over ten seconds old is read anew beside the requests, which
meanwhile go on with what is known, however old. Whoever is refused waits a moment for newer knowledge first: a
secret just added works at once.
"""

import hmac
import secrets as randomness
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import structlog
from cryptography.fernet import InvalidToken
from peewee import ProgrammingError

from signalcraft.alerts import Secret
from signalcraft.breaker import Breaker
from signalcraft.errors import DatabaseUnavailable, InvalidSetting
from signalcraft.models import ApiToken, WebhookSecret, Workspace, session
from signalcraft.settings import Settings
from signalcraft.tenants import KINDS, cipher, token_sha256

MAX_AGE_SECONDS: Final = 10.0
#: How old knowledge must be before a refusal asks for newer: what junk can make us ask of PostgreSQL.
MIN_AGE_SECONDS: Final = 1.0
#: How long a refusal waits for it.
PATIENCE_SECONDS: Final = 0.2

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What explains the deliveries of one workspace.

    ``secrets`` are as many as in any other workspace, by kind: decoys, which nothing matches, make up the number.
    So an unknown workspace, whose ``workspace_id`` is 0, is as much work to refuse as any.
    """

    workspace_id: int
    workspace: str
    secrets: Sequence[Secret]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls the API: a token, by name, of a workspace."""

    workspace_id: int
    workspace: str
    token: str
    can_write: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """All that is live, as it was read at one moment: by slug, and callers by their token's SHA-256."""

    accesses: Mapping[str, Access]
    decoys: Sequence[Secret]
    callers: Mapping[str, Caller] = field(repr=False)


class Directory:
    """The live workspaces, secrets and tokens. Threads share it; nothing starts before the first question."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` is monotonic, in seconds."""
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._breaker = Breaker(DatabaseUnavailable, pause_seconds=MIN_AGE_SECONDS, clock=clock)
        self._known: _Known | None = None
        self._asked_at = 0.0
        self._reader: threading.Thread | None = None
        self._decoys = [Secret(name="decoy", kind=kind, value=randomness.token_bytes(32)) for kind in KINDS]

    def access(self, workspace: str) -> Access:
        """What explains the deliveries of ``workspace``, be there one or not.

        Raises:
            DatabaseUnavailable: PostgreSQL is away, and was when this process started.
        """
        known = self._current()
        unknown = Access(workspace_id=0, workspace=workspace, secrets=known.decoys)
        return known.accesses.get(workspace, unknown)

    def caller(self, token: str) -> Caller | None:
        """Who carries the bearer token ``token``; None where nobody does.

        Raises:
            DatabaseUnavailable: as for :meth:`access`.
        """
        known, own = self._current(), self._settings.api_token
        if own and hmac.compare_digest(own.encode(), token.encode(errors="surrogateescape")):
            default = known.accesses.get(self._settings.default_workspace)
            return _environments_caller(default) if default else None
        return known.callers.get(token_sha256(token))

    def refresh(self) -> bool:
        """Wait a moment for newer knowledge, if what there is could be outdated; whether it came."""
        before = self._known
        if self._clock() - self._asked_at < MIN_AGE_SECONDS:
            return False
        self._read_beside().join(PATIENCE_SECONDS)
        return self._known is not before

    def _current(self) -> _Known:
        known = self._known
        if known is None:
            with self._lock, self._breaker.guard():
                return self._known or self._read()
        if self._clock() - self._asked_at > MAX_AGE_SECONDS:
            self._read_beside()
        return known

    def _read_beside(self) -> threading.Thread:
        with self._lock:
            self._asked_at = self._clock()
            if self._reader is None or not self._reader.is_alive():
                self._reader = threading.Thread(target=self._try_to_read, name="directory", daemon=True)
                self._reader.start()
            return self._reader

    def _try_to_read(self) -> None:
        try:
            self._read()
        except DatabaseUnavailable as error:
            log.warning("workspaces and secrets are served as they were known", reason=str(error))

    def _read(self) -> _Known:
        with session(), _missing_tables_as_unavailable():
            ids = {workspace.slug: workspace.id for workspace in Workspace.select()}
            live = _live_secrets(self._settings)
            callers = _live_callers()
        most = {kind: max((_count(secrets, kind) for secrets in live.values()), default=0) or 1 for kind in KINDS}
        accesses = {
            slug: Access(workspace_id=workspace_id, workspace=slug, secrets=self._padded(live.get(slug, ()), most))
            for slug, workspace_id in ids.items()
        }
        self._asked_at = self._clock()
        self._known = _Known(accesses=accesses, decoys=self._padded((), most), callers=callers)
        return self._known

    def _padded(self, secrets: Sequence[Secret], most: Mapping[str, int]) -> Sequence[Secret]:
        """``secrets``, and as many decoys of each kind as they lack."""
        lacking = ([decoy] * (most[decoy.kind] - _count(secrets, decoy.kind)) for decoy in self._decoys)
        return [*secrets, *chain.from_iterable(lacking)]


@contextmanager
def _missing_tables_as_unavailable() -> Iterator[None]:
    """A release that starts before its migrations have run waits for them, as for a database that is away."""
    try:
        yield
    except ProgrammingError as error:
        raise DatabaseUnavailable("the tables are not there: run migrate") from error


def _count(secrets: Sequence[Secret], kind: str) -> int:
    return sum(secret.kind == kind for secret in secrets)


def _live_secrets(settings: Settings) -> dict[str, list[Secret]]:
    """By slug. Those of the environment are the default workspace's, and never stored."""
    live: dict[str, list[Secret]] = {}
    for number, value in enumerate(settings.sentry_client_secrets, start=1):
        secret = Secret(name=f"SENTRY_CLIENT_SECRET-{number}", kind="integration", value=value.encode())
        live.setdefault(settings.default_workspace, []).append(secret)
    rows = WebhookSecret.select(WebhookSecret, Workspace).join(Workspace).where(WebhookSecret.retired_at.is_null())
    for row in rows.order_by(WebhookSecret.id):
        try:
            decrypted = cipher(settings.encryption_keys).decrypt(row.value_encrypted.encode())
        except (InvalidToken, InvalidSetting):
            log.warning("secret cannot be decrypted with ENCRYPTION_KEY", secret_name=row.name)
        else:
            live.setdefault(row.workspace.slug, []).append(Secret(name=row.name, kind=row.kind, value=decrypted))
    return live


def _environments_caller(default: Access) -> Caller:
    return Caller(workspace_id=default.workspace_id, workspace=default.workspace, token="API_TOKEN", can_write=True)  # noqa: S106 - its name


def _live_callers() -> dict[str, Caller]:
    rows = ApiToken.select(ApiToken, Workspace).join(Workspace).where(ApiToken.revoked_at.is_null())
    return {
        row.token_sha256: Caller(
            workspace_id=row.workspace.id, workspace=row.workspace.slug, token=row.name, can_write=row.can_write
        )
        for row in rows
    }
