"""Connect to PostgreSQL: the pool, sessions and error translation.

Open the database once a process (after a fork), and do each piece of work inside ``session()``: a connection is taken
from the pool and returned each time, because one that is kept never heals after its backend dies.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg2
from peewee import (
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    PeeweeException,
    ProgrammingError,
)
from playhouse.pool import MaxConnectionsExceeded, PooledPostgresqlDatabase
from psycopg2.errors import LockNotAvailable

from signalcraft.domain.errors import DatabaseUnavailable, NotStorable

#: What every connection is opened with: https://www.postgresql.org/docs/current/libpq-connect.html says in which units.
_CONNECTION = {
    "connect_timeout": 3,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # a network that swallows everything would hold a thread for a quarter of an hour
    "application_name": "signalcraft",
}
#: SQLSTATEs of a server that is there and cannot serve us: it takes no writes (a failover), a migration is missing, or
#: the transaction was given up already (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_TRANSIENT_SQLSTATES = frozenset({"25006", "25P02", "25P03", "25P04", "42P01", "42703"})
#: The class of "program limit exceeded": a value is too large for an index, say. To the driver that is operational, as
#: a lost connection is, but it will be as large the next time.
_PROGRAM_LIMIT_CLASS = "54"
_TIMEOUTS = "-c lock_timeout={lock} -c statement_timeout={statement} -c idle_in_transaction_session_timeout=30000"

database = PooledPostgresqlDatabase(None)


def open_database(
    url: str,
    *,
    max_connections: int = 20,
    lock_timeout_ms: int = 5_000,
    statement_timeout_ms: int = 15_000,
) -> None:
    """Point ``database`` at ``url``, any form of it that libpq reads. Connects to nothing yet."""
    database.init(
        url,
        max_connections=max_connections,
        timeout=5,
        stale_timeout=300,
        options=_TIMEOUTS.format(lock=lock_timeout_ms, statement=statement_timeout_ms) + " -c timezone=UTC",
        **_CONNECTION,
    )


@contextmanager
def session() -> Iterator[None]:
    """A connection for one piece of work; inside another session, that one's.

    Raises:
        DatabaseUnavailable: PostgreSQL is away or gave up; the connection is thrown away, the work may be tried again.
    """
    if not database.is_closed():
        with _unavailable():
            yield
        return
    try:
        with _unavailable():
            database.connect()
            yield
    except (DatabaseUnavailable, InternalError, ProgrammingError):
        _discard_connection()  # nobody knows in which state it is
        raise
    finally:
        if not database.is_closed():
            database.close()


@contextmanager
def _unavailable() -> Iterator[None]:
    """Say of an error whether PostgreSQL is away, or gave up what may be tried again."""
    try:
        yield
    except (OperationalError, InterfaceError, psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        if exceeds_limit(error):
            raise
        raise DatabaseUnavailable(type(driver_error(error)).__name__) from error
    except (InternalError, ProgrammingError) as error:
        if _sqlstate(error) not in _TRANSIENT_SQLSTATES:
            raise
        raise DatabaseUnavailable(type(driver_error(error)).__name__) from error
    except MaxConnectionsExceeded as error:
        raise DatabaseUnavailable("the pool is exhausted") from error


def driver_error(error: Exception) -> BaseException:
    """What psycopg2 raised: Peewee raises its own error while it handles that one. Else ``error`` itself."""
    return error.__context__ or error if isinstance(error, PeeweeException) else error


def exceeds_limit(error: Exception) -> bool:
    """Whether PostgreSQL has no room for something, however often one tries."""
    return _sqlstate(error).startswith(_PROGRAM_LIMIT_CLASS)


def _sqlstate(error: Exception) -> str:
    """Empty where PostgreSQL said none: it was not there to say."""
    return getattr(driver_error(error), "pgcode", None) or ""


def constraint_name(error: Exception) -> str:
    """The constraint by which PostgreSQL refused something; empty if it was none."""
    return getattr(getattr(driver_error(error), "diag", None), "constraint_name", None) or ""


def _discard_connection() -> None:
    if not database.is_closed():
        database.manual_close()


#: Two transactions met on the same rows, and one has to try again.
_TRY_AGAIN: Final = frozenset({"alert_group_current_key"})
#: What other constraints say, for people.
_MEANINGS: Final = {
    "alert_event_workspace_id_fkey": "the workspace does not exist",
    "alert_group_workspace_id_fkey": "the workspace does not exist",
    "alert_event_severity_check": "the severity is none of ours",
    "alert_group_severity_check": "the severity is none of ours",
}


@contextmanager
def translate_constraint_errors() -> Iterator[None]:
    """Say by which constraint PostgreSQL refused something, and whether to try again.

    Raises:
        DatabaseUnavailable: another transaction came first.
        NotStorable: it will never be stored as it is.
    """
    try:
        yield
    except IntegrityError as error:
        name = constraint_name(error)
        if name in _TRY_AGAIN:
            raise DatabaseUnavailable(f"another transaction came first: {name}") from error
        raise NotStorable(_MEANINGS.get(name, f"refused by {name}")) from error
    except DataError as error:
        raise NotStorable("PostgreSQL cannot hold one of the values") from error
    except OperationalError as error:
        if not exceeds_limit(error):
            raise
        raise NotStorable("one of the values is too large for PostgreSQL") from error


@contextmanager
def short_lock_timeout() -> Iterator[None]:
    """For who holds groups and wants more, or makes one current: whoever has that may be waiting for one of those.

    The order of locks keeps nearly all out of a circle, but for the place that a new group takes, and for groups that
    cease to be current while somebody waits for them. PostgreSQL would look for a circle after a second, and end
    either of the two. Part of a transaction.

    Raises:
        DatabaseUnavailable: another transaction came first.
    """
    database.execute_sql("SET LOCAL lock_timeout = '500ms'")
    try:
        yield
    except OperationalError as error:
        if not isinstance(driver_error(error), LockNotAvailable):
            raise
        raise DatabaseUnavailable("another transaction came first, and is not done") from error
    database.execute_sql("SET LOCAL lock_timeout = DEFAULT")
