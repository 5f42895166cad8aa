"""Self-alerts: one notification per incident, on real Redis and PostgreSQL."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from signalcraft import tasks
from signalcraft.domain.errors import DatabaseUnavailable, UnexpectedShape
from signalcraft.notify import config as notify_config
from signalcraft.notify import trouble
from signalcraft.queues import dead_letters, inbox, redis_clients
from signalcraft.settings import Settings
from signalcraft.storage.database import database, open_database, session
from signalcraft.storage.delivery_models import FailedDelivery, Inbox
from signalcraft.storage.notification_models import Notification
from signalcraft.worker.inbox_consumer import InboxConsumer
from signalcraft.worker.self_alerts import IncidentMonitor
from tests.support.builders import accepted
from tests.support.web_client import add_workspace, no_database

NOWHERE = "redis://127.0.0.1:1/0"


LOG_ONLY = notify_config.load("", {})


class RecordingNotifier(list[str]):
    """Records the reasons of messages."""

    def __call__(self, reason: str, title: str) -> None:
        assert title
        self.append(reason)


def told() -> list[tuple[str, str]]:
    """Return the receiver and the reason of each notification."""
    with session():
        return [(row.receiver, row.reason) for row in Notification.select().where(Notification.alert_group.is_null())]


@pytest.fixture(autouse=True)
def _workspace(clean_database: str) -> None:  # noqa: ARG001 - cleans the database
    add_workspace()


def dead_letter(number: int) -> None:
    for _ in range(number):
        dead_letters.add(accepted(), UnexpectedShape("it has none"), stage="normalize")


def let_time_pass() -> None:
    """Let more time pass than a dead letter is news."""
    with session():
        FailedDelivery.update(failed_at=datetime.now(UTC) - timedelta(hours=1)).execute()
        Inbox.delete().execute()


def test_fifty_dead_letters_are_notified_once_however_many_workers_poll(clean_redis: Redis) -> None:
    notified = RecordingNotifier()
    workers = [IncidentMonitor(notified, clean_redis) for _ in range(3)]
    for worker in workers:
        worker.check()
    assert notified == []
    for _ in range(5):
        dead_letter(10)
        for worker in workers:
            worker.check()
    assert notified == ["deliveries_set_aside"]


def test_an_incident_ends_after_a_quiet_time_and_the_next_is_notified_again(clean_redis: Redis) -> None:
    notified = RecordingNotifier()
    monitor = IncidentMonitor(notified, clean_redis, resolved_after=60)
    dead_letter(1)
    monitor.check()
    let_time_pass()
    monitor.check()
    (marked,) = clean_redis.keys("signalcraft:episode:*")
    assert 0 < clean_redis.ttl(marked) <= 60
    clean_redis.delete(marked)  # as if those seconds had passed
    monitor._seen_at = {incident: seen_at - 60 for incident, seen_at in monitor._seen_at.items()}
    monitor.check()
    assert notified == ["deliveries_set_aside"]
    dead_letter(1)
    monitor.check()
    assert notified == ["deliveries_set_aside"] * 2


def test_deliveries_in_the_inbox_are_notified_also_while_redis_is_unavailable() -> None:
    notified = RecordingNotifier()
    monitor = IncidentMonitor(notified, redis_clients.for_web(NOWHERE))
    with session():
        inbox.add(accepted())
    for _ in range(3):
        monitor.check()
    assert notified == ["inbox_in_use"]


def test_an_inbox_that_is_consumed_between_two_polls_is_notified_too(clean_redis: Redis, settings: Settings) -> None:
    """A consumer needs half a second, and polls are ten seconds apart: an outage of Redis would stay unnoticed."""
    tasks.configure_worker(settings, clean_redis)
    notified, consumer = RecordingNotifier(), InboxConsumer(tasks.processor(), batch_size=10)
    monitor = IncidentMonitor(notified, clean_redis, last_consumed_at=lambda: consumer.last_consumed_at)
    monitor.check()
    assert notified == []
    with session():
        inbox.add(accepted())
    assert consumer.consume_batch() == 1
    for _ in range(3):
        monitor.check()
    assert notified == ["inbox_in_use"]


def test_an_inbox_that_was_consumed_long_ago_is_not_notified(clean_redis: Redis) -> None:
    notified = RecordingNotifier()
    IncidentMonitor(notified, clean_redis, resolved_after=1, last_consumed_at=lambda: time.monotonic() - 2).check()
    assert notified == []


def test_an_unavailable_postgresql_is_notified_after_a_while_and_not_before(
    clean_redis: Redis, database_url: str
) -> None:
    notified = RecordingNotifier()
    monitor = IncidentMonitor(notified, clean_redis, unavailable_seconds=60)
    monitor.check()
    database.close_idle()
    open_database("postgresql://127.0.0.1:1/nowhere")
    try:
        monitor.check()
        assert notified == []
        monitor._reached_at -= 60
        for _ in range(3):
            monitor.check()
        assert notified == ["database_away"]
    finally:
        open_database(database_url)


def test_a_failed_notification_is_sent_with_the_next_poll(clean_redis: Redis) -> None:
    notified = RecordingNotifier()

    def notify(reason: str, title: str) -> None:
        if not attempts:
            attempts.append(reason)
            raise DatabaseUnavailable
        notified(reason, title)

    attempts: list[str] = []
    monitor = IncidentMonitor(notify, clean_redis)
    dead_letter(1)
    monitor.check()
    assert (notified, attempts) == ([], ["deliveries_set_aside"])
    monitor.check()
    monitor.check()
    assert notified == ["deliveries_set_aside"]


def test_a_self_alert_is_a_notification_without_a_group(clean_redis: Redis) -> None:
    dead_letter(2)
    IncidentMonitor(trouble.teller(LOG_ONLY), clean_redis).check()
    assert told() == [("log", "deliveries_set_aside")]


def test_a_self_alert_needs_no_redis() -> None:
    with session():
        inbox.add(accepted())
    monitor = IncidentMonitor(trouble.teller(LOG_ONLY), redis_clients.for_web(NOWHERE))
    monitor.check()
    monitor.check()
    assert told() == [("log", "inbox_in_use")]


def test_that_postgresql_was_unavailable_is_told_once_it_is_back(clean_redis: Redis, database_url: str) -> None:
    monitor = IncidentMonitor(trouble.teller(LOG_ONLY), clean_redis, unavailable_seconds=0)
    with no_database(database_url):
        for _ in range(2):
            monitor.check()
    for _ in range(2):
        monitor.check()
    assert told() == [("log", "database_away")]


def test_with_all_deliveries_in_the_inbox_its_use_is_no_incident(clean_redis: Redis) -> None:
    notified = RecordingNotifier()
    with session():
        inbox.add(accepted())
    IncidentMonitor(notified, clean_redis, inbox_is_incident=False).check()
    assert notified == []
