"""Process batches of deliveries: prepare, record, conclude."""

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import structlog
from redis import Redis

from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import (
    PermanentError,
    QueueUnavailable,
    RecoverableError,
    StatementCanceled,
    TakesTooLong,
    UnreadableDelivery,
)
from signalcraft.groups import record
from signalcraft.logs import exception_fields
from signalcraft.queues import dead_letters, enqueue
from signalcraft.resilience import CircuitBreaker
from signalcraft.storage.database import constraint_name
from signalcraft.worker import canary, process
from signalcraft.worker.context import WorkerContext

log = structlog.get_logger(__name__)

#: The stored parts of a batch: one if it was stored at once, one for each delivery if one by one.
Outcome = Sequence[tuple[process.PreparedBatch, record.RecordResult]]

#: How often a delivery is stored alone if PostgreSQL cancels that each time. A server that was frozen, or is slow for a
#: while, cancels one or two tries of innocent deliveries.
MAX_CANCELED: Final = 5


@dataclass(frozen=True, slots=True)
class Batch:
    """Normalized deliveries, not stored yet; canaries are separate.

    ``alone`` has the outcomes of deliveries stored one by one, by delivery id: a second try does not store them again.
    """

    prepared: process.PreparedBatch
    canaries: Sequence[canary.Canary]
    alone: dict[str, Outcome] = field(default_factory=dict)


class Processor:
    """The stages by which a worker process turns deliveries into stored alerts."""

    def __init__(self, context: WorkerContext, redis: Redis) -> None:
        """Create a processor.

        ``redis`` is a client without retries, for calls that must not wait.
        """
        self.context = context
        self._redis = redis
        self._breaker = CircuitBreaker(QueueUnavailable)
        #: How often PostgreSQL canceled a delivery that was stored alone, by delivery id.
        self._canceled: Counter[str] = Counter()

    def process(self, deliveries: Sequence[AcceptedDelivery]) -> None:
        """Run all stages over ``deliveries``.

        Raises:
            RecoverableError: as ``record``.
        """
        self.conclude(self.record(self.prepare(deliveries)))

    def prepare(self, deliveries: Sequence[AcceptedDelivery]) -> Batch:
        """Normalize ``deliveries``."""
        vocabulary = self.context.vocabulary
        canaries = canary.find_canaries(deliveries, vocabulary)
        canary_ids = {found.accepted.delivery_id for found in canaries}
        others = [accepted for accepted in deliveries if accepted.delivery_id not in canary_ids]
        return Batch(process.prepare(others, vocabulary), canaries)

    def record(self, batch: Batch) -> Outcome:
        """Store a batch.

        If that fails, or PostgreSQL cancels it, its deliveries are stored one by one and the bad ones dead-lettered.

        Raises:
            RecoverableError: PostgreSQL is unavailable or busy. Some may be stored; a second call stores the others.
        """
        prepared, policy = batch.prepared, self.context.policy
        canary.process_canaries(batch.canaries, policy, self._redis)
        if not prepared.deliveries:
            return []
        if batch.alone or any(delivery.delivery_id in self._canceled for delivery in prepared.deliveries):
            return self._record_one_by_one(batch)
        try:
            return [(prepared, process.record(prepared, policy))]
        except RecoverableError as error:
            if not isinstance(error, StatementCanceled):
                raise
            log.warning(
                "batch canceled, processing one by one",
                stage="store",
                batch_size=len(prepared.deliveries),
                reason=str(error),
            )
            return self._record_one_by_one(batch)
        except Exception as error:  # noqa: BLE001 - it must not affect the other deliveries
            log.warning(
                "batch failed, processing one by one",
                stage="store",
                batch_size=len(prepared.deliveries),
                **exception_fields(error),
                constraint=constraint_name(error),
            )
            return self._record_one_by_one(batch)

    def reapply(self, outcome: Outcome) -> None:
        """Apply the status changes that ``record`` could not see.

        They were invisible while ``record`` was part of a larger transaction.

        Raises:
            RecoverableError: as ``record``.
        """
        for prepared, _ in outcome:
            process.reapply_after_commit(prepared)

    def conclude(self, outcome: Outcome) -> None:
        """Count and log what was stored, and wake the notifier if people may be told of it."""
        for prepared, recorded in outcome:
            process.conclude(prepared, recorded)
        if any(recorded.is_news or prepared.changes or prepared.ends for prepared, recorded in outcome):
            with contextlib.suppress(QueueUnavailable), self._breaker.guard():
                enqueue.wake_notifier(self._redis)

    def _record_one_by_one(self, batch: Batch) -> Outcome:
        """Store deliveries one by one.

        Raises:
            RecoverableError: as ``record``; if PostgreSQL canceled some, once the others are stored.
        """
        canceled: StatementCanceled | None = None
        for delivery in batch.prepared.deliveries:
            if delivery.delivery_id not in batch.alone:
                try:
                    batch.alone[delivery.delivery_id] = self._record_alone(delivery, batch)
                except StatementCanceled as error:
                    self._canceled[delivery.delivery_id] += 1
                    canceled = error
                else:
                    self._canceled.pop(delivery.delivery_id, None)
        if canceled is not None:
            raise canceled
        return list(chain.from_iterable(batch.alone.values()))

    def _record_alone(self, delivery: AcceptedDelivery, batch: Batch) -> Outcome:
        """Store one delivery of ``batch``, or dead-letter it."""
        try:
            if self._canceled[delivery.delivery_id] >= MAX_CANCELED:
                raise TakesTooLong  # noqa: TRY301 - told like others
            prepared = process.prepare_alone(delivery, batch.prepared, self.context.vocabulary)
            return [(prepared, process.record(prepared, self.context.policy))]
        except RecoverableError:
            raise
        except PermanentError as error:
            dead_letters.add(delivery, error, stage="store")
        except Exception as error:  # noqa: BLE001 - a bug: dead-letter the delivery and go on
            log.error("delivery failed", stage="store", delivery_id=delivery.delivery_id, **exception_fields(error))  # noqa: TRY400 - the fields have the traceback
            dead_letters.add(delivery, UnreadableDelivery(error), stage="store")
        return []
