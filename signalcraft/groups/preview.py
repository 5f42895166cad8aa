"""Where a delivery would land, were it sent now."""

from collections.abc import Sequence
from dataclasses import dataclass

from signalcraft.domain.alerts import FieldWarning, NormalizedAlert, StatusChange, Vocabulary
from signalcraft.domain.deliveries import Delivery
from signalcraft.domain.errors import InvalidFields, PermanentError
from signalcraft.domain.grouping import Policy
from signalcraft.groups import record
from signalcraft.groups.bursts import Arrival, Home
from signalcraft.sources import SOURCES
from signalcraft.storage.database import session


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What would become of a delivery. ``home`` is where its alert would go, None if it is stored already."""

    outcome: NormalizedAlert | StatusChange
    group_key: str
    home: Home | None


def preview(
    delivery: Delivery,
    workspace_id: int,
    *,
    policy: Policy,
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
    policy: Policy,
) -> Preview:
    if isinstance(outcome, StatusChange):
        return Preview(outcome=outcome, group_key="", home=None)
    arrival = Arrival.of(outcome, delivery, workspace_id=workspace_id)
    with session():
        recorded = record.preview([arrival], policy)
    return Preview(outcome=outcome, group_key=arrival.group_key, home=next(iter(recorded.homes), None))
