"""Trouble of our own is told of through the notifier, once an episode, on real Redis and PostgreSQL."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis
from structlog.testing import capture_logs

from signalcraft import tasks
from signalcraft.domain.alerts import GroupSnapshot
from signalcraft.domain.errors import MissingTitle, QueueUnavailable
from signalcraft.queues import backlog, dead_letters, inbox, jobs, redis_clients
from signalcraft.settings import Settings
from signalcraft.storage.database import database, open_database, session
from signalcraft.storage.models import FailedDelivery, Inbox
from signalcraft.worker.inbox_consumer import InboxConsumer
from signalcraft.worker.self_alerts import IncidentMonitor
from tests.support.builders import accepted
from tests.support.web_client import add_workspace

NOWHERE = "redis://127.0.0.1:1/0"


class Told(list[str]):
    """A notifier that keeps what it is told."""

    def __call__(self, reason: str, group: GroupSnapshot) -> None:
        assert group.title
        self.append(reason)


@pytest.fixture(autouse=True)
def _workspace(clean_database: str) -> None:  # noqa: ARG001 - for that it is clean
    add_workspace()


def set_aside(number: int) -> None:
    for _ in range(number):
        dead_letters.add(accepted(), MissingTitle("it has none"), stage="normalize")


def let_time_pass() -> None:
    """Nobody has seen anything for longer than an episode lasts."""
    with session():
        FailedDelivery.update(failed_at=datetime.now(UTC) - timedelta(hours=1)).execute()
        Inbox.delete().execute()


def test_fifty_deliveries_set_aside_are_told_of_once_however_many_workers_look(clean_redis: Redis) -> None:
    told = Told()
    workers = [IncidentMonitor(told, clean_redis) for _ in range(3)]
    for worker in workers:
        worker.look()
    assert told == []
    for _ in range(5):
        set_aside(10)
        for worker in workers:
            worker.look()
    assert told == ["deliveries_set_aside"]


def test_an_episode_is_over_when_it_was_not_seen_for_a_while_and_the_next_is_told_of_again(clean_redis: Redis) -> None:
    told = Told()
    watch = IncidentMonitor(told, clean_redis, over_after=1)
    set_aside(1)
    watch.look()
    let_time_pass()
    watch.look()
    time.sleep(1.1)
    watch.look()
    assert told == ["deliveries_set_aside"]
    set_aside(1)
    watch.look()
    assert told == ["deliveries_set_aside"] * 2


def test_deliveries_on_the_shelf_are_told_of_also_while_redis_is_away() -> None:
    told = Told()
    watch = IncidentMonitor(told, redis_clients.for_web(NOWHERE))
    with session():
        inbox.add(accepted())
    for _ in range(3):
        watch.look()
    assert told == ["inbox_in_use"]


def test_a_shelf_that_is_worked_off_between_two_looks_is_told_of_too(clean_redis: Redis, settings: Settings) -> None:
    """A drainer needs half a second, and looks are ten apart: without this nobody would hear that Redis is away."""
    tasks.configure_worker(settings, clean_redis)
    told, drainer = Told(), InboxConsumer(tasks.processor(), batch_size=10)
    watch = IncidentMonitor(told, clean_redis, last_consumed_at=lambda: drainer.last_consumed_at)
    watch.look()
    assert told == []
    with session():
        inbox.add(accepted())
    assert drainer.drain() == 1
    for _ in range(3):
        watch.look()
    assert told == ["inbox_in_use"]


def test_a_shelf_that_was_worked_off_long_ago_is_not_told_of(clean_redis: Redis) -> None:
    told = Told()
    IncidentMonitor(told, clean_redis, over_after=1, last_consumed_at=lambda: time.monotonic() - 2).look()
    assert told == []


def test_postgresql_out_of_reach_is_told_of_after_a_while_and_not_before(clean_redis: Redis, database_url: str) -> None:
    told = Told()
    watch = IncidentMonitor(told, clean_redis, away_seconds=0.3)
    watch.look()
    database.close_idle()
    open_database("postgresql://127.0.0.1:1/nowhere")
    try:
        watch.look()
        assert told == []
        time.sleep(0.4)
        for _ in range(3):
            watch.look()
        assert told == ["database_away"]
    finally:
        open_database(database_url)


def test_what_could_not_be_told_is_told_with_the_next_look(clean_redis: Redis) -> None:
    told = Told()

    def tell(reason: str, group: GroupSnapshot) -> None:
        if not attempts:
            attempts.append(reason)
            raise QueueUnavailable
        told(reason, group)

    attempts: list[str] = []
    watch = IncidentMonitor(tell, clean_redis)
    set_aside(1)
    watch.look()
    assert (told, attempts) == ([], ["deliveries_set_aside"])
    watch.look()
    watch.look()
    assert told == ["deliveries_set_aside"]


def test_the_built_in_notifier_makes_it_a_notification_like_any_other(clean_redis: Redis, settings: Settings) -> None:
    tasks.configure_worker(settings, clean_redis)
    set_aside(2)
    IncidentMonitor(tasks.processor().context.queue_notification, clean_redis).look()
    assert backlog.backlog(clean_redis, jobs.NOTIFICATIONS).depth == 1


def test_that_the_inbox_is_in_use_is_told_while_redis_is_away_by_the_built_in_notifier(
    settings: Settings,
) -> None:
    tasks.configure_worker(settings, redis_clients.for_web(NOWHERE))
    with session():
        inbox.add(accepted())
    watch = IncidentMonitor(tasks.processor().context.queue_notification, redis_clients.for_web(NOWHERE))
    with capture_logs() as lines:
        watch.look()
        watch.look()
    told = [line["reason"] for line in lines if line["event"] == "notification"]
    assert told == ["inbox_in_use"]


def test_where_every_delivery_goes_through_the_inbox_it_is_no_trouble(clean_redis: Redis) -> None:
    told = Told()
    with session():
        inbox.add(accepted())
    IncidentMonitor(told, clean_redis, inbox_is_trouble=False).look()
    assert told == []
