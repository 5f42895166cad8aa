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
    with _release_lock(url) as database:
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


@contextlib.contextmanager
def _release_lock(url: str) -> Iterator[PostgresqlDatabase]:
    """Connect without request timeouts, and hold the release lock."""
    database: PostgresqlDatabase = UnicodeDatabase(url, connect_timeout=5, application_name="signalcraft migrate")
    try:
        database.connect()
        _await_release_lock(database)
        database.execute_sql(f"SET lock_timeout = {_TABLE_LOCK_TIMEOUT_MS}")
    except PeeweeException as error:
        database.close()
        raise DatabaseUnavailable(reason(error)) from error
    try:
        yield database
    finally:
        database.close()


def _await_release_lock(database: PostgresqlDatabase) -> None:
    """Try until the lock is free.

    A statement that waits for the lock would itself be waited for by a CREATE INDEX CONCURRENTLY of the lock's holder:
    a deadlock.

    Raises:
        DatabaseUnavailable: another release has held the lock for too long.
    """
    deadline = time.monotonic() + _RELEASE_LOCK_TIMEOUT_SECONDS
    while True:
        ((is_ours,),) = database.execute_sql("SELECT pg_try_advisory_lock(%s)", (_ADVISORY_LOCK_ID,)).fetchall()
        if is_ours:
            return
        if time.monotonic() > deadline:
            raise DatabaseUnavailable("another release is still running its migrations")
        time.sleep(_RELEASE_LOCK_INTERVAL_SECONDS)
