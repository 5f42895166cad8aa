"""The inbox is processed from PostgreSQL: in order, once, and also while Redis is unavailable."""

import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
from peewee import SQL
from redis import Redis

from signalcraft import tasks
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.queues import inbox, redis_clients
from signalcraft.settings import Settings
from signalcraft.storage.database import database, session
from signalcraft.storage.delivery_models import FailedDelivery, Inbox
from signalcraft.storage.models import AlertEvent, Workspace
from signalcraft.worker import processor
from signalcraft.worker.context import InboxStages
from signalcraft.worker.inbox_consumer import MAX_TRIES, InboxConsumer
from tests.support.builders import accepted, groups
from tests.support.queues import add_to_inbox, depth

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def configured(settings: Settings, clean_redis: Redis) -> None:
    with session():
        Workspace.create(slug="default")
    tasks.configure_worker(settings, clean_redis)


def inbox_consumer(batch_size: int = 100) -> InboxConsumer:
    return InboxConsumer(tasks.processor(), batch_size=batch_size)


def storing(record: Callable[[Sequence[AcceptedDelivery]], object]) -> InboxStages:
    """Stages of which only ``record`` does anything."""
    return SimpleNamespace(
        prepare=lambda deliveries: deliveries,
        record=record,
        reapply=lambda _outcome: None,
        conclude=lambda _outcome: None,
    )


def test_the_inbox_becomes_groups_and_is_empty() -> None:
    add_to_inbox(*(accepted(issue=str(number % 2)) for number in range(6)))
    assert inbox_consumer().consume_batch() == 6
    assert [group.count for group in groups()] == [3, 3]
    assert depth() == 0
    assert inbox_consumer().consume_batch() == 0


def test_batches_are_consumed_oldest_first() -> None:
    seen: list[str] = []

    def process(deliveries: Sequence[AcceptedDelivery]) -> None:
        seen.extend(delivery.delivery_id for delivery in deliveries)

    deliveries = [accepted() for _ in range(5)]
    add_to_inbox(*deliveries)
    consumer = InboxConsumer(storing(process), batch_size=2)
    assert [consumer.consume_batch() for _ in range(4)] == [2, 2, 1, 0]
    assert seen == [delivery.delivery_id for delivery in deliveries]


def test_a_delivery_from_the_inbox_is_the_one_that_was_added() -> None:
    delivery = accepted()
    seen: list[AcceptedDelivery] = []
    add_to_inbox(delivery)
    InboxConsumer(storing(seen.extend), batch_size=9).consume_batch()
    assert seen == [delivery]


def test_it_needs_no_redis(settings: Settings) -> None:
    tasks.configure_worker(settings, redis_clients.for_web(NOWHERE))
    add_to_inbox(accepted(), accepted())
    assert inbox_consumer().consume_batch() == 2
    assert depth() == 0


def test_what_was_claimed_together_with_a_row_that_has_used_up_its_tries_since_is_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that stands still after its claim is overtaken by others, which die of the first row."""
    worst, neighbour = accepted(), accepted()
    add_to_inbox(worst, neighbour)
    lock_rows = inbox.lock_rows

    def overtaken(row_ids: Sequence[int]) -> list[inbox.InboxRow]:
        Inbox.update(tries=MAX_TRIES + 1).where(Inbox.delivery_id == worst.delivery_id).execute()
        return lock_rows(row_ids)

    monkeypatch.setattr(inbox, "lock_rows", overtaken)
    assert inbox_consumer().consume_batch() == 2
    with session():
        assert [failed.delivery_id for failed in FailedDelivery.select()] == [worst.delivery_id]
        assert AlertEvent.select().count() == 1
    assert depth() == 0


def test_a_failure_changes_nothing() -> None:
    def process(deliveries: Sequence[AcceptedDelivery]) -> None:
        tasks.processor().process(deliveries)
        raise DatabaseUnavailable

    add_to_inbox(accepted())
    consumer, stages = inbox_consumer(), tasks.processor()
    consumer._stages = storing(process)
    with pytest.raises(DatabaseUnavailable):
        consumer.consume_batch()
    assert (depth(), groups()) == (1, [])
    consumer._stages = stages
    assert consumer.consume_batch() == 1


def test_rows_that_another_worker_has_claimed_and_not_locked_yet_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_to_inbox(*(accepted() for _ in range(3)))
    monkeypatch.setattr(inbox, "_CLAIM", SQL("interval '1 hour'"))
    with session():
        claimed = inbox.begin_attempt(2)
        assert inbox.begin_attempt(9) == [3]
        assert (claimed, inbox.begin_attempt(9)) == ([1, 2], [])
        monkeypatch.setattr(inbox, "_CLAIM", SQL("interval '0 s'"))
        assert inbox.begin_attempt(9) == [1], "of a worker that died; it was tried before, so it comes alone"


def test_a_delivery_that_cannot_be_processed_is_dead_lettered_and_removed_from_the_inbox() -> None:
    bad = accepted("event_alert.triggered")
    add_to_inbox(accepted(), bad)
    with session():
        Inbox.update(body=b'{"action":"triggered"}').where(
            Inbox.delivery_id == bad.delivery_id,
        ).execute()
    assert inbox_consumer().consume_batch() == 2
    with session():
        assert (AlertEvent.select().count(), FailedDelivery.select().count()) == (1, 1)
    assert depth() == 0


def test_two_consumers_process_each_delivery_once() -> None:
    seen: list[str] = []
    both = threading.Barrier(2, timeout=10)

    def process(deliveries: Sequence[AcceptedDelivery]) -> None:
        both.wait()
        seen.extend(delivery.delivery_id for delivery in deliveries)

    deliveries = [accepted() for _ in range(4)]
    add_to_inbox(*deliveries)
    threads = [threading.Thread(target=InboxConsumer(storing(process), batch_size=2).consume_batch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted(delivery.delivery_id for delivery in deliveries)
    assert depth() == 0


@pytest.mark.parametrize("in_inbox", ["event_alert.triggered", "issue.resolved"])
@pytest.mark.parametrize("dies", [False, True], ids=["", "and the consumer dies after its commit"])
def test_a_resolution_resolves_its_alert_when_one_is_in_the_inbox_and_the_other_in_the_queue(
    monkeypatch: pytest.MonkeyPatch, in_inbox: str, *, dies: bool
) -> None:
    """In either order, what the inbox's transaction wrote is invisible while the other one is processed."""
    monkeypatch.setattr(inbox, "_CLAIM", SQL("interval '1 hour'"))
    both = {
        "event_alert.triggered": accepted(issue="7"),
        "issue.resolved": accepted("issue.resolved", issue="7", minute=1),
    }
    add_to_inbox(both.pop(in_inbox))
    worker = threading.Thread(target=tasks.processor().process, args=(list(both.values()),))

    def record_both(batch: processor.Batch) -> processor.Outcome:
        outcome = tasks.processor().record(batch)
        worker.start()
        worker.join()
        return outcome

    def die(_: processor.Outcome) -> None:
        raise SystemExit

    real = tasks.processor()
    stages = SimpleNamespace(
        prepare=real.prepare, record=record_both, reapply=die if dies else real.reapply, conclude=real.conclude
    )
    consumer = InboxConsumer(stages, batch_size=9)
    if dies:
        with pytest.raises(SystemExit):
            consumer.consume_batch()
        assert inbox_consumer().consume_batch() == 0, "it is claimed"
        with session():
            Inbox.update(claimed_at=None).execute()
        assert inbox_consumer().consume_batch() == 1
    else:
        assert consumer.consume_batch() == 1
    assert depth() == 0
    assert [group.status for group in groups()] == ["resolved"]


def test_missed_status_changes_are_reapplied_when_postgresql_is_available_again() -> None:
    reapplied: list[object] = []

    def reapply(outcome: object) -> None:
        reapplied.append(outcome)
        if len(reapplied) == 1:
            raise DatabaseUnavailable

    concluded: list[object] = []
    add_to_inbox(accepted())
    stages = storing(lambda _deliveries: "stored")
    stages.reapply, stages.conclude = reapply, concluded.append
    consumer = InboxConsumer(stages, batch_size=9)
    with pytest.raises(DatabaseUnavailable):
        consumer.consume_batch()
    assert depth() == 1
    assert consumer.consume_batch() == 0
    assert depth() == 0
    assert (reapplied, concluded) == (["stored", "stored"], ["stored"])


def test_notifications_are_queued_after_the_commit() -> None:
    """A slow notifier must hold no locks, and a rolled-back batch would be notified twice."""
    stages = storing(tasks.processor().process)
    seen: list[int] = []
    stages.conclude = lambda _outcome: seen.append(depth())
    add_to_inbox(accepted())
    InboxConsumer(stages, batch_size=9).consume_batch()
    assert seen == [0]


def test_the_thread_continues_after_any_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signalcraft.worker.inbox_consumer._RETRY_INTERVAL_SECONDS", 0.01)
    errors = iter([ZeroDivisionError("value of a row"), DatabaseUnavailable("unavailable"), None])
    done = threading.Event()

    def process(deliveries: Sequence[AcceptedDelivery]) -> None:
        error = next(errors)
        if error:
            raise error
        tasks.processor().process(deliveries)
        done.set()

    add_to_inbox(accepted())
    stop = InboxConsumer(storing(process), batch_size=9).start()
    assert done.wait(10)
    stop()
    assert depth() == 0


def test_a_read_only_server_is_unavailable_and_no_bug() -> None:
    """After a failover the old primary accepts connections, and refuses writes."""
    add_to_inbox(accepted())
    with session():
        database.execute_sql("SET default_transaction_read_only = on")
    with pytest.raises(DatabaseUnavailable, match="read-only transaction"):
        inbox_consumer().consume_batch()
    assert inbox_consumer().consume_batch() == 1


def test_a_batch_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    deliveries = [accepted() for _ in range(5)]
    monkeypatch.setattr(inbox, "MAX_BATCH_BYTES", 1 + max(len(item.delivery.body) for item in deliveries))
    add_to_inbox(*deliveries)
    assert [inbox_consumer().consume_batch() for _ in range(4)] == [2, 2, 1, 0]


def test_a_table_that_is_locked_for_long_dead_letters_nothing() -> None:
    """Inside the consumer's transaction, too, recoverable and permanent errors are distinguished."""
    add_to_inbox(accepted(), accepted())
    locked, release = threading.Event(), threading.Event()

    def hold() -> None:
        with session(), database.atomic():
            database.execute_sql("LOCK TABLE alert_event IN ACCESS EXCLUSIVE MODE")
            locked.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    locked.wait(5)
    consumer = inbox_consumer()
    try:
        for _ in range(3):
            database.set_timeouts(lock_ms=100, statement_ms=15_000)
            with pytest.raises(DatabaseUnavailable, match="lock timeout"):
                consumer.consume_batch()
    finally:  # whatever fails, the next test must find the table free
        release.set()
        holder.join()
    assert depth() == 2
    assert consumer.consume_batch() == 2, "they killed no worker, so they are still one batch"
    with session():
        assert FailedDelivery.select().count() == 0
