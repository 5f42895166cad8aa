"""Dry run: the group to which a delivery would be assigned now."""

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
    """The result of a dry run; ``stored`` is None for a status change or a duplicate."""

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
    """Return what processing ``delivery`` now would do.

    Its field warnings are returned with it. The signature is not verified, and nothing is stored.

    Raises:
        Refusal: the delivery would be refused on receipt, or dead-lettered by the worker.
    """
    source = SOURCES["sentry"]
    source.identify(delivery)
    try:
        normalization = source.normalize(delivery, vocabulary)
    except PermanentError as error:
        raise InvalidFields(errors={error.field or "body": [str(error)]}) from error
    return [
        _preview(outcome, delivery, workspace_id, policy) for outcome in normalization.outcomes
    ], normalization.warnings


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
    stored = next(iter(recorded.events), None)
    settled = stored.pending if stored else pending_event
    return Preview(outcome=settled.alert, group_key=settled.group_key, stored=stored)
