"""What RQ runs, by name: the two functions that ``jobs.AllowedJob`` allows, and the built-in notifier.

A worker process calls ``equip`` once before it works.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from redis import Redis

from signalcraft import jobs, pipeline
from signalcraft.alerts import AcceptedDelivery, GroupSnapshot
from signalcraft.errors import NotStorable, PermanentError, RecoverableError
from signalcraft.settings import Settings

log = structlog.get_logger(__name__)

#: How long a notification may take, and how long one that nobody took or that failed is kept, in seconds.
_NOTIFY_TIMEOUT = 30
_NOTIFY_TTL = 3600


class _Equipment:
    """What this process works with. RQ finds functions by name, so it has to stand in the module."""

    bench: pipeline.Workbench
    redis: Redis


def equip(settings: Settings, redis: Redis) -> None:
    """Set this process up as a worker.

    Raises:
        ImportError, AttributeError: RULES or NOTIFIER lead nowhere.
    """
    _Equipment.bench = pipeline.Workbench.from_settings(settings)
    _Equipment.redis = redis


def process_delivery(argument: Mapping[str, Any]) -> None:
    """Work off one delivery: the job that taking in queued."""
    process_deliveries([AcceptedDelivery.from_job_argument(argument)])


def process_deliveries(deliveries: Sequence[AcceptedDelivery]) -> None:
    """Work off many at once; where that fails, one by one, so that a bad one fails alone and ends up set aside.

    Raises:
        RecoverableError: PostgreSQL is away or busy. Some may be stored; doing it again changes nothing.
    """
    try:
        pipeline.process(deliveries, _Equipment.bench)
    except RecoverableError:
        raise
    except Exception:  # whatever it is, it must not cost the other deliveries
        log.warning("batch failed, working it off one by one", stage="store", batch_size=len(deliveries), exc_info=True)
        for delivery in deliveries:
            _process_alone(delivery)


def _process_alone(delivery: AcceptedDelivery) -> None:
    try:
        pipeline.process([delivery], _Equipment.bench)
    except RecoverableError:
        raise
    except PermanentError as error:
        pipeline.set_aside(delivery, error, stage="store")
    except Exception as error:  # a fault of ours: the delivery is kept, the trace is logged, the worker goes on
        log.exception("delivery failed", stage="store", delivery_id=delivery.delivery_id)
        pipeline.set_aside(delivery, NotStorable(type(error).__name__), stage="store")


def queue_notification(reason: str, group: GroupSnapshot) -> None:
    """The built-in notifier: a job on the ``notifications`` queue.

    Raises:
        redis.exceptions.RedisError: Redis is away; the notification is lost, the alert is not.
    """
    notice = {
        "reason": reason,
        "group_id": group.id,
        "workspace_id": group.workspace_id,
        "severity": group.severity.value,
        "status": group.status.value,
        "count": group.count,
    }
    jobs.queue(_Equipment.redis, jobs.NOTIFICATIONS).enqueue(
        jobs.NOTIFY,
        notice,
        description=f"{reason} group {group.id}",
        job_timeout=_NOTIFY_TIMEOUT,
        ttl=_NOTIFY_TTL,
        result_ttl=0,
        failure_ttl=_NOTIFY_TTL,
    )


def notify(notice: Mapping[str, Any]) -> None:
    """What the built-in notification does: it writes a log line. Replace NOTIFIER to do more."""
    log.info("notification", stage="notify", **notice)
