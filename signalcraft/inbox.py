"""The shelf for acknowledged deliveries that Redis does not hold: a row each, which a worker takes from here.

Call everything inside ``models.session()``.
"""

from signalcraft.alerts import AcceptedDelivery
from signalcraft.models import FailedDelivery, Inbox


def keep(accepted: AcceptedDelivery) -> str:
    """Put ``accepted`` on the shelf, unless one with its delivery key is there; the delivery id of that one."""
    inserted = (
        Inbox.insert(
            workspace=accepted.workspace_id,
            delivery_id=accepted.delivery_id,
            delivery_key=accepted.delivery_key,
            source=accepted.source,
            resource=accepted.resource,
            headers_json=dict(accepted.delivery.headers),
            body=accepted.delivery.body,
            received_at=accepted.delivery.received_at,
        )
        .on_conflict_ignore()
        .returning(Inbox.delivery_id)
        .tuples()
        .execute()
    )
    if list(inserted):
        return accepted.delivery_id
    first = _waiting(accepted)
    return first or accepted.delivery_id  # none: a worker has just taken the first one from the shelf


def _waiting(accepted: AcceptedDelivery) -> str | None:
    found: str | None = (
        Inbox.select(Inbox.delivery_id)
        .where(
            (Inbox.workspace == accepted.workspace_id)
            & (Inbox.source == accepted.source)
            & (Inbox.delivery_key == accepted.delivery_key),
        )
        .scalar()
    )
    return found


def depth() -> int:
    """How many deliveries are on the shelf."""
    return Inbox.select().count()


def failed_depth() -> int:
    """How many deliveries were set aside and not replayed yet."""
    return FailedDelivery.select().where(FailedDelivery.replayed_at.is_null()).count()
