"""The shelf for acknowledged deliveries that Redis does not hold: a row each, which a worker takes from here.

Call everything inside ``models.session()``.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from peewee import fn

from signalcraft.domain.deliveries import AcceptedDelivery, Delivery
from signalcraft.storage.database import database
from signalcraft.storage.models import Inbox, Workspace, columns_of

#: The most bytes of bodies that are worked off at once, beside the last one: a batch of the largest deliveries would
#: take a gigabyte.
MAX_BATCH_BYTES: Final = 16 * 1024 * 1024

#: Any number, as long as nobody else in this database locks by it.
_ADVISORY_LOCK_ID: Final = 0x5167_6E62
_NAMES: Final = ("delivery_id", "delivery_key", "source", "resource")
_COLUMNS: Final = (*_NAMES, "headers_json", "body", "received_at")


class InboxRow(NamedTuple):
    """A row of the shelf: its id, how often it was tried, this time included, and what it holds."""

    row_id: int
    tries: int
    accepted: AcceptedDelivery


def add(accepted: AcceptedDelivery) -> str:
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


def begin_attempt(most: int) -> list[int]:
    """Note that deliveries are being tried, the oldest that no other worker has in hand; the ids of their rows.

    Up to ``most``, and up to ``MOST_BYTES`` of bodies. One that was tried before comes alone: if it was what killed a
    worker, it must not take others with it. Commit before ``take``, or the note is gone with whoever dies; until then
    this connection keeps other workers from beginning, to whom the rows would look free.
    """
    database.execute_sql("SELECT pg_advisory_lock(%s)", (_ADVISORY_LOCK_ID,))
    locked: Any = (
        Inbox.select(Inbox.id, Inbox.tries, fn.octet_length(Inbox.body))
        .order_by(Inbox.id)
        .limit(most)
        .for_update(skip_locked=True)
        .tuples()
    )
    ids, room = list[int](), MAX_BATCH_BYTES
    for row_id, tries, size in locked:
        if ids and (tries or room <= 0):
            break
        ids.append(row_id)
        room -= size
        if tries:
            break
    if ids:
        Inbox.update(tries=Inbox.tries + 1).where(Inbox.id.in_(ids)).execute()
    return ids


def undo_attempt(row_ids: Sequence[int]) -> None:
    """Take back the last try of each: nobody died of it."""
    if row_ids:
        Inbox.update(tries=Inbox.tries - 1).where(Inbox.id.in_(row_ids)).execute()


def lock_rows(row_ids: Sequence[int]) -> list[InboxRow]:
    """Those of ``row_ids``, which ``begin`` gave, oldest first, locked until the transaction ends."""
    query = (
        Inbox.select(
            *(getattr(Inbox, name) for name in ("id", "tries", *_COLUMNS)),
            Inbox.workspace.alias("workspace_id"),
            Workspace.slug.alias("workspace"),
        )
        .join(Workspace)
        .where(Inbox.id.in_(row_ids))
        .order_by(Inbox.id)
        .for_update(of=Inbox, skip_locked=True)
        .dicts()
    )
    rows: Any = list(query) if row_ids else []
    database.execute_sql("SELECT pg_advisory_unlock(%s)", (_ADVISORY_LOCK_ID,))
    return [InboxRow(row["id"], row["tries"], _read(row)) for row in rows]


def delete(row_ids: Iterable[int]) -> None:
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


def oldest_received_at() -> datetime | None:
    """When the oldest on the shelf was received; None while it is empty."""
    moment: datetime | None = Inbox.select(fn.min(Inbox.received_at)).scalar()
    return moment


def has_rows() -> bool:
    """Whether anything is on the shelf."""
    return Inbox.select().exists()
