"""Canaries in the worker: find them, store and remove them in one transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from redis import Redis

from signalcraft.domain import grouping
from signalcraft.domain.alerts import Vocabulary
from signalcraft.domain.deliveries import CANARY_PROJECT, AcceptedDelivery
from signalcraft.domain.errors import PermanentError
from signalcraft.groups import record
from signalcraft.groups.bursts import PendingEvent, pending_events
from signalcraft.queues.canary_proof import write_proof
from signalcraft.sources import SOURCES
from signalcraft.storage.database import database, session
from signalcraft.storage.models import AlertEvent, AlertGroup, HourlyCount

log = structlog.get_logger(__name__)
_MARKER: Final = CANARY_PROJECT.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A canary delivery and its events."""

    accepted: AcceptedDelivery
    pending: Sequence[PendingEvent]


def find_canaries(deliveries: Iterable[AcceptedDelivery], vocabulary: Vocabulary) -> list[Canary]:
    """Return the canaries among ``deliveries``."""
    canaries = []
    for accepted in deliveries:
        pending = _canary_events(accepted, vocabulary) if _MARKER in accepted.delivery.body else []
        if pending:
            canaries.append(Canary(accepted=accepted, pending=pending))
    return canaries


def process_canaries(canaries: Iterable[Canary], policy: grouping.GroupingPolicy, redis: Redis) -> None:
    """Store and remove each canary.

    Its proof is written to Redis.

    Raises:
        RecoverableError: PostgreSQL is unavailable or busy.
    """
    for canary in canaries:
        try:
            _store_and_remove(canary.pending, policy)
        except PermanentError as error:
            log.warning("canary not stored", stage="canary", reason=str(error))
        else:
            write_proof(canary.accepted, redis)


def _canary_events(accepted: AcceptedDelivery, vocabulary: Vocabulary) -> list[PendingEvent]:
    """Return the canary events of a delivery containing the marker.

    The list is empty if the delivery is no canary.
    """
    try:
        pending = pending_events(SOURCES[accepted.source].normalize(accepted.delivery, vocabulary), accepted)
    except Exception:  # noqa: BLE001 - ``process`` dead-letters it with its reason
        return []
    return [event for event in pending if event.alert.project == CANARY_PROJECT]


def _store_and_remove(pending: Sequence[PendingEvent], policy: grouping.GroupingPolicy) -> None:
    """Store the events and delete all their rows.

    They are stored as any others; both happen in one transaction.
    """
    with session(), database.atomic():
        recorded = record.record(pending, policy)
        AlertEvent.delete().where(AlertEvent.id.in_([stored.event_id for stored in recorded.events])).execute()
        AlertGroup.delete().where(AlertGroup.id.in_(list(recorded.group_ids))).execute()
        HourlyCount.delete().where(HourlyCount.project == CANARY_PROJECT).execute()
