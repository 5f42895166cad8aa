"""Replay: process deliveries again that are stored raw.

A replay may be stopped and started again: an alert that is stored is not stored or counted twice, in no statistics
either.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import PermanentError, RecoverableError
from signalcraft.groups import record, validation
from signalcraft.groups.bursts import PendingEvent, pending_events
from signalcraft.sources import SOURCES
from signalcraft.storage import tenants
from signalcraft.storage.delivery_models import FailedDelivery, UnhandledDelivery, delivery_from_row
from signalcraft.storage.models import AlertEvent
from signalcraft.worker import process
from signalcraft.worker.context import WorkerContext

#: Deliveries that are read and processed at once.
BATCH_SIZE: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedDelivery:
    """A delivery that is stored raw; ``failed_id`` is its dead letter, ``source_event_id`` its stored event."""

    accepted: AcceptedDelivery
    failed_id: int | None = None
    source_event_id: str = ""


@dataclass(slots=True, kw_only=True)
class ReplayResult:
    """Counts of a replay.

    ``alerts`` were not stored before. ``still_failing`` deliveries cannot be processed today either.
    ``identity_changed`` are events that would have another id today, for example because it came from a header, and
    would count a second time: they stay as they are.
    """

    deliveries: int = 0
    alerts: int = 0
    still_failing: int = 0
    identity_changed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which deliveries to replay; what is None does not narrow it.

    ``failed``: dead letters that were not replayed, and of these perhaps only ``failed_id``; otherwise events and
    unhandled deliveries. Times are those of receipt: ``since`` inclusive, ``until`` exclusive.
    """

    failed: bool
    failed_id: int | None = None
    workspace_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self, table: Any) -> Iterator[Any]:  # noqa: ANN401 - Peewee's columns are descriptors
        """Yield the SQL conditions on a table."""
        yield table.id > 0  # WHERE needs one
        if self.failed_id is not None:
            yield table.id == self.failed_id
        if self.workspace_id is not None:
            yield table.workspace_id == self.workspace_id
        if self.since is not None:
            yield table.received_at >= self.since
        if self.until is not None:
            yield table.received_at < self.until
        if table is FailedDelivery:
            yield table.replayed_at.is_null()
        if table is AlertEvent:
            yield table.payload_json.is_null(is_null=False)


def count(selection: Selection) -> int:
    """Return how many deliveries a replay would read."""
    return sum(
        table.select().where(*selection.conditions(table)).count()
        for table in ((FailedDelivery,) if selection.failed else (AlertEvent, UnhandledDelivery))
    )


def retained_deliveries(selection: Selection) -> Iterator[Sequence[RetainedDelivery]]:
    """Yield pages of retained deliveries, oldest row first."""
    slugs = tenants.slugs()
    if selection.failed:
        yield from _pages(
            FailedDelivery, selection, lambda row: RetainedDelivery(accepted=_raw(row, slugs), failed_id=row["id"])
        )
        return
    yield from _pages(
        AlertEvent,
        selection,
        lambda row: RetainedDelivery(accepted=_of_event(row, slugs), source_event_id=row["source_event_id"]),
    )
    yield from _pages(UnhandledDelivery, selection, lambda row: RetainedDelivery(accepted=_raw(row, slugs)))


def _pages(
    table: Any,  # noqa: ANN401 - a Peewee model
    selection: Selection,
    read: Callable[[dict[str, Any]], RetainedDelivery],
) -> Iterator[Sequence[RetainedDelivery]]:
    last = 0
    while True:
        query = table.select().where(table.id > last, *selection.conditions(table)).order_by(table.id)
        rows = list(query.limit(BATCH_SIZE).dicts())
        if not rows:
            return
        last = rows[-1]["id"]
        yield [read(row) for row in rows]


def _raw(row: dict[str, Any], slugs: dict[int, str]) -> AcceptedDelivery:
    """Read a row of a table of raw deliveries.

    Its workspace column is a foreign key or a number.
    """
    workspace_id = row.get("workspace_id") or row["workspace"]
    return delivery_from_row(row | {"workspace_id": workspace_id, "workspace": slugs.get(workspace_id, "")})


def _of_event(row: dict[str, Any], slugs: dict[int, str]) -> AcceptedDelivery:
    return AcceptedDelivery(
        delivery_id=row["delivery_id"],
        delivery_key="",
        workspace_id=row["workspace"],
        workspace=slugs.get(row["workspace"], ""),
        source=row["source"],
        resource="",
        delivery=SOURCES[row["source"]].recall(row["payload_json"], row["received_at"]),
    )


def replay(
    page: Sequence[RetainedDelivery], context: WorkerContext, total: ReplayResult, *, dry_run: bool = False
) -> None:
    """Process ``page`` and add to ``total``.

    The original times of receipt are kept.

    Raises:
        DatabaseUnavailable: PostgreSQL is unavailable; start again later.
    """
    pending: list[PendingEvent] = []
    good: list[RetainedDelivery] = []
    for retained in page:
        try:
            events = _validated_events(retained.accepted, context)
        except Exception:  # noqa: BLE001 - the bug that dead-lettered the delivery may still be there
            total.still_failing += 1
            continue
        event_ids = {event.alert.source_event_id for event in events}
        if retained.source_event_id and retained.source_event_id not in event_ids:
            total.identity_changed += 1
            continue
        pending += events
        good.append(retained)
    total.deliveries += len(page)
    if dry_run:
        _preview(pending, context, total)
        return
    try:
        total.alerts += _process(good, context)
    except RecoverableError:
        raise
    except Exception:  # noqa: BLE001 - one of them must not affect the others
        for retained in good:
            total.alerts += _process_alone(retained, context, total)


def _preview(pending: Sequence[PendingEvent], context: WorkerContext, total: ReplayResult) -> None:
    """Count what would be stored.

    This tries all at once, or one by one if the database refuses some.
    """
    try:
        total.alerts += len(record.preview(pending, context.policy).events) if pending else 0
    except PermanentError:
        if len(pending) == 1:
            total.still_failing += 1
        else:
            for pending_event in pending:
                _preview([pending_event], context, total)


def _validated_events(accepted: AcceptedDelivery, context: WorkerContext) -> list[PendingEvent]:
    """Return the validated events of a delivery.

    They are those that it has with the current code.

    Raises:
        PermanentError: the delivery cannot be normalized, no alert of it can, or an event cannot be stored.
    """
    normalization = SOURCES[accepted.source].normalize(accepted.delivery, context.vocabulary)
    if normalization.failures and not normalization.outcomes:
        raise normalization.failures[0].error
    pending = pending_events(normalization, accepted)
    for pending_event in pending:
        validation.validate(pending_event)
    return pending


def _process(page: Sequence[RetainedDelivery], context: WorkerContext) -> int:
    """Process ``page`` and return the number of new alerts.

    Its dead letters are marked as replayed.
    """
    recorded = process.process([retained.accepted for retained in page], context)
    done = [retained.failed_id for retained in page if retained.failed_id is not None]
    if done:
        FailedDelivery.update(replayed_at=datetime.now(UTC)).where(FailedDelivery.id.in_(done)).execute()
    return len(recorded.events)


def _process_alone(retained: RetainedDelivery, context: WorkerContext, total: ReplayResult) -> int:
    try:
        return _process([retained], context)
    except RecoverableError:
        raise
    except Exception:  # noqa: BLE001 - it stays in its table, and is counted
        total.still_failing += 1
        return 0
