"""Bring a database to the newest schema: ``migrations/`` through Peewee's runner, one release at a time."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from peewee import PeeweeException, PostgresqlDatabase
from playhouse.migrations import Runner

from signalcraft.domain.errors import DatabaseUnavailable, SignalCraftError

DIRECTORY = Path(__file__).parents[2] / "migrations"
#: Where Peewee's runner remembers what it applied.
_HISTORY = "schema_migration"

#: Any number, as long as nobody else in this database locks by it.
_LOCK = 0x5167_6E61
#: How long a release waits for another one to finish, and how long a statement may wait for a table's lock:
#: short, because whoever comes after it in that queue is an alert being stored.
_WAIT_FOR_RELEASE_MS = 120_000
_WAIT_FOR_TABLE_MS = 5_000


class MigrationError(SignalCraftError):
    """A migration failed; its own changes were rolled back, the ones before it stand."""


def apply(url: str) -> list[str]:
    """Apply what is pending in the database at ``url``, in order; the names of those.

    Raises:
        DatabaseUnavailable: it cannot be reached.
        MigrationError: with what PostgreSQL said.
    """
    with _alone(url) as database:
        try:
            applied: list[str] = Runner(database, str(DIRECTORY)).up()
        except PeeweeException as error:
            raise MigrationError(_first_line(error)) from error
    return applied


def pending(database: PostgresqlDatabase) -> list[str]:
    """The names of the migrations that ``database``, which is connected, has not had, in order."""
    names = [path.stem for path in sorted(DIRECTORY.glob("[0-9]*.py"))]
    if not database.table_exists(_HISTORY):
        return names
    applied = {name for (name,) in database.execute_sql(f"SELECT name FROM {_HISTORY}").fetchall()}
    return [name for name in names if name not in applied]


@contextlib.contextmanager
def _alone(url: str) -> Iterator[PostgresqlDatabase]:
    """A connection that holds the lock of releases, without the time limits of requests."""
    database = PostgresqlDatabase(url, connect_timeout=5, application_name="signalcraft migrate")
    try:
        database.connect()
        database.execute_sql(f"SET lock_timeout = {_WAIT_FOR_RELEASE_MS}")
        database.execute_sql("SELECT pg_advisory_lock(%s)", (_LOCK,))
        database.execute_sql(f"SET lock_timeout = {_WAIT_FOR_TABLE_MS}")
    except PeeweeException as error:
        database.close()
        raise DatabaseUnavailable(_first_line(error)) from error
    try:
        yield database
    finally:
        database.close()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
