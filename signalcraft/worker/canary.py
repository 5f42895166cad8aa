"""Recognise canaries, store them, and remove them in the same transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from redis import Redis

from signalcraft.domain import grouping
from signalcraft.domain.alerts import NormalizedAlert, Vocabulary
from signalcraft.domain.deliveries import CANARY_PROJECT, AcceptedDelivery
from signalcraft.domain.errors import PermanentError
from signalcraft.groups import record
from signalcraft.groups.bursts import PendingEvent
from signalcraft.queues.canary_proof import prove
from signalcraft.sources import SOURCES
from signalcraft.storage.database import database, session
from signalcraft.storage.models import AlertEvent, AlertGroup, HourlyCount

log = structlog.get_logger(__name__)
_MARKER: Final = CANARY_PROJECT.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A delivery that is one, and what it holds."""

    accepted: AcceptedDelivery
    pending: Sequence[PendingEvent]


def find_canaries(deliveries: Iterable[AcceptedDelivery], vocabulary: Vocabulary) -> list[Canary]:
    """The canaries among ``deliveries``."""
    canaries = []
    for accepted in deliveries:
        pending = _pending_events(accepted, vocabulary) if _MARKER in accepted.delivery.body else []
        if pending:
            canaries.append(Canary(accepted=accepted, pending=pending))
    return canaries


def process_canaries(canaries: Iterable[Canary], policy: grouping.GroupingPolicy, redis: Redis) -> None:
    """Work off ``canaries``, and prove it.

    Raises:
        RecoverableError: PostgreSQL is away or busy.
    """
    for canary in canaries:
        try:
            _store_and_remove(canary.pending, policy)
        except PermanentError as error:
            log.warning("canary not stored", stage="canary", reason=str(error))
        else:
            prove(canary.accepted, redis)


def _pending_events(accepted: AcceptedDelivery, vocabulary: Vocabulary) -> list[PendingEvent]:
    """What a delivery that mentions a canary holds, if it is one; nothing if it is not."""
    try:
        outcomes = SOURCES[accepted.source].normalize(accepted.delivery, vocabulary).outcomes
    except Exception:  # noqa: BLE001 - whatever it is, the pipeline sets it aside with its reason
        return []
    alerts = [one for one in outcomes if isinstance(one, NormalizedAlert) and one.project == CANARY_PROJECT]
    return [
        PendingEvent.of(alert, accepted.delivery, workspace_id=accepted.workspace_id, delivery_id=accepted.delivery_id)
        for alert in alerts
    ]


def _store_and_remove(pending: Sequence[PendingEvent], policy: grouping.GroupingPolicy) -> None:
    """Everything that storing an alert is, and the opposite of it, committed together."""
    with session(), database.atomic():
        recorded = record.record(pending, policy)
        AlertEvent.delete().where(AlertEvent.id.in_([stored.event_id for stored in recorded.events])).execute()
        AlertGroup.delete().where(AlertGroup.id.in_(list(recorded.groups))).execute()
        HourlyCount.delete().where(HourlyCount.project == CANARY_PROJECT).execute()
