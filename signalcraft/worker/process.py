"""The life of an alert: taken in by ``receive``, worked off by ``process``.

``receive`` runs in the web process and is done in milliseconds: verify, limit, identify, queue. ``process`` runs in
the worker, over one delivery or five hundred alike, in three steps that a worker may also take one by one:
``prepare`` (normalize), ``record`` (group and store), and ``conclude`` (log, rules, notifications), where nothing can
be lost any more.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from signalcraft import metrics
from signalcraft.domain import grouping
from signalcraft.domain.alerts import NormalizedAlert, StatusChange, Vocabulary
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import PermanentError, UnreadableDelivery
from signalcraft.groups import record as groups_record
from signalcraft.groups import source_updates, validation
from signalcraft.groups.bursts import PendingEvent
from signalcraft.logs import exception_fields
from signalcraft.queues import dead_letters
from signalcraft.queues.dead_letters import add_all
from signalcraft.sources import SOURCES
from signalcraft.storage.database import session
from signalcraft.worker import notify
from signalcraft.worker.context import WorkerContext

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class PreparedBatch:
    """A batch in our words, and nothing of it stored yet."""

    deliveries: Sequence[AcceptedDelivery]
    pending: list[PendingEvent] = field(default_factory=list)
    changes: list[tuple[int, StatusChange]] = field(default_factory=list)
    failures: list[tuple[AcceptedDelivery, PermanentError]] = field(default_factory=list)
    unhandled: list[AcceptedDelivery] = field(default_factory=list)
    #: What storing its alerts came to, once that is committed: whatever fails then, it is not done or counted again.
    recorded: groups_record.RecordResult | None = None
    stored_in: float = 0.0


def process(deliveries: Sequence[AcceptedDelivery], context: WorkerContext) -> groups_record.RecordResult:
    """Work off ``deliveries``. Doing it again changes nothing.

    One that cannot be worked off is set aside with its reason; the others are stored all the same.

    Raises:
        RecoverableError, NotStorable: as ``record``.
    """
    prepared = prepare(deliveries, context.vocabulary)
    recorded = record(prepared, context.policy)
    conclude(prepared, recorded, context)
    return recorded


def prepare(deliveries: Sequence[AcceptedDelivery], vocabulary: Vocabulary) -> PreparedBatch:
    """What ``deliveries`` mean. Touches nothing but the log: it may run while others are stored."""
    prepared = PreparedBatch(deliveries)
    with metrics.timed("signalcraft_stage_seconds", stage="normalize"):
        for accepted in deliveries:
            try:
                _normalize(accepted, vocabulary, prepared)
            except PermanentError as error:
                prepared.failures.append((accepted, error))
            except Exception as error:  # noqa: BLE001 - a fault of ours in reading one: it must cost none of the others
                why = exception_fields(error)
                log.error("delivery unreadable", stage="normalize", delivery_id=accepted.delivery_id, **why)  # noqa: TRY400
                prepared.failures.append((accepted, UnreadableDelivery(type(error).__name__)))
    return prepared


def record(prepared: PreparedBatch, policy: grouping.GroupingPolicy) -> groups_record.RecordResult:
    """Store a batch; once this returns, no delivery of it can be lost.

    Raises:
        RecoverableError: PostgreSQL is away or busy: try again later.
        NotStorable: PostgreSQL refuses what one of several deliveries holds: work them off one by one.
    """
    began = time.perf_counter()
    with session():
        add_all(prepared.failures, stage="normalize")
        dead_letters.add_unhandled(prepared.unhandled)
        recorded = _store(prepared, policy)
    prepared.stored_in = time.perf_counter() - began
    return recorded


def reapply_after_commit(prepared: PreparedBatch) -> None:
    """Make up for what nobody saw while ``record`` was part of a larger transaction, which is committed now.

    Others may have stored alerts that its changes are about, and said what is about its alerts.

    Raises:
        RecoverableError: as ``record``.
    """
    with session():
        changed = _apply_missed_updates(prepared) + source_updates.reapply(prepared.changes)
    metrics.count("signalcraft_status_changes_total", changed)


def conclude(prepared: PreparedBatch, recorded: groups_record.RecordResult, context: WorkerContext) -> None:
    """Say what became of each delivery, and tell whom it concerns."""
    _log_deliveries(prepared, recorded)
    notify.notify(recorded, context)


def _normalize(accepted: AcceptedDelivery, vocabulary: Vocabulary, prepared: PreparedBatch) -> None:
    meaning = SOURCES[accepted.source].normalize(accepted.delivery, vocabulary)
    for warning in meaning.warnings:
        log.info(
            "field cleaned or missing",
            stage="normalize",
            delivery_id=accepted.delivery_id,
            workspace=accepted.workspace,
            field=warning.field,
            problem=warning.problem,
        )
    alerts = [outcome for outcome in meaning.outcomes if isinstance(outcome, NormalizedAlert)]
    workspace_id, delivery_id = accepted.workspace_id, accepted.delivery_id
    pending = [
        PendingEvent.of(alert, accepted.delivery, workspace_id=workspace_id, delivery_id=delivery_id)
        for alert in alerts
    ]
    for pending_event in pending:
        validation.validate(pending_event)
    prepared.pending += pending
    changed = [outcome for outcome in meaning.outcomes if isinstance(outcome, StatusChange)]
    for one in changed:
        log.info(
            "status change received",
            stage="normalize",
            delivery_id=delivery_id,
            workspace=accepted.workspace,
            change=one.change.value,
            substatus=one.substatus or None,
        )
    prepared.changes += [(workspace_id, one) for one in changed]
    if not meaning.outcomes:
        prepared.unhandled.append(accepted)


def _store(prepared: PreparedBatch, policy: grouping.GroupingPolicy) -> groups_record.RecordResult:
    """Alerts first, then what the source says of their groups and has said, each in a transaction of its own."""
    with metrics.timed("signalcraft_stage_seconds", stage="store"):
        if prepared.recorded is None:
            prepared.recorded = (
                groups_record.record(prepared.pending, policy) if prepared.pending else groups_record.RecordResult()
            )
            _count(prepared.recorded)
        changed = _apply_missed_updates(prepared) + source_updates.apply_status_changes(prepared.changes)
        metrics.count("signalcraft_status_changes_total", changed)
    return prepared.recorded


def _apply_missed_updates(prepared: PreparedBatch) -> int:
    return source_updates.apply_missed_updates(
        (pending_event.workspace_id, pending_event.alert) for pending_event in prepared.pending
    )


def _count(recorded: groups_record.RecordResult) -> None:
    metrics.observe("signalcraft_stage_seconds", recorded.grouped_in, stage="group")
    metrics.count("signalcraft_alerts_total", len(recorded.events))
    metrics.count("signalcraft_duplicates_total", recorded.duplicates)
    metrics.count("signalcraft_groups_created_total", recorded.created)
    metrics.count("signalcraft_groups_updated_total", recorded.updated)
    for stored in recorded.events:
        metrics.count("signalcraft_decisions_total", decision=stored.decision.value)


def _log_deliveries(prepared: PreparedBatch, recorded: groups_record.RecordResult) -> None:
    """One line a delivery: what became of it."""
    failed = {accepted.delivery_id for accepted, _ in prepared.failures}
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
            duration_ms=round(prepared.stored_in * 1000, 2),
            bytes=len(accepted.delivery.body),
        )
