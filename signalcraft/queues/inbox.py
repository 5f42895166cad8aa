"""The inbox: a PostgreSQL table of acknowledged deliveries that are not in Redis, one row each.

Call everything inside ``database.session()``.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from peewee import SQL, fn

from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.storage.delivery_models import Inbox, columns_of, delivery_from_row
from signalcraft.storage.models import Workspace

#: A batch ends with the body that reaches this size: a batch of the largest deliveries would take a gigabyte of memory.
MAX_BATCH_BYTES: Final = 16 * 1024 * 1024

#: While nothing locks rows that were claimed, no other worker claims them for so long.
_CLAIM: Final = SQL("interval '2 s'")
_NAMES: Final = ("delivery_id", "delivery_key", "source", "resource")
_COLUMNS: Final = (*_NAMES, "headers_json", "body", "received_at")


class InboxRow(NamedTuple):
    """A row of the inbox: its id, the number of tries including this one, and the delivery."""

    row_id: int
    tries: int
    accepted: AcceptedDelivery


def add(accepted: AcceptedDelivery) -> str:
    """Add ``accepted`` unless its delivery key is there.

    Returns the delivery id of the row.
    """
    inserted = Inbox.insert(columns_of(accepted)).on_conflict_ignore().returning(Inbox.delivery_id).tuples().execute()
    if list(inserted):
        return accepted.delivery_id
    first = _waiting(accepted)
    return first or accepted.delivery_id  # None: a worker has just processed the first one


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


def begin_attempt(limit: int) -> list[int]:
    """Claim the oldest free rows, and increment their tries.

    Returns their ids. Up to ``limit`` rows and about ``MAX_BATCH_BYTES`` of bodies. A row that was tried before comes
    alone: if it killed a worker, it must not affect others. Commit before ``lock_rows``, or the count is lost if the
    worker dies.
    """
    locked: Any = (
        Inbox.select(Inbox.id, Inbox.tries, fn.octet_length(Inbox.body))
        .where(Inbox.claimed_at.is_null() | (Inbox.claimed_at < fn.now() - _CLAIM))
        .order_by(Inbox.id)
        .limit(limit)
        .for_update(skip_locked=True)
        .tuples()
    )
    ids, bytes_left = list[int](), MAX_BATCH_BYTES
    for row_id, tries, size in locked:
        if ids and (tries or bytes_left <= 0):
            break
        ids.append(row_id)
        bytes_left -= size
        if tries:
            break
    if ids:
        Inbox.update(tries=Inbox.tries + 1, claimed_at=fn.now()).where(Inbox.id.in_(ids)).execute()
    return ids


def claim(row_ids: Sequence[int]) -> None:
    """Claim rows again, at the end of the transaction that locks them."""
    if row_ids:
        Inbox.update(claimed_at=fn.clock_timestamp()).where(Inbox.id.in_(row_ids)).execute()


def undo_attempt(row_ids: Sequence[int]) -> None:
    """Give rows back after a failure that was not a crash, and decrement their tries."""
    if row_ids:
        Inbox.update(tries=Inbox.tries - 1, claimed_at=None).where(Inbox.id.in_(row_ids)).execute()


def lock_rows(row_ids: Sequence[int]) -> list[InboxRow]:
    """Lock the rows of ``begin_attempt`` until the transaction ends.

    Returns them, oldest first.
    """
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
    return [InboxRow(row["id"], row["tries"], delivery_from_row(row)) for row in rows]


def delete(row_ids: Iterable[int]) -> None:
    """Delete rows from the inbox."""
    Inbox.delete().where(Inbox.id.in_(list(row_ids))).execute()


def depth(workspace_id: int | None = None) -> int:
    """Return the number of deliveries in the inbox, of one workspace or of all."""
    return int(_of(workspace_id, Inbox.select()).count())


def oldest_received_at(workspace_id: int | None = None) -> datetime | None:
    """Return when the oldest delivery was received, of one workspace or of all.

    None if there is none.
    """
    moment: datetime | None = _of(workspace_id, Inbox.select(fn.min(Inbox.received_at))).scalar()
    return moment


def _of(workspace_id: int | None, query: Any) -> Any:  # noqa: ANN401 - Peewee's query
    return query if workspace_id is None else query.where(Inbox.workspace == workspace_id)


def has_rows() -> bool:
    """Return whether the inbox has rows."""
    return Inbox.select().exists()
