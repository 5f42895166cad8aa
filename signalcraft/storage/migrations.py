"""Schema migrations: apply ``migrations/`` with Peewee's runner, one release at a time."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from peewee import PeeweeException, PostgresqlDatabase
from playhouse.migrations import Runner

from signalcraft.domain.errors import DatabaseUnavailable, SignalCraftError
from signalcraft.storage.database import UnicodeDatabase, reason

DIRECTORY = Path(__file__).parents[2] / "migrations"
#: The table in which Peewee's runner records applied migrations.
_HISTORY = "schema_migration"

#: An arbitrary number that no other advisory lock of this database uses.
_ADVISORY_LOCK_ID = 0x5167_6E61
#: How long a release waits for another release, and how long a statement waits for a table's lock. The second is short,
#: because alerts that are being stored queue behind that statement.
_RELEASE_LOCK_TIMEOUT_SECONDS = 120
_RELEASE_LOCK_INTERVAL_SECONDS = 0.2
_TABLE_LOCK_TIMEOUT_MS = 5_000


class MigrationError(SignalCraftError):
    """A migration failed: its changes were rolled back, earlier migrations stay applied."""


def apply(url: str) -> list[str]:
    """Apply pending migrations to ``url``, in order; return their names.

    Raises:
        DatabaseUnavailable: the database is unavailable, or cannot hold Unicode.
        MigrationError: with PostgreSQL's message.
    """
    with _release_lock(url), contextlib.closing(_connect(url)) as database:
        try:
            applied: list[str] = Runner(database, str(DIRECTORY)).up()
        except PeeweeException as error:
            raise MigrationError(reason(error)) from error
    return applied


def pending(database: PostgresqlDatabase) -> list[str]:
    """Return the names of pending migrations, in order.

    ``database`` must be connected.
    """
    names = [path.stem for path in sorted(DIRECTORY.glob("[0-9]*.py"))]
    if not database.table_exists(_HISTORY):
        return names
    applied = {name for (name,) in database.execute_sql(f"SELECT name FROM {_HISTORY}").fetchall()}
    return [name for name in names if name not in applied]


def advice(missing: Sequence[str]) -> str:
    """Return what to do about pending migrations."""
    return f"Lacks {len(missing)} migrations, from {missing[0]} on. Run `python -m signalcraft migrate`."


class _ReleaseDatabase(UnicodeDatabase):
    """A connection without the timeouts of requests, whose transactions wait only briefly for a table's lock.

    Behind PgBouncer a setting of the session would be another client's next.
    """

    def begin(self, isolation_level: str | None = None) -> None:
        """Begin a transaction."""
        super().begin(isolation_level)
        self.execute_sql(f"SET LOCAL lock_timeout = {_TABLE_LOCK_TIMEOUT_MS}")  # type: ignore[no-untyped-call] # Peewee's


def _connect(url: str) -> PostgresqlDatabase:
    database: PostgresqlDatabase = _ReleaseDatabase(url, connect_timeout=5, application_name="signalcraft migrate")
    try:
        database.connect()
    except PeeweeException as error:
        raise DatabaseUnavailable(reason(error)) from error
    return database


@contextlib.contextmanager
def _release_lock(url: str) -> Iterator[None]:
    """Hold the release lock, in an idle transaction of a connection of its own.

    Behind PgBouncer, a lock of the session would outlive the command. A migration that builds an index concurrently
    runs in no transaction, and waits for no idle one.
    """
    with contextlib.closing(_connect(url)) as holder:
        deadline = time.monotonic() + _RELEASE_LOCK_TIMEOUT_SECONDS
        while True:
            with holder.atomic():
                holder.execute_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
                ((is_ours,),) = holder.execute_sql("SELECT pg_try_advisory_xact_lock(%s)", (_ADVISORY_LOCK_ID,))
                if is_ours:
                    yield
                    return
            # Not by a statement that waits: a CREATE INDEX CONCURRENTLY of the lock's holder would wait for it.
            if time.monotonic() > deadline:
                raise DatabaseUnavailable("another release is still running its migrations")
            time.sleep(_RELEASE_LOCK_INTERVAL_SECONDS)
