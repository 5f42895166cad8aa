"""Process deliveries in the worker: prepare, record, conclude.

``process`` runs over one delivery or five hundred alike, in three steps that a worker may also run one by one:
``prepare`` (normalize), ``record`` (group and store), and ``conclude`` (count and log), which loses no delivery.
``receive``, the step before, runs in the web process.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog

from signalcraft import metrics
from signalcraft.domain import grouping
from signalcraft.domain.alerts import AlertPart, Normalization, StatusChange, Vocabulary
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import NotStorable, PermanentError, UnreadableDelivery
from signalcraft.groups import episodes, source_updates, validation
from signalcraft.groups import record as groups_record
from signalcraft.groups.bursts import PendingEvent, pending_events
from signalcraft.logs import exception_fields
from signalcraft.queues import dead_letters
from signalcraft.queues.dead_letters import add_all
from signalcraft.sources import SOURCES
from signalcraft.storage.database import session
from signalcraft.worker.context import WorkerContext

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class PreparedBatch:
    """A normalized batch, not stored yet."""

    deliveries: Sequence[AcceptedDelivery]
    is_replay: bool = False
    pending: list[PendingEvent] = field(default_factory=list)
    changes: list[tuple[int, StatusChange]] = field(default_factory=list)
    #: Status changes of episodes.
    ends: list[tuple[int, StatusChange]] = field(default_factory=list)
    failures: list[tuple[AcceptedDelivery, PermanentError]] = field(default_factory=list)
    unhandled: list[AcceptedDelivery] = field(default_factory=list)
    #: Result of storing the alerts: if a later step fails, they are not stored or counted again.
    recorded: groups_record.RecordResult | None = None
    stored_in_seconds: float = 0.0

    @property
    def firing(self) -> list[episodes.Firing]:
        """The alerts that are episodes."""
        return [(event.workspace_id, event.alert) for event in self.pending if event.alert.is_episode]


def process(deliveries: Sequence[AcceptedDelivery], context: WorkerContext) -> groups_record.RecordResult:
    """Process ``deliveries`` again, for a replay; idempotent.

    A delivery that cannot be processed is dead-lettered with its reason; the others are stored all the same.

    Raises:
        RecoverableError, NotStorable: as ``record``.
    """
    prepared = prepare(deliveries, context.vocabulary)
    prepared.is_replay = True
    recorded = record(prepared, context.policy)
    conclude(prepared, recorded)
    return recorded


def prepare(deliveries: Sequence[AcceptedDelivery], vocabulary: Vocabulary) -> PreparedBatch:
    """Normalize ``deliveries``.

    This uses no storage, so it may run while another batch is stored.
    """
    prepared = PreparedBatch(deliveries)
    with metrics.timed("signalcraft_stage_seconds", stage="normalize"):
        for accepted in deliveries:
            try:
                _normalize(accepted, vocabulary, prepared)
            except PermanentError as error:
                prepared.failures.append((accepted, error))
            except Exception as error:  # noqa: BLE001 - a bug in reading one delivery must not affect others
                why = exception_fields(error)
                log.error("delivery unreadable", stage="normalize", delivery_id=accepted.delivery_id, **why)  # noqa: TRY400
                prepared.failures.append((accepted, UnreadableDelivery(error)))
    return prepared


def prepare_alone(delivery: AcceptedDelivery, batch: PreparedBatch, vocabulary: Vocabulary) -> PreparedBatch:
    """Normalize a delivery of ``batch``, whose alerts may be stored already."""
    prepared = prepare([delivery], vocabulary)
    if batch.recorded is not None:
        events = [stored for stored in batch.recorded.events if stored.pending.delivery_id == delivery.delivery_id]
        prepared.recorded = replace(batch.recorded, events=events, duplicates=len(prepared.pending) - len(events))
    return prepared


def record(prepared: PreparedBatch, policy: grouping.GroupingPolicy) -> groups_record.RecordResult:
    """Store a batch.

    Once this returns, no delivery of it can be lost.

    Raises:
        RecoverableError: PostgreSQL is unavailable or busy: try again later.
        NotStorable: PostgreSQL refuses one of several deliveries: process them one by one.
    """
    began = time.perf_counter()
    with session():
        add_all(prepared.failures, stage="normalize")
        dead_letters.add_unhandled(prepared.unhandled)
        recorded = _store(prepared, policy)
    prepared.stored_in_seconds = time.perf_counter() - began
    return recorded


def reapply_after_commit(prepared: PreparedBatch) -> None:
    """Apply status changes that were invisible inside the transaction.

    While ``record`` was part of a larger transaction, others may have stored the alerts of its status changes, or
    status changes of its alerts.

    Raises:
        RecoverableError: as ``record``.
    """
    with session():
        changed = _apply_missed_updates(prepared) + source_updates.reapply(prepared.changes)
        changed += episodes.follow(prepared.firing, prepared.ends)
    metrics.count("signalcraft_status_changes_total", changed)


def conclude(prepared: PreparedBatch, recorded: groups_record.RecordResult) -> None:
    """Count what was committed, and log each delivery."""
    metrics.count("signalcraft_alerts_total", len(recorded.events))
    metrics.count("signalcraft_duplicates_total", recorded.duplicates)
    metrics.count("signalcraft_groups_created_total", recorded.created)
    metrics.count("signalcraft_groups_updated_total", recorded.updated)
    for decision, alerts in Counter(stored.decision for stored in recorded.events).items():
        metrics.count("signalcraft_decisions_total", alerts, decision=decision.value)
    _log_deliveries(prepared, recorded)


def _normalize(accepted: AcceptedDelivery, vocabulary: Vocabulary, prepared: PreparedBatch) -> None:
    normalization = SOURCES[accepted.source].normalize(accepted.delivery, vocabulary)
    for warning in normalization.warnings:
        log.info(
            "field cleaned or missing",
            stage="normalize",
            delivery_id=accepted.delivery_id,
            workspace=accepted.workspace,
            field=warning.field,
            problem=warning.problem,
        )
    prepared.failures += [(_alone(accepted, failure.part), failure.error) for failure in normalization.failures]
    prepared.pending += _validated(normalization, accepted, prepared)
    changes = [outcome for outcome in normalization.outcomes if isinstance(outcome, StatusChange)]
    for change in changes:
        log.info(
            "status change received",
            stage="normalize",
            delivery_id=accepted.delivery_id,
            workspace=accepted.workspace,
            change=change.change.value,
            substatus=change.substatus or None,
        )
    for change in changes:
        (prepared.ends if change.event_id else prepared.changes).append((accepted.workspace_id, change))
    if not normalization.outcomes and not normalization.failures:
        prepared.unhandled.append(accepted)
        if normalization.warnings:
            log.warning(
                "delivery without effect kept raw",
                stage="normalize",
                delivery_id=accepted.delivery_id,
                workspace=accepted.workspace,
                resource=accepted.resource,
                fields=[warning.field for warning in normalization.warnings],
            )


def _validated(normalization: Normalization, accepted: AcceptedDelivery, prepared: PreparedBatch) -> list[PendingEvent]:
    """Return the events that can be stored.

    Raises:
        NotStorable: the delivery's only one cannot be.
    """
    valid = []
    for pending_event in pending_events(normalization, accepted):
        try:
            validation.validate(pending_event)
        except NotStorable as error:
            part = pending_event.alert.part
            if part is None:
                raise
            prepared.failures.append((_alone(accepted, part), error))
        else:
            valid.append(pending_event)
    return valid


def _alone(accepted: AcceptedDelivery, part: AlertPart) -> AcceptedDelivery:
    """Return the delivery of one alert alone, which a replay of its dead letter reads."""
    delivery = replace(accepted.delivery, body=part.body)
    return replace(accepted, delivery_id=f"{accepted.delivery_id}:{part.place}", delivery=delivery)


def _store(prepared: PreparedBatch, policy: grouping.GroupingPolicy) -> groups_record.RecordResult:
    """Store the alerts, then apply missed and new status changes.

    Each step is in a transaction of its own.
    """
    with metrics.timed("signalcraft_stage_seconds", stage="store"):
        if prepared.recorded is None:
            metrics.count("signalcraft_status_changes_total", episodes.apply_repeats(prepared.firing))
            prepared.recorded = (
                groups_record.record(prepared.pending, policy, is_replay=prepared.is_replay)
                if prepared.pending
                else groups_record.RecordResult()
            )
            metrics.observe("signalcraft_stage_seconds", prepared.recorded.grouped_in, stage="group")
        changed = _apply_missed_updates(prepared) + source_updates.apply_status_changes(prepared.changes)
        changed += episodes.follow(prepared.firing, prepared.ends)
        metrics.count("signalcraft_status_changes_total", changed)
    return prepared.recorded


def _apply_missed_updates(prepared: PreparedBatch) -> int:
    return source_updates.apply_missed_updates(
        (pending_event.workspace_id, pending_event.alert) for pending_event in prepared.pending
    )


def _log_deliveries(prepared: PreparedBatch, recorded: groups_record.RecordResult) -> None:
    """Log one line for each delivery that is not dead-lettered as a whole.

    Of many alerts it names one: ``alerts`` says how many are new, ``dead_letters`` how many cannot be processed.
    """
    failed = {accepted.delivery_id for accepted, _ in prepared.failures}
    failed_parts = Counter(delivery_id.rpartition(":")[0] for delivery_id in failed)
    alerts = Counter(stored.pending.delivery_id for stored in recorded.events)
    stored_events = {stored.pending.delivery_id: stored for stored in recorded.events}
    for accepted in prepared.deliveries:
        if accepted.delivery_id in failed:
            continue
        stored = stored_events.get(accepted.delivery_id)
        log.info(
            "delivery processed",
            stage="store",
            delivery_id=accepted.delivery_id,
            workspace=accepted.workspace,
            source=accepted.source,
            resource=accepted.resource,
            event_id=stored.event_id if stored else None,
            group_id=stored.group_id if stored else None,
            decision=stored.decision.value if stored else None,
            alerts=alerts[accepted.delivery_id],
            dead_letters=failed_parts[accepted.delivery_id],
            duration_ms=round(prepared.stored_in_seconds * 1000, 2),
            bytes=len(accepted.delivery.body),
        )
