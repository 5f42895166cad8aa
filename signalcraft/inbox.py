"""The shelf for acknowledged deliveries that Redis does not hold: a row each, which a worker takes from here.

Call everything inside ``models.session()``.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from peewee import fn

from signalcraft.alerts import AcceptedDelivery, Delivery
from signalcraft.models import FailedDelivery, Inbox, Workspace, columns_of

#: The most bytes of bodies that are worked off at once, beside the last one: a batch of the largest deliveries would
#: take a gigabyte.
MOST_BYTES: Final = 16 * 1024 * 1024

_NAMES: Final = ("delivery_id", "delivery_key", "source", "resource")
_KEPT: Final = (*_NAMES, "headers_json", "body", "received_at")


def keep(accepted: AcceptedDelivery) -> str:
    """Put ``accepted`` on the shelf, unless one with its delivery key is there; the delivery id of that one."""
    inserted = Inbox.insert(columns_of(accepted)).on_conflict_ignore().returning(Inbox.delivery_id).tuples().execute()
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


def take(most: int) -> dict[int, AcceptedDelivery]:
    """The oldest deliveries that no other worker has in hand, by row id, locked until the transaction ends.

    Up to ``most``, and up to ``MOST_BYTES`` of bodies.
    """
    locked: Any = (
        Inbox.select(Inbox.id, fn.octet_length(Inbox.body))
        .order_by(Inbox.id)
        .limit(most)
        .for_update(skip_locked=True)
        .tuples()
    )
    ids, room = [], MOST_BYTES
    for row_id, size in locked:
        if room <= 0:
            break
        ids.append(row_id)
        room -= size
    if not ids:
        return {}
    rows: Any = (
        Inbox.select(
            *(getattr(Inbox, name) for name in ("id", *_KEPT)),
            Inbox.workspace.alias("workspace_id"),
            Workspace.slug.alias("workspace"),
        )
        .join(Workspace)
        .where(Inbox.id.in_(ids))
        .order_by(Inbox.id)
        .dicts()
    )
    return {row["id"]: _read(row) for row in rows}


def remove(row_ids: Iterable[int]) -> None:
    """Take deliveries off the shelf for good."""
    Inbox.delete().where(Inbox.id.in_(list(row_ids))).execute()


def _read(row: Mapping[str, Any]) -> AcceptedDelivery:
    return AcceptedDelivery(
        delivery=Delivery(headers=row["headers_json"], body=bytes(row["body"]), received_at=row["received_at"]),
        workspace_id=row["workspace_id"],
        workspace=row["workspace"],
        **{name: row[name] for name in _NAMES},
    )


def depth() -> int:
    """How many deliveries are on the shelf."""
    return Inbox.select().count()


def waits() -> bool:
    """Whether anything is on the shelf."""
    return Inbox.select().exists()


def failed_since(moment: datetime) -> bool:
    """Whether a delivery was set aside at ``moment`` or later that was not replayed yet."""
    lately = FailedDelivery.select().where(FailedDelivery.replayed_at.is_null() & (FailedDelivery.failed_at >= moment))
    return lately.exists()


def failed_depth() -> int:
    """How many deliveries were set aside and not replayed yet."""
    return FailedDelivery.select().where(FailedDelivery.replayed_at.is_null()).count()
