"""In-memory cache of the live workspaces, secrets and tokens.

All of them are read at once, so neither a delivery nor a junk request costs a query, and no alert is lost while
PostgreSQL is unavailable. A snapshot over ten seconds old is refreshed in the background; requests meanwhile use the
old one, however old it is. Before a request is refused it waits briefly for a refresh: a secret just added works at
once.
"""

import hmac
import secrets as randomness
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
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
from signalcraft.logs import exception_fields
from signalcraft.resilience import CircuitBreaker, SingleFlight
from signalcraft.settings import Settings
from signalcraft.storage.database import database, session
from signalcraft.storage.models import ApiToken, WebhookSecret, Workspace
from signalcraft.storage.tenants import KINDS, cipher, token_sha256

MAX_AGE_SECONDS: Final = 10.0
#: Minimum age of a snapshot before a refusal refreshes it. Bounds the queries that junk requests cause.
MIN_AGE_SECONDS: Final = 1.0
#: How long a refusal waits for that refresh.
REFRESH_TIMEOUT_SECONDS: Final = 0.2
#: Precision of the last use of a stored secret.
LAST_USED_INTERVAL_SECONDS: Final = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceSecrets:
    """Secrets that verify the deliveries of one workspace.

    Every workspace has the same number of ``secrets`` of each kind: decoys, which verify nothing, fill up the number.
    So refusing an unknown workspace, whose ``workspace_id`` is 0, takes as long as refusing a known one.
    """

    workspace_id: int
    workspace: str
    secrets: Sequence[Secret]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A caller of the API: the name of a token and its workspace."""

    workspace_id: int
    workspace: str
    token: str
    can_write: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    """Live workspaces by slug and callers by the SHA-256 of their token, read at one moment.

    ``rows`` has the ids of stored secrets, by slug and secret.
    """

    workspaces: Mapping[str, WorkspaceSecrets]
    decoys: Sequence[Secret]
    callers: Mapping[str, Caller] = field(repr=False)
    rows: Mapping[tuple[str, Secret], int] = field(repr=False)


class CredentialCache:
    """The live workspaces, secrets and tokens. Thread-safe; starts no thread before the first lookup."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` is monotonic, in seconds."""
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._breaker = CircuitBreaker(DatabaseUnavailable, pause_seconds=MIN_AGE_SECONDS, clock=clock)
        self._snapshot: _Snapshot | None = None
        self._refreshed_at = 0.0
        self._refreshes = SingleFlight[None]("credentials")
        self._use_noted_at: dict[int, float] = {}
        self._uses: dict[int, datetime] = {}
        self._decoys = [Secret(name="decoy", kind=kind, value=randomness.token_bytes(32)) for kind in KINDS]

    def secrets_of(self, workspace: str) -> WorkspaceSecrets:
        """Return the secrets of ``workspace``.

        Decoys if it is unknown.

        Raises:
            DatabaseUnavailable: nothing is cached yet and PostgreSQL is unavailable.
        """
        snapshot = self._current()
        unknown = WorkspaceSecrets(workspace_id=0, workspace=workspace, secrets=snapshot.decoys)
        return snapshot.workspaces.get(workspace, unknown)

    def caller(self, token: str) -> Caller | None:
        """Return the caller with the bearer token ``token``.

        None if it is unknown.

        Raises:
            DatabaseUnavailable: as for :meth:`secrets_of`.
        """
        snapshot, own = self._current(), self._settings.api_token
        if own and hmac.compare_digest(own.encode(), token.encode(errors="surrogateescape")):
            default = snapshot.workspaces.get(self._settings.default_workspace)
            return _environment_caller(default) if default else None
        return snapshot.callers.get(token_sha256(token))

    def record_use(self, workspace_secrets: WorkspaceSecrets, secret: Secret) -> None:
        """Note that ``secret`` verified a delivery.

        ``secret list`` shows when each was last used. Written in the background, at most once a minute for each secret.
        """
        row = self._snapshot.rows.get((workspace_secrets.workspace, secret)) if self._snapshot else None
        if (
            row is None
            or self._clock() - self._use_noted_at.get(row, -LAST_USED_INTERVAL_SECONDS) < LAST_USED_INTERVAL_SECONDS
        ):
            return
        self._use_noted_at[row] = self._clock()
        self._uses[row] = datetime.now(UTC)
        self._refresh_in_background()

    def refresh(self) -> bool:
        """Wait briefly for a newer snapshot.

        It does so only if the current one may be outdated. Returns whether one arrived.
        """
        before = self._snapshot
        if self._clock() - self._refreshed_at < MIN_AGE_SECONDS:
            return False
        wait([self._refresh_in_background()], REFRESH_TIMEOUT_SECONDS)
        return self._snapshot is not before

    def _current(self) -> _Snapshot:
        snapshot = self._snapshot
        if snapshot is None:
            with self._lock, self._breaker.guard():
                return self._snapshot or self._read()
        if self._clock() - self._refreshed_at > MAX_AGE_SECONDS:
            self._refresh_in_background()
        return snapshot

    def _refresh_in_background(self) -> Future[None]:
        self._refreshed_at = self._clock()
        return self._refreshes.start(self._refresh)

    def _refresh(self) -> None:
        try:
            self._read()
        except DatabaseUnavailable as error:
            log.warning("serving stale credentials, database unavailable", reason=str(error))
        except Exception as error:  # noqa: BLE001 - no caller reads the result: an error would go unseen
            log.critical("uncaught exception", **exception_fields(error))
        else:
            self._write_uses()

    def _write_uses(self) -> None:
        """Write when secrets were last used.

        A read-only database must not stop reading.
        """
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
        counts = {kind: max((_count(secrets, kind) for secrets in live.values()), default=0) or 1 for kind in KINDS}
        workspaces = {
            slug: WorkspaceSecrets(
                workspace_id=workspace_id, workspace=slug, secrets=self._padded(live.get(slug, ()), counts)
            )
            for slug, workspace_id in ids.items()
        }
        self._refreshed_at = self._clock()
        self._snapshot = _Snapshot(workspaces=workspaces, decoys=self._padded((), counts), callers=callers, rows=rows)
        return self._snapshot

    def _padded(self, secrets: Sequence[Secret], counts: Mapping[str, int]) -> Sequence[Secret]:
        """Fill ``secrets`` up with decoys to ``counts`` of each kind."""
        lacking = ([decoy] * (counts[decoy.kind] - _count(secrets, decoy.kind)) for decoy in self._decoys)
        return [*secrets, *chain.from_iterable(lacking)]


@contextmanager
def _missing_tables_as_unavailable() -> Iterator[None]:
    """Treat missing tables as an unavailable database.

    A release may start before its migrations have run.
    """
    try:
        yield
    except ProgrammingError as error:
        raise DatabaseUnavailable("the tables are not there: run migrate") from error


def _count(secrets: Sequence[Secret], kind: str) -> int:
    return sum(secret.kind == kind for secret in secrets)


def _live_secrets(settings: Settings) -> tuple[dict[str, list[Secret]], dict[tuple[str, Secret], int]]:
    """Return the live secrets by slug, and their row ids.

    The row ids are by slug and secret. Secrets from the environment belong to the default workspace and have no row.
    """
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


def _environment_caller(default: WorkspaceSecrets) -> Caller:
    return Caller(workspace_id=default.workspace_id, workspace=default.workspace, token="API_TOKEN", can_write=True)  # noqa: S106 - its name


def _live_callers() -> dict[str, Caller]:
    rows = ApiToken.select(ApiToken, Workspace).join(Workspace).where(ApiToken.revoked_at.is_null())
    return {
        row.token_sha256: Caller(
            workspace_id=row.workspace.id, workspace=row.workspace.slug, token=row.name, can_write=row.can_write
        )
        for row in rows
    }
