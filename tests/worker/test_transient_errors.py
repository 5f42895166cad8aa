"""PostgreSQL aborts a transaction or refuses connections: transient errors are retried, permanent ones are not.

PostgreSQL itself raises every failure here.
"""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

import peewee
import psycopg2
import pytest
from redis import Redis
from structlog.testing import capture_logs

from signalcraft import metrics, tasks
from signalcraft.dev import embedded_servers, server_process
from signalcraft.domain import grouping
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import DatabaseUnavailable, RecoverableError
from signalcraft.groups import record as groups_record
from signalcraft.queues import jobs
from signalcraft.storage.database import database, driver_error, session
from signalcraft.storage.delivery_models import FailedDelivery
from signalcraft.storage.models import AlertEvent, AlertGroup, HourlyCount
from signalcraft.worker import batch_worker, processor
from signalcraft.worker import process as processing
from signalcraft.worker.inbox_consumer import InboxConsumer
from tests.support import ROOT
from tests.support.builders import accepted, groups
from tests.support.queues import add_to_inbox, depth, enqueue_deliveries, work
from tests.support.waiting import wait_until

needs_own_server = pytest.mark.skipif(bool(os.environ.get("TEST_DATABASE_URL")), reason="restarts the server")


@pytest.fixture
def two_groups(redis: Redis) -> tuple[str, str]:  # noqa: ARG001 - for the workspace
    """Create two groups and return their issues in the order in which batches lock the groups."""
    tasks.processor().process([accepted(issue="1"), accepted(issue="2")])
    first, second = sorted(groups(), key=lambda group: group.group_key)
    return str(first.issue_id), str(second.issue_id)


class Attempts:
    """The worker's stages, which also record each attempt to store a batch."""

    def __init__(self, after_failure: Callable[[], None] = lambda: None) -> None:
        self.times: list[float] = []
        self.failures: list[RecoverableError] = []
        self.conclude = tasks.processor().conclude
        self.prepare = tasks.processor().prepare
        self._after_failure = after_failure

    def record(self, batch: processor.Batch) -> processor.Outcome:
        self.times.append(time.monotonic())
        try:
            return tasks.processor().record(batch)
        except RecoverableError as error:
            self.failures.append(error)
            self._after_failure()
            raise

    @property
    def codes(self) -> list[str | None]:
        """SQLSTATE of each failure."""
        return [sqlstate(error) for error in self.failures]


class Rival:
    """A transaction that locks a group until another waits for it, may then lock a second group, and commits."""

    def __init__(self, url: str, *, locks: str, then_locks: str = "") -> None:
        self._connection = psycopg2.connect(url)
        self._connection.set_session(isolation_level="READ COMMITTED")  # so it is never the one that is refused
        self._then_locks = then_locks
        self._thread = threading.Thread(target=self._run)
        self.blocked_pids: set[int] = set()
        self._execute(
            "SET deadlock_timeout = '1min'"
        )  # so the other one, which checks after a second, detects the deadlock
        self._lock(locks)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        wait_until(self._is_blocking)
        if self._then_locks:
            self._lock(self._then_locks)
        self._connection.commit()

    def _is_blocking(self) -> bool:
        blocked = self._execute(
            "SELECT pid FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid)) LIMIT 1",
        )
        self.blocked_pids.update(pid for (pid,) in blocked)
        return bool(blocked)

    def _lock(self, issue: str) -> None:
        self._execute("UPDATE alert_group SET runbook_url = 'of the rival' WHERE issue_id = %s RETURNING id", issue)

    def _execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []


def sqlstate(error: BaseException) -> str | None:
    assert isinstance(error.__cause__, Exception)
    code: str | None = getattr(driver_error(error.__cause__), "pgcode", None)
    return code


def execute(statement: str, *values: object) -> None:
    with session():
        database.cursor().execute(statement, values)  # alone: ALTER SYSTEM is refused in a transaction


def totals() -> dict[str, int]:
    """Return the counts that must agree: events, counts of groups and hours; and duplicates and dead letters."""
    with session():
        hours = list(HourlyCount.select())
        return {
            "events": AlertEvent.select().count(),
            "counted by groups": sum(group.count for group in AlertGroup.select()),
            "counted by hours": sum(hour.alerts for hour in hours),
            "duplicates": sum(hour.duplicates for hour in hours),
            "dead letters": FailedDelivery.select().count(),
        }


def consistent(events: int, *, dead_letters: int = 0) -> dict[str, int]:
    counts = dict.fromkeys(("events", "counted by groups", "counted by hours"), events)
    return counts | {"duplicates": 0, "dead letters": dead_letters}


def counted(redis: Redis) -> tuple[float, float]:
    """Return how many alerts and duplicates this process has counted."""
    assert metrics.flush(redis)
    sums = metrics.read_sums(redis)
    alerts, duplicates = (
        sums[name][()][""] if name in sums else 0
        for name in ("signalcraft_alerts_total", "signalcraft_duplicates_total")
    )
    return alerts, duplicates


def is_gone(pid: int) -> bool:
    with session():
        return not database.execute_sql("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,)).rowcount


def is_clean(redis: Redis) -> bool:
    return redis.exists("rq:queue:alerts", "rq:queue:alerts:intermediate", "rq:wip:alerts", "rq:failed:alerts") == 0


@contextmanager
def isolated(level: str) -> Iterator[None]:
    """Set the isolation level of all transactions in the block, by new connections."""
    alter = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I {}', current_database()); END $$"
    execute(alter.format(f"SET default_transaction_isolation = ''{level}''"))
    database.close_idle()
    try:
        yield
    finally:
        execute(alter.format("RESET default_transaction_isolation"))
        database.close_idle()


def test_the_victim_of_a_deadlock_is_retried_and_stored_once(redis: Redis, two_groups: tuple[str, str]) -> None:
    first, second = two_groups
    attempts = Attempts()
    enqueue_deliveries(redis, accepted(issue=first), accepted(issue=second), accepted(issue=second))
    with Rival(database.database, locks=second, then_locks=first) as rival:
        work(redis, stages=attempts)
    assert attempts.codes == ["40P01"]
    assert totals() == consistent(5)
    assert {group.issue_id: group.count for group in groups()} == {first: 2, second: 3}
    assert {group.runbook_url for group in groups()} == {"of the rival"}, "the update of the rival stays"
    assert is_clean(redis)
    (victim,) = rival.blocked_pids
    wait_until(lambda: is_gone(victim))  # the state of its connection was unknown


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_batch_that_cannot_be_serialized_is_retried_and_stored_once(
    redis: Redis, two_groups: tuple[str, str], level: str
) -> None:
    first, second = two_groups
    attempts = Attempts()
    enqueue_deliveries(redis, accepted(issue=first), accepted(issue=second), accepted(issue=second))
    with isolated(level), Rival(database.database, locks=second) as rival:
        work(redis, stages=attempts)
        (refused,) = rival.blocked_pids
        wait_until(lambda: is_gone(refused))
    assert attempts.codes == ["40001"]
    assert totals() == consistent(5)
    assert {group.issue_id: group.count for group in groups()} == {first: 2, second: 3}
    assert is_clean(redis)


def test_an_inbox_batch_in_a_deadlock_is_rolled_back_and_processed_later(two_groups: tuple[str, str]) -> None:
    first, second = two_groups
    add_to_inbox(accepted(issue=first), accepted(issue=second))
    consumer = InboxConsumer(tasks.processor(), batch_size=9)
    rival = Rival(database.database, locks=second, then_locks=first)
    with rival, pytest.raises(DatabaseUnavailable, match="deadlock detected"):
        consumer.consume_batch()
    assert (depth(), totals()) == (2, consistent(2))
    assert consumer.consume_batch() == 2
    assert (depth(), totals()) == (0, consistent(4))


def test_an_inbox_batch_that_cannot_be_serialized_is_rolled_back_and_processed_later(
    two_groups: tuple[str, str],
) -> None:
    first, second = two_groups
    add_to_inbox(accepted(issue=first), accepted(issue=second))
    consumer = InboxConsumer(tasks.processor(), batch_size=9)
    with isolated("serializable"), Rival(database.database, locks=second):
        with pytest.raises(DatabaseUnavailable, match="could not serialize access"):
            consumer.consume_batch()
        assert depth() == 2
        assert consumer.consume_batch() == 2
    assert (depth(), totals()) == (0, consistent(4))


@contextmanager
def starting_up(server: server_process.Server) -> Iterator[Callable[[], None]]:
    """Restart PostgreSQL into a crash recovery that waits for an archive file; yield a function that ends the wait."""
    held = server.log.parent / "data" / "held"
    execute("ALTER SYSTEM SET restore_command = 'while test -e held; do sleep 0.02; done; false'")
    server.kill()
    held.touch()
    held.with_name("recovery.signal").touch()
    starting = threading.Thread(target=server.start)
    starting.start()
    try:
        wait_until(lambda: "starting up" in refusal())
        yield lambda: held.unlink(missing_ok=True)
    finally:
        held.unlink(missing_ok=True)
        starting.join()
        execute("ALTER SYSTEM RESET restore_command")


def refusal() -> str:
    """Return PostgreSQL's message when it refuses a connection."""
    try:
        psycopg2.connect(database.database).close()
    except psycopg2.OperationalError as error:
        return str(error)
    return ""


@needs_own_server
def test_while_postgresql_starts_up_a_batch_is_retried_with_growing_delays_and_stored_once(
    redis: Redis, servers: embedded_servers.Servers
) -> None:
    with starting_up(servers.postgres) as finish_recovery:
        with pytest.raises(DatabaseUnavailable) as caught, session():
            pass
        assert "the database system is starting up" in str(caught.value.__cause__)
        attempts = Attempts(lambda: len(attempts.failures) == 4 and finish_recovery())
        enqueue_deliveries(redis, *(accepted(issue="1") for _ in range(5)))
        work(redis, stages=attempts)
    reasons = [str(error.__cause__) for error in attempts.failures]
    assert ["the database system is starting up" in reason for reason in reasons[:4]] == [True] * 4
    pauses = [after - before for before, after in zip(attempts.times, attempts.times[1:], strict=False)]
    assert [pause >= delay / 2 for pause, delay in zip(pauses, batch_worker._FIRST_DELAYS_SECONDS, strict=False)] == [
        True
    ] * 4
    assert totals() == consistent(5)
    assert is_clean(redis)


@needs_own_server
def test_a_worker_that_starts_before_postgresql_stores_waiting_jobs_once_it_is_up(
    environ: dict[str, str], redis: Redis, servers: embedded_servers.Servers
) -> None:
    with starting_up(servers.postgres) as finish_recovery:
        enqueue_deliveries(redis, *(accepted(issue="1") for _ in range(5)))
        process = subprocess.Popen([sys.executable, "worker.py"], cwd=ROOT, env=os.environ | environ)
        try:
            wait_until(lambda: redis.zcard("rq:wip:alerts") > 0)
            time.sleep(1)
            assert redis.zcard("rq:wip:alerts") > 0
            finish_recovery()
            wait_until(lambda: is_clean(redis))
        finally:
            process.terminate()
            process.wait(15)
    assert totals() == consistent(5)


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the attempts to store each delivery, in a batch or alone."""
    tried: Counter[str] = Counter()
    record = processing.record

    def counting(prepared: processing.PreparedBatch, policy: grouping.GroupingPolicy) -> groups_record.RecordResult:
        tried.update(delivery.delivery_id for delivery in prepared.deliveries)
        return record(prepared, policy)

    monkeypatch.setattr(processing, "record", counting)
    return tried


def test_a_permanent_failure_is_tried_in_its_batch_and_alone_and_dead_lettered(
    redis: Redis, tries: Counter[str]
) -> None:
    stranger = replace(accepted(issue="1"), workspace_id=99)
    attempts = Attempts()
    enqueue_deliveries(redis, accepted(issue="1"), stranger, accepted(issue="1"))
    work(redis, stages=attempts)
    work(redis, stages=attempts)
    assert sorted(tries.values()) == [2, 2, 2]
    assert (len(attempts.times), attempts.failures) == (1, []), "the batch is not retried"
    assert totals() == consistent(2, dead_letters=1)
    with session():
        (letter,) = FailedDelivery.select()
    assert (letter.delivery_id, letter.code) == (stranger.delivery_id, "not_storable")
    assert is_clean(redis)


def test_interrupted_processing_one_by_one_continues_and_repeats_nothing(
    redis: Redis, two_groups: tuple[str, str], tries: Counter[str]
) -> None:
    held, _ = two_groups
    # The batch fails at its first statement, before it meets the rival.
    new, stranger, refused = accepted(issue="3"), replace(accepted(), workspace_id=2**40), accepted(issue=held)
    jobs.queue(redis, jobs.NOTIFICATIONS).empty()
    attempts = Attempts()
    enqueue_deliveries(redis, new, stranger, refused)
    with isolated("serializable"), Rival(database.database, locks=held):
        work(redis, stages=attempts)
    assert attempts.codes == ["40001"]
    assert tries == {new.delivery_id: 2, stranger.delivery_id: 2, refused.delivery_id: 3}
    assert totals() == consistent(4, dead_letters=1)
    assert [job.args for job in jobs.queue(redis, jobs.NOTIFICATIONS).jobs] == [[{}]]


#: SQLSTATEs of transient conditions of the server, and of permanent errors of a statement.
TRANSIENT = (
    *("08000", "08003", "08006"),  # the connection is lost
    *("40001", "40003", "40P01"),  # conflicts with other transactions
    *("53000", "53100", "53200", "53300"),  # no disk space, memory or connection slot
    *("55006", "55P03", "57014"),  # locked by others; timeout
    *("57P01", "57P02", "57P03", "57P05"),  # shutdown or start
    *("25006", "25P03", "25P04"),  # read-only; transaction timeout
    *("58000", "58030"),  # I/O error
    *("42501", "42883", "42P01", "42P10"),  # tables or privileges are not as our statements need them
)
PERMANENT = ("0A000", "22001", "22P02", "23502", "23503", "23505", "23514", "54000", "54001", "XX000")


def fail_with(code: str) -> None:
    statement = "DO $$ BEGIN RAISE EXCEPTION 'as ordered' USING ERRCODE = '{}'; END $$"
    with session(), database.atomic():
        database.execute_sql(statement.format(code))


@pytest.mark.parametrize("code", TRANSIENT)
def test_a_transient_error_is_recoverable(database_url: str, code: str) -> None:  # noqa: ARG001 - opens the database
    with pytest.raises(DatabaseUnavailable) as caught:
        fail_with(code)
    assert sqlstate(caught.value) == code


@pytest.mark.parametrize("code", PERMANENT)
def test_a_permanent_error_is_not_recoverable(database_url: str, code: str) -> None:  # noqa: ARG001 - likewise
    with pytest.raises(peewee.DatabaseError) as caught:
        fail_with(code)
    assert getattr(driver_error(caught.value), "pgcode", None) == code


@pytest.fixture
def a_slow_event(redis: Redis) -> Iterator[AcceptedDelivery]:  # noqa: ARG001 - for the database
    """A delivery whose statement PostgreSQL always cancels, as after the timeout; other statements have their time."""
    slow = accepted(issue="666")
    with session():
        database.execute_sql(
            "CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN IF new.issue_id = '666' THEN PERFORM pg_cancel_backend(pg_backend_pid()), pg_sleep(5); END IF;"
            " RETURN new; END $$;"
            "CREATE TRIGGER be_slow BEFORE INSERT ON alert_event FOR EACH ROW EXECUTE FUNCTION be_slow()"
        )
    yield slow
    with session():
        database.execute_sql("DROP FUNCTION be_slow CASCADE")


@pytest.fixture
def refused_status_changes(redis: Redis) -> Iterator[None]:  # noqa: ARG001 - for the database
    """PostgreSQL refuses each status change for good."""
    with session():
        database.execute_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'as ordered' USING ERRCODE = '23514'; END $$;"
            "CREATE TRIGGER refuse BEFORE INSERT ON last_word FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    yield
    with session():
        database.execute_sql("DROP FUNCTION refuse CASCADE")


def test_a_delivery_that_always_exceeds_the_statement_timeout_is_dead_lettered_and_its_neighbours_are_stored(
    redis: Redis, a_slow_event: AcceptedDelivery
) -> None:
    attempts = Attempts()
    enqueue_deliveries(redis, accepted(issue="1"), a_slow_event, accepted(issue="2"))
    work(redis, stages=attempts)
    assert attempts.codes == ["57014"] * processor.MAX_CANCELED
    assert totals() == consistent(2, dead_letters=1)
    with session():
        (letter,) = FailedDelivery.select()
    assert (letter.delivery_id, letter.code) == (a_slow_event.delivery_id, "takes_too_long")
    assert is_clean(redis)


def test_a_delivery_in_the_inbox_that_always_exceeds_the_statement_timeout_is_dead_lettered(
    redis: Redis, a_slow_event: AcceptedDelivery
) -> None:
    before = counted(redis)
    add_to_inbox(accepted(issue="1"), a_slow_event)
    consumer = InboxConsumer(tasks.processor(), batch_size=9)
    for _ in range(processor.MAX_CANCELED):
        with pytest.raises(DatabaseUnavailable):
            consumer.consume_batch()
    assert consumer.consume_batch() == 2
    assert totals() == consistent(1, dead_letters=1)
    assert counted(redis) == (before[0] + 1, before[1]), "what was rolled back is not counted"


def test_alerts_of_a_batch_whose_status_changes_fail_are_counted_once(
    redis: Redis,
    refused_status_changes: None,  # noqa: ARG001 - for its trigger
) -> None:
    before = counted(redis)
    with capture_logs() as lines:
        tasks.processor().process([accepted(issue="1"), accepted(issue="2"), accepted("issue.resolved", issue="3")])
    assert totals() == consistent(2, dead_letters=1)
    assert counted(redis) == (before[0] + 2, before[1])
    assert [line["alerts"] for line in lines if line["event"] == "delivery processed"] == [1, 1]
