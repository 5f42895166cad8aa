"""In-memory cache of the live workspaces, secrets and tokens.

All of them are read at once, so no alert is lost while PostgreSQL is unavailable: the last snapshot is used, however
old it is. A thread reads a new one every five seconds, whatever the traffic: so long does a retired secret verify, and
a revoked token read. A request that would be refused or is about to write first waits briefly for a snapshot that
was begun after it came: a secret just added works at once, a token just revoked changes nothing. One read runs at a
time, however many wait.
"""

import hmac
import secrets as randomness
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Final

import structlog
from peewee import DatabaseError, fn

from signalcraft import greenlets
from signalcraft.domain.deliveries import Secret
from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.logs import exception_fields
from signalcraft.resilience import SingleFlight, every
from signalcraft.settings import Settings
from signalcraft.sources import DEFAULT_SOURCE, SOURCES
from signalcraft.storage.database import database, reason, session
from signalcraft.storage.models import ApiToken, WebhookSecret, Workspace
from signalcraft.storage.tenants import decrypted, token_sha256

#: A read may take as long again: what changes is known within ten seconds.
REFRESH_INTERVAL_SECONDS: Final = 5.0
#: How long a request that would be refused, or is about to write, waits for a newer snapshot.
REFRESH_TIMEOUT_SECONDS: Final = 0.2
#: How long a request waits for the first one. Some senders give up after a second.
FIRST_READ_TIMEOUT_SECONDS: Final = 0.8
#: Precision of the last use of a stored secret or token.
LAST_USED_INTERVAL_SECONDS: Final = 60.0

log = structlog.get_logger(__name__)

_UsedTable = WebhookSecret | ApiToken


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceSecrets:
    """Secrets that verify the deliveries of one source for one workspace.

    Every workspace has the same number of ``secrets`` of each kind: decoys, which verify nothing, fill up the number.
    So refusing an unknown workspace, whose ``workspace_id`` is 0, takes as long as refusing a known one.
    """

    workspace_id: int
    workspace: str
    secrets: Sequence[Secret]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A caller of the API: the name of a token and its workspace.

    ``token_id`` is 0 for the token of the environment, which is not stored.
    """

    workspace_id: int
    workspace: str
    token: str
    can_write: bool
    token_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    """Live workspaces by slug and source, and callers by the SHA-256 of their token, read at one moment.

    ``rows`` has the ids of stored secrets, by slug and secret; ``undecryptable`` names those that no key decrypts.
    ``unknown`` is what any other workspace has, by source: decoys.
    """

    workspaces: Mapping[tuple[str, str], WorkspaceSecrets]
    unknown: Mapping[str, WorkspaceSecrets]
    callers: Mapping[str, Caller] = field(repr=False)
    rows: Mapping[tuple[str, Secret], int] = field(repr=False)
    undecryptable: Sequence[str]


class CredentialCache:
    """The live workspaces, secrets and tokens. Thread-safe; starts no thread before the first lookup."""

    def __init__(self, settings: Settings) -> None:
        """Create an empty cache."""
        self._settings = settings
        self._snapshot: _Snapshot | None = None
        #: Values of the live secrets by what is stored: to decrypt 10,000 at each read took 0.09 s of processor.
        self._decrypted: Mapping[str, bytes | None] = {}
        self._reads = SingleFlight[None]("credentials")
        self._overdue_read: Future[None] | None = None
        self._is_stale = False
        self._use_noted_at: dict[tuple[type[_UsedTable], int], float] = {}
        self._uses: dict[tuple[type[_UsedTable], int], datetime] = {}
        self._use_writes = SingleFlight[None]("credential-uses")
        self._decoys = {
            (source.NAME, kind.name): Secret(name="decoy", kind=kind.name, value=randomness.token_bytes(32))
            for source in SOURCES.values()
            for kind in source.KINDS
        }

    def start(self) -> Callable[[], None]:
        """Read the credentials now, then at intervals, in a thread.

        Call it after the fork. What is returned stops it.
        """
        return every(REFRESH_INTERVAL_SECONDS, self._work, name="credentials-timer", delay=0.0)

    def _work(self) -> None:
        self._reads.start(self._refresh)
        if self._uses:  # an earlier write may have failed
            self._use_writes.start(self._write_uses)

    def secrets_of(self, workspace: str, source: str) -> WorkspaceSecrets:
        """Return the secrets that verify deliveries of ``source`` for ``workspace``.

        Decoys if it is unknown.

        Raises:
            DatabaseUnavailable: nothing is cached yet and PostgreSQL is unavailable.
        """
        snapshot = self._current()
        return snapshot.workspaces.get((workspace, source), snapshot.unknown[source])

    def caller(self, token: str) -> Caller | None:
        """Return the caller with the bearer token ``token``.

        None if it is unknown.

        Raises:
            DatabaseUnavailable: as for :meth:`secrets_of`.
        """
        snapshot, own = self._current(), self._settings.api_token
        if own and hmac.compare_digest(own.encode(), token.encode(errors="surrogateescape")):
            default = snapshot.workspaces.get((self._settings.default_workspace, DEFAULT_SOURCE.NAME))
            return _environment_caller(default) if default else None
        return snapshot.callers.get(token_sha256(token))

    def caller_of_token(self, token_id: int) -> Caller | None:
        """Return the caller whose token has the id, 0 for the token of the environment.

        None if it was revoked.

        Raises:
            DatabaseUnavailable: as for :meth:`secrets_of`.
        """
        snapshot = self._current()
        if token_id:
            return next((caller for caller in snapshot.callers.values() if caller.token_id == token_id), None)
        return self.caller(self._settings.api_token) if self._settings.api_token else None

    def undecryptable(self) -> int:
        """Return how many live secrets ENCRYPTION_KEY does not decrypt.

        Raises:
            DatabaseUnavailable: as for :meth:`secrets_of`.
        """
        return len(self._current().undecryptable)

    def record_use(self, workspace_secrets: WorkspaceSecrets, secret: Secret) -> None:
        """Note that ``secret`` verified a delivery.

        ``secret list`` shows when each was last used. Written in the background, at most once a minute for each secret.
        """
        row = self._snapshot.rows.get((workspace_secrets.workspace, secret)) if self._snapshot else None
        if row is not None:
            self._note_use(WebhookSecret, row)

    def record_call(self, caller: Caller) -> None:
        """Note that the token of ``caller`` was used, as :meth:`record_use` does."""
        if caller.token_id:
            self._note_use(ApiToken, caller.token_id)

    def _note_use(self, table: type[_UsedTable], row: int) -> None:
        noted_at, now = self._use_noted_at.get((table, row)), time.monotonic()
        if noted_at is None or now - noted_at >= LAST_USED_INTERVAL_SECONDS:
            self._use_noted_at[table, row] = now
            self._uses[table, row] = datetime.now(UTC)
            self._use_writes.start_after_arrival(self._write_uses)

    def refresh(self) -> None:
        """Wait briefly for a snapshot that is begun after this call.

        While a read hangs no further request waits for it: the threads are for those who need no newer snapshot.
        """
        self._await(self._reads.start_after_arrival(self._refresh), REFRESH_TIMEOUT_SECONDS)

    def _current(self) -> _Snapshot:
        if self._snapshot is None:
            self._await(self._reads.start(self._refresh), FIRST_READ_TIMEOUT_SECONDS)
        if self._snapshot is None:
            raise DatabaseUnavailable("no credentials have been read yet")
        return self._snapshot

    def _await(self, read: Future[None], timeout: float) -> None:
        if self._overdue_read is not None and not self._overdue_read.done():
            return
        if greenlets.run_blocking(lambda: wait([read], timeout)).not_done:
            self._overdue_read = read

    def _refresh(self) -> None:
        try:
            self._read()
        except DatabaseUnavailable as error:
            if not self._is_stale:  # once an outage, not once a request
                log.warning("serving stale credentials, database unavailable", reason=str(error))
            self._is_stale = True
        except Exception as error:  # noqa: BLE001 - no caller reads the result: an error would go unseen
            log.critical("uncaught exception", **exception_fields(error))
        else:
            self._is_stale = False

    def _write_uses(self) -> None:
        """Write when secrets and tokens were last used.

        Apart from reading, which must not wait for a locked row or fail on a read-only database.
        """
        uses = dict(self._uses)
        try:
            with session(), database.atomic():
                for (table, row), used_at in sorted(uses.items(), key=lambda use: (use[0][0].__name__, use[0][1])):
                    latest = fn.GREATEST(fn.COALESCE(table.last_used_at, used_at), used_at)
                    table.update(last_used_at=latest).where(table.id == row).execute()
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("last use of secrets not written, will retry", reason=reason(error))
            return
        for use, used_at in uses.items():
            if self._uses.get(use) == used_at:
                del self._uses[use]

    def _read(self) -> None:
        with session():
            ids = {workspace.slug: workspace.id for workspace in Workspace.select()}
            stored = self._read_secrets()
            callers = _live_callers()
        live = _live_secrets(self._settings, stored)
        padded = {
            source: self._padded(source, {slug: live.get((slug, source), ()) for slug in ids}) for source in SOURCES
        }
        workspaces = {
            (slug, source): WorkspaceSecrets(workspace_id=ids[slug], workspace=slug, secrets=secrets)
            for source, (of_workspaces, _) in padded.items()
            for slug, secrets in of_workspaces.items()
        }
        undecryptable = [f"{row.workspace.slug}/{row.name}" for row, secret in stored if secret is None]
        known = self._snapshot.undecryptable if self._snapshot else []
        if undecryptable and undecryptable != known:
            log.error("secrets cannot be decrypted with ENCRYPTION_KEY", number=len(undecryptable), names=undecryptable)
        self._snapshot = _Snapshot(
            workspaces=workspaces,
            unknown={
                source: WorkspaceSecrets(workspace_id=0, workspace="", secrets=decoys)
                for source, (_, decoys) in padded.items()
            },
            callers=callers,
            rows={(row.workspace.slug, secret): row.id for row, secret in stored if secret is not None},
            undecryptable=undecryptable,
        )

    def _read_secrets(self) -> list[tuple[WebhookSecret, Secret | None]]:
        """Return the rows of live secrets, each decrypted.

        None stands for one that no key decrypts.
        """
        rows: Sequence[WebhookSecret] = list(
            WebhookSecret.select(WebhookSecret, Workspace)
            .join(Workspace)
            .where(WebhookSecret.retired_at.is_null())
            .order_by(WebhookSecret.id)
        )
        known, keys = self._decrypted, self._settings.encryption_keys
        self._decrypted = {
            encrypted: known[encrypted] if encrypted in known else decrypted(encrypted, keys)
            for encrypted in (row.value_encrypted for row in rows)
        }
        values = ((row, self._decrypted[row.value_encrypted]) for row in rows)
        return [
            (row, None if value is None else Secret(name=row.name, kind=row.kind, value=value)) for row, value in values
        ]

    def _padded(
        self, source: str, by_workspace: Mapping[str, Sequence[Secret]]
    ) -> tuple[dict[str, Sequence[Secret]], Sequence[Secret]]:
        """Fill the secrets of each workspace up with decoys, to one number of each kind.

        Return them by workspace, and the decoys of an unknown one.
        """
        decoys = [decoy for (of_source, _), decoy in self._decoys.items() if of_source == source]
        counts = {
            decoy.kind: max((_count(secrets, decoy.kind) for secrets in by_workspace.values()), default=0) or 1
            for decoy in decoys
        }

        def fill_up(secrets: Sequence[Secret]) -> Sequence[Secret]:
            lacking = ([decoy] * (counts[decoy.kind] - _count(secrets, decoy.kind)) for decoy in decoys)
            return [*secrets, *chain.from_iterable(lacking)]

        return {slug: fill_up(secrets) for slug, secrets in by_workspace.items()}, fill_up(())


def _count(secrets: Sequence[Secret], kind: str) -> int:
    return sum(secret.kind == kind for secret in secrets)


def _live_secrets(
    settings: Settings, stored: Iterable[tuple[WebhookSecret, Secret | None]]
) -> Mapping[tuple[str, str], Sequence[Secret]]:
    """Return the secrets that verify, by slug and source.

    Those of the environment belong to the default workspace.
    """
    live: dict[tuple[str, str], list[Secret]] = defaultdict(list)
    for source, secret in settings.environment_secrets():
        live[settings.default_workspace, source].append(secret)
    for row, decrypted_secret in stored:
        if decrypted_secret is not None:
            live[row.workspace.slug, row.source].append(decrypted_secret)
    return live


def _environment_caller(default: WorkspaceSecrets) -> Caller:
    return Caller(workspace_id=default.workspace_id, workspace=default.workspace, token="API_TOKEN", can_write=True)  # noqa: S106 - its name


def _live_callers() -> dict[str, Caller]:
    rows = ApiToken.select(ApiToken, Workspace).join(Workspace).where(ApiToken.revoked_at.is_null())
    return {
        row.token_sha256: Caller(
            workspace_id=row.workspace.id,
            workspace=row.workspace.slug,
            token=row.name,
            can_write=row.can_write,
            token_id=row.id,
        )
        for row in rows
    }
