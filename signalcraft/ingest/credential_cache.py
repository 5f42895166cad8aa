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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Final

import structlog
from cryptography.fernet import InvalidToken
from peewee import DatabaseError, ProgrammingError, fn

from signalcraft.domain.deliveries import Secret
from signalcraft.domain.errors import DatabaseUnavailable, InvalidSetting
from signalcraft.resilience import CircuitBreaker
from signalcraft.settings import Settings
from signalcraft.storage.database import database, session
from signalcraft.storage.models import ApiToken, WebhookSecret, Workspace
from signalcraft.storage.tenants import KINDS, cipher, token_sha256

MAX_AGE_SECONDS: Final = 10.0
#: How old knowledge must be before a refusal asks for newer: what junk can make us ask of PostgreSQL.
MIN_AGE_SECONDS: Final = 1.0
#: How long a refusal waits for it.
REFRESH_TIMEOUT_SECONDS: Final = 0.2
#: How exactly the last use of a stored secret is known.
LAST_USED_INTERVAL_SECONDS: Final = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceSecrets:
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
class _Snapshot:
    """All that is live, as it was read at one moment: by slug, and callers by their token's SHA-256.

    ``rows`` are the ids of stored secrets, by slug and secret.
    """

    workspaces: Mapping[str, WorkspaceSecrets]
    decoys: Sequence[Secret]
    callers: Mapping[str, Caller] = field(repr=False)
    rows: Mapping[tuple[str, Secret], int] = field(repr=False)


class CredentialCache:
    """The live workspaces, secrets and tokens. Threads share it; nothing starts before the first question."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` is monotonic, in seconds."""
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._breaker = CircuitBreaker(DatabaseUnavailable, pause_seconds=MIN_AGE_SECONDS, clock=clock)
        self._known: _Snapshot | None = None
        self._asked_at = 0.0
        self._reader: threading.Thread | None = None
        self._noted_at: dict[int, float] = {}
        self._uses: dict[int, datetime] = {}
        self._decoys = [Secret(name="decoy", kind=kind, value=randomness.token_bytes(32)) for kind in KINDS]

    def secrets_of(self, workspace: str) -> WorkspaceSecrets:
        """What explains the deliveries of ``workspace``, be there one or not.

        Raises:
            DatabaseUnavailable: PostgreSQL is away, and was when this process started.
        """
        known = self._current()
        unknown = WorkspaceSecrets(workspace_id=0, workspace=workspace, secrets=known.decoys)
        return known.workspaces.get(workspace, unknown)

    def caller(self, token: str) -> Caller | None:
        """Who carries the bearer token ``token``; None where nobody does.

        Raises:
            DatabaseUnavailable: as for :meth:`known`.
        """
        known, own = self._current(), self._settings.api_token
        if own and hmac.compare_digest(own.encode(), token.encode(errors="surrogateescape")):
            default = known.workspaces.get(self._settings.default_workspace)
            return _environments_caller(default) if default else None
        return known.callers.get(token_sha256(token))

    def record_use(self, known: WorkspaceSecrets, secret: Secret) -> None:
        """Remember that ``secret`` explained a delivery, so that ``secret list`` can tell which one may go.

        It is written beside the requests and not for each: to the minute.
        """
        row = self._known.rows.get((known.workspace, secret)) if self._known else None
        if (
            row is None
            or self._clock() - self._noted_at.get(row, -LAST_USED_INTERVAL_SECONDS) < LAST_USED_INTERVAL_SECONDS
        ):
            return
        self._noted_at[row] = self._clock()
        self._uses[row] = datetime.now(UTC)
        self._read_beside()

    def refresh(self) -> bool:
        """Wait a moment for newer knowledge, if what there is could be outdated; whether it came."""
        before = self._known
        if self._clock() - self._asked_at < MIN_AGE_SECONDS:
            return False
        self._read_beside().join(REFRESH_TIMEOUT_SECONDS)
        return self._known is not before

    def _current(self) -> _Snapshot:
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
                self._reader = threading.Thread(target=self._try_to_read, name="credentials", daemon=True)
                self._reader.start()
            return self._reader

    def _try_to_read(self) -> None:
        try:
            self._read()
        except DatabaseUnavailable as error:
            log.warning("serving stale credentials, database unavailable", reason=str(error))
        else:
            self._write_uses()

    def _write_uses(self) -> None:
        """Write when secrets were last used. A database that takes no writes must not keep us from reading it."""
        uses = dict(self._uses)
        try:
            with session(), database.atomic():
                for row, used_at in sorted(uses.items()):
                    latest = fn.GREATEST(fn.COALESCE(WebhookSecret.last_used_at, used_at), used_at)
                    WebhookSecret.update(last_used_at=latest).where(WebhookSecret.id == row).execute()
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("last use of secrets not written, will retry", reason=type(error).__name__)
            return
        for row, used_at in uses.items():
            if self._uses.get(row) == used_at:
                del self._uses[row]

    def _read(self) -> _Snapshot:
        with session(), _missing_tables_as_unavailable():
            ids = {workspace.slug: workspace.id for workspace in Workspace.select()}
            live, rows = _live_secrets(self._settings)
            callers = _live_callers()
        most = {kind: max((_count(secrets, kind) for secrets in live.values()), default=0) or 1 for kind in KINDS}
        workspaces = {
            slug: WorkspaceSecrets(
                workspace_id=workspace_id, workspace=slug, secrets=self._padded(live.get(slug, ()), most)
            )
            for slug, workspace_id in ids.items()
        }
        self._asked_at = self._clock()
        self._known = _Snapshot(workspaces=workspaces, decoys=self._padded((), most), callers=callers, rows=rows)
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


def _live_secrets(settings: Settings) -> tuple[dict[str, list[Secret]], dict[tuple[str, Secret], int]]:
    """By slug, and which row holds which. Those of the environment are the default workspace's, and in no row."""
    live: dict[str, list[Secret]] = {}
    rows: dict[tuple[str, Secret], int] = {}
    for number, value in enumerate(settings.sentry_client_secrets, start=1):
        secret = Secret(name=f"SENTRY_CLIENT_SECRET-{number}", kind="integration", value=value.encode())
        live.setdefault(settings.default_workspace, []).append(secret)
    for row in _live_rows():
        try:
            decrypted = cipher(settings.encryption_keys).decrypt(row.value_encrypted.encode())
        except (InvalidToken, InvalidSetting):
            log.warning("secret cannot be decrypted with ENCRYPTION_KEY", secret_name=row.name)
        else:
            slug, secret = row.workspace.slug, Secret(name=row.name, kind=row.kind, value=decrypted)
            live.setdefault(slug, []).append(secret)
            rows[slug, secret] = row.id
    return live, rows


def _live_rows() -> Iterable[WebhookSecret]:
    rows = WebhookSecret.select(WebhookSecret, Workspace).join(Workspace).where(WebhookSecret.retired_at.is_null())
    found: Iterable[WebhookSecret] = rows.order_by(WebhookSecret.id)
    return found


def _environments_caller(default: WorkspaceSecrets) -> Caller:
    return Caller(workspace_id=default.workspace_id, workspace=default.workspace, token="API_TOKEN", can_write=True)  # noqa: S106 - its name


def _live_callers() -> dict[str, Caller]:
    rows = ApiToken.select(ApiToken, Workspace).join(Workspace).where(ApiToken.revoked_at.is_null())
    return {
        row.token_sha256: Caller(
            workspace_id=row.workspace.id, workspace=row.workspace.slug, token=row.name, can_write=row.can_write
        )
        for row in rows
    }
