"""Connect to PostgreSQL: the pool, sessions and error translation.

Open the database once per process (after a fork), and run each unit of work inside ``session()``: it takes a connection
from the pool and returns it, because a connection that is held never recovers after its backend dies.

Nothing is set for a whole connection, and no lock outlives a transaction: behind PgBouncer in transaction mode, two
transactions of one connection may run on two servers' connections, and others use those in between.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO
from typing import Any, Final, cast

import psycopg2
from peewee import (  # type: ignore[attr-defined]  # the stubs lack the last
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    PeeweeException,
    PostgresqlDatabase,
    ProgrammingError,
    QueryEvent,
    __exception_wrapper__,
)
from playhouse.pool import MaxConnectionsExceeded, PooledPostgresqlDatabase
from psycopg2.errors import LockNotAvailable
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INERROR

from signalcraft.domain.errors import DatabaseUnavailable, DatabaseUnusable, NotStorable, StatementCanceled

#: libpq parameters of every connection; units: https://www.postgresql.org/docs/current/libpq-connect.html.
_CONNECTION = {
    "connect_timeout": 3,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # a network that drops all packets would block a thread for 15 minutes
    "application_name": "signalcraft",
}
_MIGRATE = "run `python -m signalcraft migrate`"
#: What to do about errors that no retry cures, by SQLSTATE.
_ADVICE = {
    "42P01": _MIGRATE,
    "42703": _MIGRATE,
    "42P10": "a unique constraint of ours is missing, restore it",
    "42501": "grant it to the role of DATABASE_URL",
    "53100": "PostgreSQL's disk is full, make room on it",
}
#: More than ``work_mem`` of ``check_disk``.
_DISK_CHECK_ROWS = 20_000
#: SQLSTATEs of a server that is up and cannot serve requests: it is read-only (a failover), or the transaction was
#: aborted already (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_TRANSIENT_SQLSTATES = frozenset({"25006", "25P02", "25P03", "25P04"})
#: The class of statements that the tables or the role's privileges do not allow. Ours are the same for any values, so
#: it is no delivery's fault: a migration is missing, or somebody changed tables or privileges.
_SCHEMA_CLASS = "42"
_CANCELED = "57014"
#: The class of "program limit exceeded", such as a value too large for an index. The driver raises OperationalError for
#: it, as for a lost connection, but a retry fails again.
_PROGRAM_LIMIT_CLASS = "54"


class UnicodeDatabase(PostgresqlDatabase):
    """A database whose every connection speaks UTF-8, whatever its role is set to."""

    def _connect(self) -> Any:  # noqa: ANN401 - psycopg2 ships no types
        """Connect.

        Raises:
            DatabaseUnusable: the database cannot hold Unicode; each delivery with a letter outside would fail.
        """
        self.connect_params["client_encoding"] = "UTF8"
        connection = super()._connect()  # type: ignore[misc] # not in the stubs
        encoding = connection.get_parameter_status("server_encoding")
        if encoding != "UTF8":
            connection.close()
            raise DatabaseUnusable(
                f"the database has the encoding {encoding} and cannot hold Unicode: "
                "create another with `createdb --template=template0 --encoding=UTF8`"
            )
        return connection


class _Database(PooledPostgresqlDatabase, UnicodeDatabase):  # type: ignore[misc]  # untyped
    """A pool that sets what we rely on in each transaction, in the round trip that begins it.

    A role or a database may have other defaults: without ``array_nulls``, a NULL in an array would become a text.
    """

    lock_timeout_ms = 0
    _transaction_settings = ""

    def set_timeouts(self, *, lock_ms: int, statement_ms: int) -> None:
        """Set the timeouts of transactions that begin from now on."""
        self.lock_timeout_ms = lock_ms
        self._transaction_settings = (
            f"SET LOCAL lock_timeout = {lock_ms}; SET LOCAL statement_timeout = {statement_ms}; "
            "SET LOCAL idle_in_transaction_session_timeout = 30000; SET LOCAL timezone = 'UTC'; "
            "SET LOCAL array_nulls = on; "
        )

    def begin(self, isolation_level: str | None = None) -> None:  # noqa: ARG002 - Peewee's; we never set it
        """Connect, and send nothing: the first statement of a transaction begins it."""
        self.connection()  # type: ignore[no-untyped-call] # Peewee's

    def commit(self) -> None:
        """Commit, unless the transaction had no statement.

        Raises:
            InternalError: a statement has failed. PostgreSQL would roll back, and call it no error.
        """
        status = self._status()
        if status == TRANSACTION_STATUS_INERROR:
            raise InternalError("a statement of the transaction has failed")
        if status != TRANSACTION_STATUS_IDLE:
            super().commit()

    def rollback(self) -> None:
        """Roll back, unless the transaction had no statement."""
        if self._status() != TRANSACTION_STATUS_IDLE:
            super().rollback()

    def execute_sql(self, sql: str, params: Any = None) -> Any:  # noqa: ANN401 - as Peewee's
        """Execute a statement; the first of a transaction, or one outside, with the settings in front.

        PostgreSQL runs statements that come together as one transaction, so the settings end with it, or hold in the
        one that a BEGIN begins.
        """
        return super().execute_sql(self._front() + sql, params)  # type: ignore[no-untyped-call] # Peewee's

    def copy(self, sql: str, data: bytes) -> None:
        """Execute a COPY from ``data``, as ``execute_sql`` executes a statement."""
        began, failure = time.perf_counter(), None
        try:
            with __exception_wrapper__:
                self.cursor().copy_expert(self._front() + sql, BytesIO(data), len(data))  # type: ignore[no-untyped-call] # Peewee's
        except Exception as error:
            failure = error
            raise
        finally:
            event = QueryEvent(sql, None, time.perf_counter() - began, failure)
            for hook in self.query_hooks:
                hook(event)

    def _front(self) -> str:
        """Return what must come before the next statement."""
        if self._status() != TRANSACTION_STATUS_IDLE:
            return ""
        return f"{self._transaction_settings}BEGIN; " if self.in_transaction() else self._transaction_settings

    def _status(self) -> int:
        """Return the connection's transaction status, which libpq knows without asking."""
        with __exception_wrapper__:
            return int(self.connection().get_transaction_status())  # type: ignore[no-untyped-call] # Peewee's


database: Any = _Database(None)


def open_database(
    url: str,
    *,
    max_connections: int = 20,
    lock_timeout_ms: int = 5_000,
    statement_timeout_ms: int = 15_000,
) -> None:
    """Configure ``database``; open no connection yet.

    ``url`` may have any form that libpq accepts.
    """
    database.init(
        url,
        max_connections=max_connections,
        timeout=5,
        stale_timeout=300,
        **_CONNECTION,
    )
    database.set_timeouts(lock_ms=lock_timeout_ms, statement_ms=statement_timeout_ms)


def current_time() -> datetime:
    """Return PostgreSQL's time, which all machines share.

    Call it inside ``session()``.
    """
    (moment,) = database.execute_sql("SELECT clock_timestamp()").fetchone()
    return cast("datetime", moment)


def rows(statement: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
    """Execute a statement; return its rows, by the names of their columns.

    Call it inside ``session()``.
    """
    cursor = database.execute_sql(statement, parameters)
    names = [column.name for column in cursor.description]
    return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


@contextmanager
def session() -> Iterator[None]:
    """Hold a connection for one unit of work.

    Nested sessions share the connection.

    Raises:
        DatabaseUnavailable: PostgreSQL is unavailable or aborted the work; the connection is discarded, retry.
    """
    if not database.is_closed():
        with _driver_errors_as_unavailable():
            yield
        return
    try:
        with _driver_errors_as_unavailable():
            database.connect()
            yield
    except (DatabaseUnavailable, InternalError, ProgrammingError):
        _discard_connection()  # its state is unknown
        raise
    finally:
        if not database.is_closed():
            database.close()


@contextmanager
def _driver_errors_as_unavailable() -> Iterator[None]:
    """Raise DatabaseUnavailable for errors that a retry may cure."""
    try:
        yield
    except (OperationalError, InterfaceError, psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        if exceeds_limit(error):
            raise
        raise _unavailable(error) from error
    except (InternalError, ProgrammingError) as error:
        sqlstate = _sqlstate(error)
        if sqlstate not in _TRANSIENT_SQLSTATES and not sqlstate.startswith(_SCHEMA_CLASS):
            raise
        raise _unavailable(error) from error
    except MaxConnectionsExceeded as error:
        raise DatabaseUnavailable("the pool is exhausted") from error


def _unavailable(error: Exception) -> DatabaseUnavailable:
    if _sqlstate(error) == _CANCELED:
        return StatementCanceled(reason(error))
    advice = _ADVICE.get(_sqlstate(error))
    return DatabaseUnusable(f"{reason(error)}: {advice}") if advice else DatabaseUnavailable(reason(error))


def reason(error: Exception) -> str:
    """Return the first line of the driver's message: later ones quote rows and statements."""
    return str(error).partition("\n")[0] or type(driver_error(error)).__name__


def check_disk() -> None:
    """Check that PostgreSQL can write: let it sort more than its memory, into a temporary file.

    Raises:
        DatabaseUnusable: its disk is full.
    """
    with session(), database.atomic():
        database.execute_sql("SET LOCAL work_mem = '64kB'")
        database.execute_sql(f"SELECT count(*) FROM generate_series(1, {_DISK_CHECK_ROWS})")


def driver_error(error: Exception) -> BaseException:
    """Return the psycopg2 error behind a Peewee error.

    Peewee raises its own error while it handles the driver's. Any other ``error`` is returned itself.
    """
    return error.__context__ or error if isinstance(error, PeeweeException) else error


def exceeds_limit(error: Exception) -> bool:
    """Return whether a value exceeds a PostgreSQL limit (permanent)."""
    return _sqlstate(error).startswith(_PROGRAM_LIMIT_CLASS)


def _sqlstate(error: Exception) -> str:
    """Return the SQLSTATE, empty if no server sent one."""
    return getattr(driver_error(error), "pgcode", None) or ""


def constraint_name(error: Exception) -> str:
    """Return the violated constraint's name, empty if none."""
    return getattr(getattr(driver_error(error), "diag", None), "constraint_name", None) or ""


def _discard_connection() -> None:
    if not database.is_closed():
        database.manual_close()


#: Two transactions wrote the same rows, and one must retry.
_RETRYABLE_CONSTRAINTS: Final = frozenset({"alert_group_current_key"})
#: Messages for other constraints.
_CONSTRAINT_MESSAGES: Final = {
    "alert_event_workspace_id_fkey": "the workspace does not exist",
    "alert_group_workspace_id_fkey": "the workspace does not exist",
    "alert_event_severity_check": "the severity is none of ours",
    "alert_group_severity_check": "the severity is none of ours",
}


@contextmanager
def translate_constraint_errors() -> Iterator[None]:
    """Translate constraint violations and data errors into domain errors.

    Raises:
        DatabaseUnavailable: another transaction came first; retry.
        NotStorable: the values can never be stored.
    """
    try:
        yield
    except IntegrityError as error:
        name = constraint_name(error)
        if name in _RETRYABLE_CONSTRAINTS:
            raise DatabaseUnavailable(f"another transaction came first: {name}") from error
        raise NotStorable(_CONSTRAINT_MESSAGES.get(name, f"refused by {name}")) from error
    except DataError as error:
        raise NotStorable("PostgreSQL cannot hold one of the values") from error
    except OperationalError as error:
        if not exceeds_limit(error):
            raise
        raise NotStorable("one of the values is too large for PostgreSQL") from error


@contextmanager
def short_lock_timeout() -> Iterator[None]:
    """Set ``lock_timeout`` to 500 ms inside the current transaction.

    For a transaction that holds locks on groups and needs more, or makes a group current: another transaction that
    holds those locks may be waiting for this one. ``LOCK_ORDER`` prevents nearly all deadlocks, except over the unique
    key that a new current group takes, and over groups that cease to be current while a transaction waits for them.
    PostgreSQL would detect the deadlock after a second, and abort either of the two.

    Raises:
        DatabaseUnavailable: another transaction came first; retry.
    """
    database.execute_sql("SET LOCAL lock_timeout = '500ms'")
    try:
        yield
    except OperationalError as error:
        if not isinstance(driver_error(error), LockNotAvailable):
            raise
        raise DatabaseUnavailable("another transaction came first, and is not done") from error
    database.execute_sql(f"SET LOCAL lock_timeout = {database.lock_timeout_ms}")
