"""Dry run: the group to which a delivery would be assigned now."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from signalcraft.domain.alerts import Decision, FieldWarning, NormalizedAlert, StatusChange, Vocabulary
from signalcraft.domain.deliveries import Delivery
from signalcraft.domain.errors import InvalidFields, PermanentError
from signalcraft.domain.grouping import GroupingPolicy
from signalcraft.groups import record
from signalcraft.groups.bursts import PendingEvent, StoredEvent
from signalcraft.sources import Source
from signalcraft.storage.database import database, session
from signalcraft.storage.models import AlertEvent

#: Alerts of a delivery that are previewed: each takes some 10 ms of a connection and of the processor.
MAX_ALERTS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The result of a dry run.

    ``stored`` is None for a status change or a duplicate. ``group_id`` is the existing group that the alert would join,
    or is in.
    """

    outcome: NormalizedAlert | StatusChange
    group_key: str = ""
    stored: StoredEvent | None = None
    group_id: int | None = None


def preview(
    delivery: Delivery,
    source: Source,
    workspace_id: int,
    *,
    policy: GroupingPolicy,
    vocabulary: Vocabulary,
) -> tuple[Sequence[Preview], Sequence[FieldWarning]]:
    """Return what processing ``delivery`` now would do.

    Its field warnings are returned with it. The signature is not verified, and nothing is stored.

    Raises:
        Refusal: the delivery would be refused on receipt, or dead-lettered by the worker.
        InvalidFields: it has more than ``MAX_ALERTS`` alerts.
    """
    source.identify(delivery, vocabulary)
    try:
        normalization = source.normalize(delivery, vocabulary)
    except PermanentError as error:
        raise InvalidFields(errors={error.field or "body": [str(error)]}) from error
    if len(normalization.outcomes) > MAX_ALERTS:
        raise InvalidFields(errors={"body": [f"A preview has at most {MAX_ALERTS} alerts."]})
    with session(), database.atomic():
        previews = [_preview(outcome, delivery, workspace_id, policy) for outcome in normalization.outcomes]
    return previews, normalization.warnings


def _preview(
    outcome: NormalizedAlert | StatusChange,
    delivery: Delivery,
    workspace_id: int,
    policy: GroupingPolicy,
) -> Preview:
    if isinstance(outcome, StatusChange):
        return Preview(outcome=outcome)
    pending_event = PendingEvent.of(outcome, delivery, workspace_id=workspace_id)
    stored = next(iter(record.preview([pending_event], policy).events), None)
    group_id = _group_of_stored(pending_event) if stored is None else None
    if stored is not None and stored.decision is Decision.JOINED:
        group_id = stored.group_id
    settled = stored.pending if stored else pending_event
    return Preview(outcome=settled.alert, group_key=settled.group_key, stored=stored, group_id=group_id)


def _group_of_stored(pending_event: PendingEvent) -> int | None:
    workspace_id, source, source_event_id = pending_event.identity
    query = AlertEvent.select(AlertEvent.alert_group).where(
        AlertEvent.workspace == workspace_id,
        AlertEvent.source == source,
        AlertEvent.source_event_id == source_event_id,
    )
    found: tuple[int] | None = query.tuples().first()
    return found[0] if found else None
