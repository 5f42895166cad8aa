"""The functions that RQ calls by name, and the built-in notifier.

Their names are in Redis and in users' settings, so they must not change. ``jobs.AllowedJob`` allows no others. RQ
passes only a job's arguments, so this module holds the dependencies that ``configure_worker`` sets.
"""

from collections.abc import Mapping
from typing import Any

import structlog
from redis import Redis

from signalcraft.domain.alerts import GroupSnapshot
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import QueueUnavailable
from signalcraft.queues import enqueue
from signalcraft.resilience import CircuitBreaker
from signalcraft.settings import Settings
from signalcraft.worker.context import WorkerContext
from signalcraft.worker.processor import Processor

log = structlog.get_logger(__name__)


class _Configured:
    processor: Processor
    redis: Redis
    breaker: CircuitBreaker


def configure_worker(settings: Settings, redis: Redis) -> Processor:
    """Configure this process as a worker.

    ``redis`` is a client without retries, for calls that must not wait.

    Raises:
        InvalidSetting: RULES or NOTIFIER cannot be imported.
    """
    _Configured.processor = Processor(WorkerContext.from_settings(settings), redis)
    _Configured.redis = redis
    _Configured.breaker = CircuitBreaker(QueueUnavailable)
    return _Configured.processor


def processor() -> Processor:
    """Return the processor of this worker process."""
    return _Configured.processor


def process_delivery(argument: Mapping[str, Any]) -> None:
    """Process one delivery, as RQ's own worker would run its job.

    ``BatchWorker`` runs the same stages over many jobs and does not call this; the name stays in Redis.
    """
    processor().process([AcceptedDelivery.from_job_argument(argument)])


def queue_notification(reason: str, group: GroupSnapshot) -> None:
    """Enqueue a job on the ``notifications`` queue: the built-in notifier.

    Raises:
        QueueUnavailable: Redis is unavailable; the notification is lost, the alert is not.
    """
    notification = {
        "reason": reason,
        "group_id": group.id,
        "workspace_id": group.workspace_id,
        "severity": group.severity.value,
        "status": group.status.value,
        "count": group.count,
    }
    try:
        with _Configured.breaker.guard():
            enqueue.enqueue_notification(
                _Configured.redis, notification, description=f"notification of group {group.id}"
            )
    except QueueUnavailable:
        if group.id:
            raise
        notify(notification)  # a self-alert, whose cause may be Redis itself: it must not depend on Redis


def notify(notification: Mapping[str, Any]) -> None:
    """Log a notification: the job that the notifier process runs.

    NOTIFIER replaces ``queue_notification``, which enqueues it.
    """
    log.info("notification", stage="notify", **notification)
