"""The functions that RQ calls by name, and what a notifier of one's own may call.

Their names are in Redis and in users' settings, so they must not change. ``jobs.AllowedJob`` allows no others. RQ
passes only a job's arguments, so this module holds what ``configure_worker`` and ``configure_notifier`` set.
"""

from collections.abc import Callable, Mapping
from typing import Any

import structlog
from redis import Redis

from signalcraft.domain.alerts import GroupSnapshot
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.settings import Settings
from signalcraft.worker.context import WorkerContext
from signalcraft.worker.processor import Processor

log = structlog.get_logger(__name__)


class _Configured:
    processor: Processor
    wake: Callable[[], object] | None = None


def configure_worker(settings: Settings, redis: Redis) -> Processor:
    """Configure this process as a worker.

    ``redis`` is a client without retries, for calls that must not wait.
    """
    _Configured.processor = Processor(WorkerContext.from_settings(settings), redis)
    return _Configured.processor


def configure_notifier(wake: Callable[[], object]) -> None:
    """Configure this process as a notifier, which ``wake`` wakes."""
    _Configured.wake = wake


def processor() -> Processor:
    """Return the processor of this worker process."""
    return _Configured.processor


def process_delivery(argument: Mapping[str, Any]) -> None:
    """Process one delivery, as RQ's own worker would run its job.

    ``BatchWorker`` runs the same stages over many jobs and does not call this; the name stays in Redis.
    """
    processor().process([AcceptedDelivery.from_job_argument(argument)])


def queue_notification(reason: str, group: GroupSnapshot) -> None:
    """Log a notification: the default of NOTIFIER, which a function of one's own may call."""
    log.info(
        "notification",
        stage="notify",
        reason=reason,
        group_id=group.id,
        severity=group.severity.value,
        status=group.status.value,
        count=group.count,
    )


def notify(notification: Mapping[str, Any]) -> None:
    """Wake the notifier: the job that the notifier process runs.

    A job of the release before holds a notification, which is logged.
    """
    if notification:
        log.info("notification", stage="notify", **notification)
    if _Configured.wake is not None:
        _Configured.wake()
