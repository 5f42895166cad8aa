"""What RQ runs, by name: the two functions that ``jobs.AllowedJob`` allows, and the built-in notifier.

A worker process calls ``equip`` once before it works.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis import Redis

from signalcraft import canary, jobs, models, pipeline, store
from signalcraft.alerts import AcceptedDelivery, GroupSnapshot
from signalcraft.breaker import Breaker
from signalcraft.errors import NotStorable, PermanentError, QueueUnavailable, RecoverableError
from signalcraft.logs import fault
from signalcraft.settings import Settings
from signalcraft.workbench import QueueNotification, Workbench

log = structlog.get_logger(__name__)


class _Equipment:
    """What this process works with. RQ finds functions by name, so it has to stand in the module."""

    bench: Workbench
    redis: Redis
    breaker: Breaker


def equip(settings: Settings, redis: Redis) -> Workbench:
    """Set this process up as a worker; ``redis`` is for what must not wait: a client without retries.

    Raises:
        InvalidSetting: RULES or NOTIFIER lead nowhere.
    """
    _Equipment.bench = Workbench.from_settings(settings)
    _Equipment.redis = redis
    _Equipment.breaker = Breaker(QueueUnavailable)
    return _Equipment.bench


def notifier() -> QueueNotification:
    """What NOTIFIER names."""
    return _Equipment.bench.queue_notification


def process_delivery(argument: Mapping[str, Any]) -> None:
    """Work off one delivery: the job that taking in queued."""
    process_deliveries([AcceptedDelivery.from_job_argument(argument)])


#: What was stored of a batch: all at once, or one by one.
Outcome = Sequence[tuple[pipeline.Prepared, store.Recorded]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Deliveries that are read and in our words; canaries go a way of their own.

    ``alone`` is what was stored of those that were worked off one by one: whatever comes between, they are not again.
    """

    prepared: pipeline.Prepared
    canaries: Sequence[canary.Canary]
    alone: dict[str, Outcome] = field(default_factory=dict)


def process_deliveries(deliveries: Sequence[AcceptedDelivery]) -> None:
    """Work off many at once, in three steps.

    Raises:
        RecoverableError: as ``record``.
    """
    conclude(record(prepare(deliveries)))


def prepare(deliveries: Sequence[AcceptedDelivery]) -> Batch:
    """Find out what ``deliveries`` mean."""
    vocabulary = _Equipment.bench.vocabulary
    canaries = canary.among(deliveries, vocabulary)
    apart = {one.accepted.delivery_id for one in canaries}
    others = [accepted for accepted in deliveries if accepted.delivery_id not in apart]
    return Batch(pipeline.prepare(others, vocabulary), canaries)


def record(batch: Batch) -> Outcome:
    """Store a batch; where that fails, one by one, so that a bad one fails alone and ends up set aside.

    Raises:
        RecoverableError: PostgreSQL is away or busy. Some may be stored; doing it again goes on with the others.
    """
    prepared, policy = batch.prepared, _Equipment.bench.policy
    canary.let_through(batch.canaries, policy, _Equipment.redis)
    if not prepared.deliveries:
        return []
    if batch.alone:
        return _record_one_by_one(batch)
    try:
        return [(prepared, pipeline.record(prepared, policy))]
    except RecoverableError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not cost the other deliveries
        log.warning(
            "batch failed, working it off one by one",
            stage="store",
            batch_size=len(prepared.deliveries),
            **fault(error),
            constraint=models.constraint_name(error),
        )
        return _record_one_by_one(batch)


def hear(outcome: Outcome) -> None:
    """Make up for what others stored and said while ``record`` was part of a transaction that is committed now.

    Raises:
        RecoverableError: as ``record``.
    """
    for prepared, _ in outcome:
        pipeline.hear(prepared)


def conclude(outcome: Outcome) -> None:
    """Say what became of a batch, and tell whom it concerns."""
    for prepared, recorded in outcome:
        pipeline.conclude(prepared, recorded, _Equipment.bench)


def _record_one_by_one(batch: Batch) -> Outcome:
    for delivery in batch.prepared.deliveries:
        if delivery.delivery_id not in batch.alone:
            batch.alone[delivery.delivery_id] = _record_alone(delivery)
    return [one for outcome in batch.alone.values() for one in outcome]


def _record_alone(delivery: AcceptedDelivery) -> Outcome:
    """What was stored of one delivery; nothing if it was set aside."""
    bench = _Equipment.bench
    try:
        prepared = pipeline.prepare([delivery], bench.vocabulary)
        return [(prepared, pipeline.record(prepared, bench.policy))]
    except RecoverableError:
        raise
    except PermanentError as error:
        pipeline.set_aside(delivery, error, stage="store")
    except Exception as error:  # noqa: BLE001 - a fault of ours: the delivery is kept, and the worker goes on
        log.error("delivery failed", stage="store", delivery_id=delivery.delivery_id, **fault(error))  # noqa: TRY400 - fault says why
        pipeline.set_aside(delivery, NotStorable(type(error).__name__), stage="store")
    return []


def queue_notification(reason: str, group: GroupSnapshot) -> None:
    """The built-in notifier: a job on the ``notifications`` queue.

    Raises:
        QueueUnavailable: Redis is away; the notification is lost, the alert is not.
    """
    notice = {
        "reason": reason,
        "group_id": group.id,
        "workspace_id": group.workspace_id,
        "severity": group.severity.value,
        "status": group.status.value,
        "count": group.count,
    }
    try:
        with _Equipment.breaker.guard():
            jobs.notify(_Equipment.redis, notice, description=f"notification of group {group.id}")
    except QueueUnavailable:
        if group.id:
            raise
        notify(notice)  # trouble of our own, which Redis may well be: it is not put off until that is over


def notify(notice: Mapping[str, Any]) -> None:
    """What the built-in notification does: it writes a log line. Replace NOTIFIER to do more."""
    log.info("notification", stage="notify", **notice)
