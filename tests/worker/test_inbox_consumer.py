"""The shelf is worked off straight from PostgreSQL: in order, once, and whether or not Redis is there."""

import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
from redis import Redis

from signalcraft import tasks
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.queues import inbox, redis_clients
from signalcraft.settings import Settings
from signalcraft.storage import models
from signalcraft.storage.database import database, session
from signalcraft.storage.models import AlertEvent, FailedDelivery, Workspace
from signalcraft.worker import processor
from signalcraft.worker.context import InboxStages
from signalcraft.worker.inbox_consumer import InboxConsumer
from tests.support.builders import accepted, groups
from tests.support.queues import depth, shelve

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def equipped(settings: Settings, clean_redis: Redis) -> None:
    with session():
        Workspace.create(slug="default")
    tasks.configure_worker(settings, clean_redis)


def drainer(batch_size: int = 100) -> InboxConsumer:
    return InboxConsumer(tasks.processor(), batch_size=batch_size)


def storing(record: Callable[[Sequence[AcceptedDelivery]], object]) -> InboxStages:
    """Stages of which only the middle one does anything."""
    return SimpleNamespace(
        prepare=lambda deliveries: deliveries,
        record=record,
        reapply=lambda _outcome: None,
        conclude=lambda _outcome: None,
    )


def test_what_is_on_the_shelf_becomes_groups_and_the_shelf_is_empty() -> None:
    shelve(*(accepted(issue=str(number % 2)) for number in range(6)))
    assert drainer().drain() == 6
    assert [group.count for group in groups()] == [3, 3]
    assert depth() == 0
    assert drainer().drain() == 0


def test_it_takes_the_oldest_first_some_at_a_time() -> None:
    seen: list[str] = []

    def process(deliveries: Sequence[AcceptedDelivery]) -> None:
        seen.extend(delivery.delivery_id for delivery in deliveries)

    deliveries = [accepted() for _ in range(5)]
    shelve(*deliveries)
    one = InboxConsumer(storing(process), batch_size=2)
    assert [one.drain() for _ in range(4)] == [2, 2, 1, 0]
    assert seen == [delivery.delivery_id for delivery in deliveries]


def test_what_it_hands_on_is_what_was_kept() -> None:
    kept = accepted()
    seen: list[AcceptedDelivery] = []
    shelve(kept)
    InboxConsumer(storing(seen.extend), batch_size=9).drain()
    assert seen == [kept]


def test_it_needs_no_redis(settings: Settings) -> None:
    tasks.configure_worker(settings, redis_clients.for_web(NOWHERE))
    shelve(accepted(), accepted())
    assert drainer().drain() == 2
    assert depth() == 0


def test_a_failure_leaves_everything_as_it_was() -> None:
    def process(deliveries: Sequence[AcceptedDelivery]) -> None:
        tasks.processor().process(deliveries)
        raise DatabaseUnavailable

    shelve(accepted())
    with pytest.raises(DatabaseUnavailable):
        InboxConsumer(storing(process), batch_size=9).drain()
    assert (depth(), groups()) == (1, [])
    assert drainer().drain() == 1


def test_one_that_cannot_be_worked_off_is_set_aside_and_leaves_the_shelf() -> None:
    bad = accepted("event_alert.triggered")
    shelve(accepted(), bad)
    with session():
        models.Inbox.update(body=b'{"action":"triggered","data":{"event":{"title":"x"}}}').where(
            models.Inbox.delivery_id == bad.delivery_id,
        ).execute()
    assert drainer().drain() == 2
    with session():
        assert (AlertEvent.select().count(), FailedDelivery.select().count()) == (1, 1)
    assert depth() == 0


def test_two_drainers_take_each_delivery_once() -> None:
    seen: list[str] = []
    both = threading.Barrier(2, timeout=10)

    def process(deliveries: Sequence[AcceptedDelivery]) -> None:
        both.wait()
        seen.extend(delivery.delivery_id for delivery in deliveries)

    deliveries = [accepted() for _ in range(4)]
    shelve(*deliveries)
    threads = [threading.Thread(target=InboxConsumer(storing(process), batch_size=2).drain) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted(delivery.delivery_id for delivery in deliveries)
    assert depth() == 0


@pytest.mark.parametrize("shelved", ["event_alert.triggered", "issue.resolved"])
def test_an_alert_and_its_resolution_find_each_other_where_one_is_on_the_shelf_and_one_in_the_queue(
    shelved: str,
) -> None:
    """Whoever is first, what the shelf's transaction wrote cannot be seen while the other one is worked off."""
    both = {
        "event_alert.triggered": accepted(issue="7"),
        "issue.resolved": accepted("issue.resolved", issue="7", minute=1),
    }
    shelve(both.pop(shelved))
    worker = threading.Thread(target=tasks.processor().process, args=(list(both.values()),))

    def record_both(batch: processor.Batch) -> processor.Outcome:
        outcome = tasks.processor().record(batch)
        worker.start()
        worker.join()
        return outcome

    real = tasks.processor()
    stages = SimpleNamespace(prepare=real.prepare, record=record_both, reapply=real.reapply, conclude=real.conclude)
    assert InboxConsumer(stages, batch_size=9).drain() == 1
    assert [group.status for group in groups()] == ["resolved"]


def test_what_was_not_heard_because_postgresql_went_away_is_heard_when_it_is_back() -> None:
    heard: list[object] = []

    def reapply(outcome: object) -> None:
        heard.append(outcome)
        if len(heard) == 1:
            raise DatabaseUnavailable

    told: list[object] = []
    shelve(accepted())
    stages = storing(lambda _deliveries: "stored")
    stages.reapply, stages.conclude = reapply, told.append
    one = InboxConsumer(stages, batch_size=9)
    with pytest.raises(DatabaseUnavailable):
        one.drain()
    assert depth() == 0
    assert one.drain() == 0
    assert (heard, told) == (["stored", "stored"], ["stored"])


def test_people_are_told_after_the_commit() -> None:
    """A slow notifier must hold no locks, and one that was told of what was then rolled back would be told again."""
    stages = storing(tasks.processor().process)
    seen: list[int] = []
    stages.conclude = lambda _outcome: seen.append(depth())
    shelve(accepted())
    InboxConsumer(stages, batch_size=9).drain()
    assert seen == [0]


def test_whatever_goes_wrong_the_thread_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signalcraft.worker.inbox_consumer._RETRY_INTERVAL_SECONDS", 0.01)
    answers = iter([ZeroDivisionError("of somebody's row"), DatabaseUnavailable("away"), None])
    done = threading.Event()

    def process(deliveries: Sequence[AcceptedDelivery]) -> None:
        answer = next(answers)
        if answer:
            raise answer
        tasks.processor().process(deliveries)
        done.set()

    shelve(accepted())
    one = InboxConsumer(storing(process), batch_size=9)
    one.start()
    assert done.wait(10)
    one.stop()
    assert depth() == 0


def test_a_server_that_takes_no_writes_is_away_and_no_fault_of_ours() -> None:
    """After a failover the old primary answers, and refuses."""
    shelve(accepted())
    with session():
        database.execute_sql("SET default_transaction_read_only = on")
    with pytest.raises(DatabaseUnavailable, match="ReadOnlySqlTransaction"):
        drainer().drain()
    assert drainer().drain() == 1


def test_a_batch_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    deliveries = [accepted() for _ in range(5)]
    monkeypatch.setattr(inbox, "MAX_BATCH_BYTES", 1 + max(len(one.delivery.body) for one in deliveries))
    shelve(*deliveries)
    assert [drainer().drain() for _ in range(4)] == [2, 2, 1, 0]


def test_a_table_that_is_locked_for_long_sets_nothing_aside() -> None:
    """Inside the drainer's transaction, too, what may be tried again is told from what never works."""
    shelve(accepted(), accepted())
    taken, release = threading.Event(), threading.Event()

    def hold() -> None:
        with session(), database.atomic():
            database.execute_sql("LOCK TABLE alert_event IN ACCESS EXCLUSIVE MODE")
            taken.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(5)
    one = drainer()
    for _ in range(3):
        with session():
            database.execute_sql("SET lock_timeout = 100")
        with pytest.raises(DatabaseUnavailable, match="LockNotAvailable"):
            one.drain()
    release.set()
    holder.join()
    assert depth() == 2
    assert one.drain() == 2, "nobody died of them, so they are taken together still"
    with session():
        assert FailedDelivery.select().count() == 0
