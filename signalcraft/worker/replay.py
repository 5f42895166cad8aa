"""A way back: deliveries that are kept raw, worked off once more.

It may be stopped and begun again: what is stored already is not stored, or counted, twice.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from signalcraft.domain.alerts import NormalizedAlert
from signalcraft.domain.deliveries import AcceptedDelivery, Delivery
from signalcraft.domain.errors import PermanentError, RecoverableError
from signalcraft.groups import record, validation
from signalcraft.groups.bursts import PendingEvent
from signalcraft.sources import SOURCES
from signalcraft.storage.models import AlertEvent, FailedDelivery, UnhandledDelivery, Workspace
from signalcraft.worker import process
from signalcraft.worker.context import WorkerContext

#: Deliveries that are read, and worked off, at once.
BATCH_SIZE: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedDelivery:
    """A delivery that is kept raw: ``failed_id`` is its row among those that failed, ``names`` the event it became."""

    accepted: AcceptedDelivery
    failed_id: int | None = None
    names: str = ""


@dataclass(slots=True, kw_only=True)
class ReplayResult:
    """What a replay came to.

    ``alerts`` were not stored before; ``again`` cannot be worked off today either; ``renamed`` are events that would
    have another name today, be it that it came with a header, and be counted a second time: they stay as they are.
    """

    deliveries: int = 0
    alerts: int = 0
    again: int = 0
    renamed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """When deliveries were received: from ``since`` on, before ``until``; None is without end."""

    since: datetime | None = None
    until: datetime | None = None

    def conditions(self, received_at: Any) -> Iterator[Any]:  # noqa: ANN401 - a Peewee field is a descriptor
        """The same in SQL."""
        if self.since is not None:
            yield received_at >= self.since
        if self.until is not None:
            yield received_at < self.until


def count(period: Period, *, failed: bool) -> int:
    """How many deliveries a replay would read."""
    return sum(
        table.select().where(*_all_of(table, period)).count()
        for table in ((FailedDelivery,) if failed else (AlertEvent, UnhandledDelivery))
    )


def retained_deliveries(period: Period, *, failed: bool) -> Iterator[Sequence[RetainedDelivery]]:
    """What is kept raw, oldest row first, some at a time: what failed; else events' bodies, and what meant nothing."""
    slugs = {workspace.id: workspace.slug for workspace in Workspace.select()}
    if failed:
        yield from _pages(
            FailedDelivery, period, lambda row: RetainedDelivery(accepted=_raw(row, slugs), failed_id=row["id"])
        )
        return
    yield from _pages(
        AlertEvent, period, lambda row: RetainedDelivery(accepted=_of_event(row, slugs), names=row["source_event_id"])
    )
    yield from _pages(UnhandledDelivery, period, lambda row: RetainedDelivery(accepted=_raw(row, slugs)))


def _all_of(table: Any, period: Period) -> list[Any]:  # noqa: ANN401 - Peewee's columns are descriptors
    conditions = [table.id > 0, *period.conditions(table.received_at)]
    if table is FailedDelivery:
        conditions.append(table.replayed_at.is_null())
    if table is AlertEvent:
        conditions.append(table.payload_json.is_null(is_null=False))
    return conditions


def _pages(
    table: Any,  # noqa: ANN401 - a Peewee model
    period: Period,
    read: Callable[[dict[str, Any]], RetainedDelivery],
) -> Iterator[Sequence[RetainedDelivery]]:
    last = 0
    while True:
        query = table.select().where(table.id > last, *_all_of(table, period)).order_by(table.id).limit(BATCH_SIZE)
        rows = list(query.dicts())
        if not rows:
            return
        last = rows[-1]["id"]
        yield [read(row) for row in rows]


def _raw(row: dict[str, Any], slugs: dict[int, str]) -> AcceptedDelivery:
    """Of a table that keeps the delivery as it came; its column for the workspace is a foreign key, or a number."""
    workspace_id = row.get("workspace_id") or row["workspace"]
    return AcceptedDelivery(
        workspace_id=workspace_id,
        workspace=slugs.get(workspace_id, ""),
        delivery=Delivery(headers=row["headers_json"], body=bytes(row["body"]), received_at=row["received_at"]),
        **{name: row[name] for name in ("delivery_id", "delivery_key", "source", "resource")},
    )


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
    some: Sequence[RetainedDelivery], context: WorkerContext, total: ReplayResult, *, dry_run: bool = False
) -> None:
    """Work ``some`` off as if they came now, at the time when they were received, and add to ``total``.

    Raises:
        DatabaseUnavailable: PostgreSQL is away; begin again later.
    """
    pending: list[PendingEvent] = []
    good: list[RetainedDelivery] = []
    for one in some:
        try:
            meant = _pending_events(one.accepted, context)
        except Exception:  # noqa: BLE001 - our own code may still stumble over what was set aside for that
            total.again += 1
            continue
        if one.names and one.names not in {pending_event.alert.source_event_id for pending_event in meant}:
            total.renamed += 1
            continue
        pending += meant
        good.append(one)
    total.deliveries += len(some)
    if dry_run:
        _preview(pending, context, total)
        return
    try:
        total.alerts += _process(good, context)
    except RecoverableError:
        raise
    except Exception:  # noqa: BLE001 - whatever one of them does, it is to cost no other
        for one in good:
            total.alerts += _process_alone(one, context, total)


def _preview(pending: Sequence[PendingEvent], context: WorkerContext, total: ReplayResult) -> None:
    """What would be stored: of all at once, or one by one where the database refuses some."""
    try:
        total.alerts += len(record.preview(pending, context.policy).events) if pending else 0
    except PermanentError:
        if len(pending) == 1:
            total.again += 1
        else:
            for pending_event in pending:
                _preview([pending_event], context, total)


def _pending_events(accepted: AcceptedDelivery, context: WorkerContext) -> list[PendingEvent]:
    """The alerts that a delivery means today, let past the border.

    Raises:
        PermanentError: it means none, or one that cannot be stored.
    """
    meaning = SOURCES[accepted.source].normalize(accepted.delivery, context.vocabulary)
    alerts = [outcome for outcome in meaning.outcomes if isinstance(outcome, NormalizedAlert)]
    pending = [PendingEvent.of(alert, accepted.delivery, workspace_id=accepted.workspace_id) for alert in alerts]
    for pending_event in pending:
        validation.validate(pending_event)
    return pending


def _process(some: Sequence[RetainedDelivery], context: WorkerContext) -> int:
    """How many alerts were not stored before."""
    recorded = process.process([one.accepted for one in some], context)
    done = [one.failed_id for one in some if one.failed_id is not None]
    if done:
        FailedDelivery.update(replayed_at=datetime.now(UTC)).where(FailedDelivery.id.in_(done)).execute()
    return len(recorded.events)


def _process_alone(one: RetainedDelivery, context: WorkerContext, total: ReplayResult) -> int:
    try:
        return _process([one], context)
    except RecoverableError:
        raise
    except Exception:  # noqa: BLE001 - it stays where it is kept, and is counted
        total.again += 1
        return 0
