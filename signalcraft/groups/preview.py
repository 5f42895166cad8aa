"""Where a delivery would land, were it sent now."""

from collections.abc import Sequence
from dataclasses import dataclass

from signalcraft.domain.alerts import FieldWarning, NormalizedAlert, StatusChange, Vocabulary
from signalcraft.domain.deliveries import Delivery
from signalcraft.domain.errors import InvalidFields, PermanentError
from signalcraft.domain.grouping import GroupingPolicy
from signalcraft.groups import record
from signalcraft.groups.bursts import PendingEvent, StoredEvent
from signalcraft.sources import SOURCES
from signalcraft.storage.database import session


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What would become of a delivery. ``stored`` is where its alert would go, None if it is stored already."""

    outcome: NormalizedAlert | StatusChange
    group_key: str
    stored: StoredEvent | None


def preview(
    delivery: Delivery,
    workspace_id: int,
    *,
    policy: GroupingPolicy,
    vocabulary: Vocabulary,
) -> tuple[Sequence[Preview], Sequence[FieldWarning]]:
    """Say what ``process`` would do with ``delivery`` now; its signature is not asked for, and nothing is stored.

    Raises:
        Refusal: it would be refused at the door, or set aside by the worker.
    """
    source = SOURCES["sentry"]
    source.identify(delivery)
    try:
        meaning = source.normalize(delivery, vocabulary)
    except PermanentError as error:
        raise InvalidFields(errors={error.field or "body": [str(error)]}) from error
    return [_preview(outcome, delivery, workspace_id, policy) for outcome in meaning.outcomes], meaning.warnings


def _preview(
    outcome: NormalizedAlert | StatusChange,
    delivery: Delivery,
    workspace_id: int,
    policy: GroupingPolicy,
) -> Preview:
    if isinstance(outcome, StatusChange):
        return Preview(outcome=outcome, group_key="", stored=None)
    pending_event = PendingEvent.of(outcome, delivery, workspace_id=workspace_id)
    with session():
        recorded = record.preview([pending_event], policy)
    return Preview(outcome=outcome, group_key=pending_event.group_key, stored=next(iter(recorded.events), None))
