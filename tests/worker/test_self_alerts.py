"""Self-alerts: one notification per incident, on real Redis and PostgreSQL."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis
from structlog.testing import capture_logs

from signalcraft import tasks
from signalcraft.domain.alerts import GroupSnapshot
from signalcraft.domain.errors import QueueUnavailable, UnexpectedShape
from signalcraft.queues import backlog, dead_letters, inbox, jobs, redis_clients
from signalcraft.settings import Settings
from signalcraft.storage.database import database, open_database, session
from signalcraft.storage.models import FailedDelivery, Inbox
from signalcraft.worker.inbox_consumer import InboxConsumer
from signalcraft.worker.self_alerts import IncidentMonitor
from tests.support.builders import accepted
from tests.support.web_client import add_workspace

NOWHERE = "redis://127.0.0.1:1/0"


class RecordingNotifier(list[str]):
    """A notifier that records the reasons."""

    def __call__(self, reason: str, group: GroupSnapshot) -> None:
        assert group.title
        self.append(reason)


@pytest.fixture(autouse=True)
def _workspace(clean_database: str) -> None:  # noqa: ARG001 - cleans the database
    add_workspace()


def dead_letter(number: int) -> None:
    for _ in range(number):
        dead_letters.add(accepted(), UnexpectedShape("it has none"), stage="normalize")


def let_time_pass() -> None:
    """Let more time pass than an incident lasts."""
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
    monitor = IncidentMonitor(notified, clean_redis, resolved_after=1)
    dead_letter(1)
    monitor.check()
    let_time_pass()
    monitor.check()
    time.sleep(1.1)
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
    monitor = IncidentMonitor(notified, clean_redis, unavailable_seconds=0.3)
    monitor.check()
    database.close_idle()
    open_database("postgresql://127.0.0.1:1/nowhere")
    try:
        monitor.check()
        assert notified == []
        time.sleep(0.4)
        for _ in range(3):
            monitor.check()
        assert notified == ["database_away"]
    finally:
        open_database(database_url)


def test_a_failed_notification_is_sent_with_the_next_poll(clean_redis: Redis) -> None:
    notified = RecordingNotifier()

    def notify(reason: str, group: GroupSnapshot) -> None:
        if not attempts:
            attempts.append(reason)
            raise QueueUnavailable
        notified(reason, group)

    attempts: list[str] = []
    monitor = IncidentMonitor(notify, clean_redis)
    dead_letter(1)
    monitor.check()
    assert (notified, attempts) == ([], ["deliveries_set_aside"])
    monitor.check()
    monitor.check()
    assert notified == ["deliveries_set_aside"]


def test_the_built_in_notifier_enqueues_a_self_alert_as_a_notification(clean_redis: Redis, settings: Settings) -> None:
    tasks.configure_worker(settings, clean_redis)
    dead_letter(2)
    IncidentMonitor(tasks.processor().context.queue_notification, clean_redis).check()
    assert backlog.backlog(clean_redis, jobs.NOTIFICATIONS).depth == 1


def test_the_built_in_notifier_logs_a_self_alert_while_redis_is_unavailable(
    settings: Settings,
) -> None:
    tasks.configure_worker(settings, redis_clients.for_web(NOWHERE))
    with session():
        inbox.add(accepted())
    monitor = IncidentMonitor(tasks.processor().context.queue_notification, redis_clients.for_web(NOWHERE))
    with capture_logs() as lines:
        monitor.check()
        monitor.check()
    notified = [line["reason"] for line in lines if line["event"] == "notification"]
    assert notified == ["inbox_in_use"]


def test_with_all_deliveries_in_the_inbox_its_use_is_no_incident(clean_redis: Redis) -> None:
    notified = RecordingNotifier()
    with session():
        inbox.add(accepted())
    IncidentMonitor(notified, clean_redis, inbox_is_incident=False).check()
    assert notified == []
