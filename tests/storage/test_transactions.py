"""A transaction begins with its first statement, in one round trip, and statements that need no answer share one."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import psycopg2
import pytest
from peewee import DataError, InternalError
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INTRANS

from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.storage.database import database, session
from signalcraft.storage.sql import Columns, Statement, copy, query_last
from tests.support.waiting import wait_until

LOCK_NUMBER = 7
COLUMNS: Columns = {"number": "bigint"}
LOCK = Statement("SELECT pg_advisory_xact_lock(r.number) FROM {rows}", COLUMNS, [(LOCK_NUMBER,)])


@pytest.fixture
def other(clean_database: str) -> Iterator[Any]:
    """Another client's cursor, in a transaction of its own; the table ``seen`` is empty."""
    with closing(psycopg2.connect(clean_database)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE seen (number bigint)")
        connection.commit()
        yield cursor
        connection.rollback()
        cursor.execute("DROP TABLE seen")
        connection.commit()


def status() -> int:
    found: int = database.connection().get_transaction_status()
    return found


def seen(cursor: Any) -> list[int]:  # noqa: ANN401 - psycopg2 ships no types
    cursor.connection.rollback()
    cursor.execute("SELECT number FROM seen ORDER BY number")
    return [number for (number,) in cursor.fetchall()]


@pytest.mark.usefixtures("clean_database")
def test_a_transaction_begins_with_its_first_statement_and_its_settings_hold_from_there() -> None:
    with session():
        with database.atomic():
            assert status() == TRANSACTION_STATUS_IDLE
            assert database.execute_sql("SHOW lock_timeout").fetchone() == ("5s",)
            assert status() == TRANSACTION_STATUS_INTRANS
            assert database.execute_sql("SHOW lock_timeout").fetchone() == ("5s",)
        assert status() == TRANSACTION_STATUS_IDLE


def execute_in_transaction(*statements: str) -> None:
    with session(), database.atomic():
        for statement in statements:
            database.execute_sql(statement)


def test_a_transaction_whose_first_statement_fails_leaves_nothing_and_the_next_one_is_whole(other: Any) -> None:  # noqa: ANN401
    for statements in (["SELECT 1 / 0"], ["SAVEPOINT one", "INSERT INTO seen VALUES (1)", "SELECT 1 / 0"]):
        with session():  # which keeps the connection
            with pytest.raises(DataError):
                execute_in_transaction(*statements)
            execute_in_transaction("INSERT INTO seen VALUES (2)")
    assert seen(other) == [2, 2]


def test_a_transaction_with_a_failed_statement_is_never_said_to_be_committed(other: Any) -> None:  # noqa: ANN401
    def insert_and_go_on() -> None:
        with session(), database.atomic():
            database.execute_sql("INSERT INTO seen VALUES (1)")
            with suppress(DataError):
                database.execute_sql("SELECT 1 / 0")

    with pytest.raises(InternalError):
        insert_and_go_on()
    assert seen(other) == []


def test_a_transaction_outside_a_session_is_undone_as_a_whole(other: Any) -> None:  # noqa: ANN401
    def insert_and_fail() -> None:
        with closing(database), database.atomic():
            database.execute_sql("INSERT INTO seen VALUES (1)")
            database.execute_sql("SELECT 1 / 0")

    with pytest.raises(DataError):
        insert_and_fail()
    assert seen(other) == []


def test_a_transaction_may_begin_with_rows_that_are_copied(other: Any) -> None:  # noqa: ANN401
    with session():
        with database.atomic() as attempt:
            copy("seen", COLUMNS, [(1,)])
            assert database.execute_sql("SHOW lock_timeout").fetchone() == ("5s",)
            attempt.rollback()
            copy("seen", COLUMNS, [(2,)])
        copy("seen", COLUMNS, [(3,)])
    assert seen(other) == [2, 3]


def terminate() -> None:
    with closing(psycopg2.connect(database.connection().dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [database.connection().info.backend_pid])


def close() -> None:
    database.connection().close()


@pytest.mark.parametrize("end", [terminate, close])
def test_a_transaction_whose_connection_ends_is_never_said_to_be_committed(
    end: Callable[[], object],
    other: Any,  # noqa: ANN401
) -> None:
    def insert_and_end() -> None:
        with session(), database.atomic():
            database.execute_sql("INSERT INTO seen VALUES (1)")
            end()

    with pytest.raises(DatabaseUnavailable):
        insert_and_end()
    assert seen(other) == []


def test_a_statement_sees_what_was_committed_while_the_statement_before_it_waited(other: Any) -> None:  # noqa: ANN401
    """So a lock and what it protects may be asked for in one round trip."""
    other.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK_NUMBER])
    other.execute("INSERT INTO seen VALUES (3)")
    found: list[tuple[Any, ...]] = []

    def read() -> None:
        with session(), database.atomic():
            find = Statement("SELECT s.number FROM seen s JOIN {rows} USING (number)", COLUMNS, [(3,), (4,)])
            found.extend(query_last(LOCK, find))

    reading = threading.Thread(target=read)
    reading.start()
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    wait_until(lambda: other.execute(waiting) or other.fetchone() == (1,))
    other.connection.commit()
    reading.join()
    assert found == [(3,)]


def test_of_several_statements_those_without_rows_are_left_out_and_the_last_one_answers(other: Any) -> None:  # noqa: ANN401
    insert = "INSERT INTO seen SELECT number FROM {rows}"
    with session(), database.atomic():
        assert query_last(LOCK, Statement(insert, COLUMNS, [])) == []
        assert query_last(Statement(insert, COLUMNS, [])) == []
        assert query_last(Statement(insert, COLUMNS, [(5,)]), Statement(insert, COLUMNS, [(6,)])) == []
        returning = Statement(
            f"{insert} WHERE number > %(above)s RETURNING number", COLUMNS, [(7,), (8,)], {"above": 7}
        )
        assert query_last(Statement(insert, COLUMNS, []), LOCK, returning) == [(8,)]
    assert seen(other) == [5, 6, 8]
