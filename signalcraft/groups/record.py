"""Writing to PostgreSQL: alerts with true counts under any concurrency, what sources say of them, what failed.

The scheme of ``record`` (``docs/grouping.md`` says why each step is as it is):

1. Insert the events; only rows that were not there before count.
2. Per group key, in one order for everybody, open a group or join the current one, if the window allows.
3. What the current group refused goes where ``grouping.place`` says: into an older group, or a new one.
4. Point the events at their groups, and see whether a group spiked.
5. Add to the counts of the hour.

No lock but the rows' own is taken, always in one order (``statements.LOCK_ORDER``), so transactions wait for each
other and never in a circle. Call everything here inside ``models.session()``.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType

import orjson

from signalcraft.domain.alerts import Decision, GroupSnapshot, GroupStatus, Severity
from signalcraft.domain.grouping import GroupingPolicy, bucket_start
from signalcraft.groups import hourly_counts, record_sql
from signalcraft.groups.assignment import Assignments, assign_events
from signalcraft.groups.bursts import PendingEvent, StoredEvent
from signalcraft.storage.database import database, translate_constraint_errors
from signalcraft.storage.sql import query


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordResult:
    """What a batch came to: where each alert that was not there before went, and each group it touched, by id.

    ``grouped_in`` is how many seconds finding those groups took.
    """

    events: Sequence[StoredEvent] = ()
    duplicates: int = 0
    grouped_in: float = 0.0
    groups: Mapping[int, GroupSnapshot] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def created(self) -> int:
        """How many groups were opened."""
        return len(self.decisions) - sum(decision is Decision.JOINED for decision in self.decisions.values())

    @property
    def updated(self) -> int:
        """How many groups that were there before were joined."""
        return len(self.groups) - self.created

    @property
    def decisions(self) -> Mapping[int, Decision]:
        """What happened to each group: why it was opened, else that it was joined."""
        decisions = {stored.group_id: stored.decision for stored in self.events}
        return decisions | {
            stored.group_id: stored.decision for stored in self.events if stored.decision is not Decision.JOINED
        }


def record(pending: Sequence[PendingEvent], policy: GroupingPolicy) -> RecordResult:
    """Store alerts of any workspaces and keys, each once, in one transaction.

    One that is there already adds only the rule that sent it.

    Raises:
        NotStorable: PostgreSQL refuses one of them; nothing was stored.
        DatabaseUnavailable: another transaction came first; nothing was stored, try again.
    """
    with translate_constraint_errors(), database.atomic():
        fresh = _insert_events(_merge_copies(pending))
        began = time.perf_counter()
        placements = assign_events(fresh, policy.window)
        grouped_in = time.perf_counter() - began
        _point_events(placements.events)
        _mark_spikes(placements, policy)
        hourly_counts.count(pending, placements.events)
        return RecordResult(
            events=placements.events,
            duplicates=len(pending) - len(fresh),
            grouped_in=grouped_in,
            groups=_snapshots(placements),
        )


def preview(pending: Sequence[PendingEvent], policy: GroupingPolicy) -> RecordResult:
    """What ``record`` would do now. Nothing is stored; groups that would be opened have ids that never come to be."""
    with database.atomic() as transaction:
        recorded = record(pending, policy)
        transaction.rollback()
        return recorded


def _merge_copies(pending: Iterable[PendingEvent]) -> list[PendingEvent]:
    """One pending_event an alert: the one received first, with the rules of all; in the order of their identities."""
    copies: dict[tuple[int, str, str], list[PendingEvent]] = defaultdict(list)
    for pending_event in pending:
        copies[pending_event.identity].append(pending_event)
    return [
        replace(
            min(copies[identity], key=lambda copy: copy.alert.received_at),
            rules=tuple(sorted({rule for copy in copies[identity] for rule in copy.rules})),
        )
        for identity in sorted(copies)
    ]


def _insert_events(pending: Sequence[PendingEvent]) -> dict[int, PendingEvent]:
    """Those that were not there yet, by the id they have now."""
    rows = query(
        record_sql.INSERT_EVENTS, record_sql.EVENT_COLUMNS, [_event_row(pending_event) for pending_event in pending]
    )
    by_identity = {pending_event.identity: pending_event for pending_event in pending}
    return {
        event_id: by_identity[workspace_id, source, source_event_id]
        for event_id, workspace_id, source, source_event_id, is_new in rows
        if is_new
    }


def _event_row(pending_event: PendingEvent) -> tuple[object, ...]:
    """In the order of ``statements.EVENT_COLUMNS``."""
    alert = pending_event.alert
    return (
        pending_event.workspace_id,
        alert.source,
        alert.source_event_id,
        pending_event.delivery_id,
        alert.project,
        alert.environment,
        alert.severity.value,
        alert.fingerprint,
        alert.issue_id,
        alert.title,
        alert.description,
        orjson.dumps(alert.tags).decode(),
        orjson.dumps(pending_event.rules).decode(),
        alert.link,
        alert.occurred_at,
        alert.received_at,
    )


def _point_events(stored_events: Iterable[StoredEvent]) -> None:
    rows = [
        (stored.event_id, stored.group_id, stored.decision.value, stored.pending.payload) for stored in stored_events
    ]
    query(record_sql.POINT_EVENTS, record_sql.HOME_COLUMNS, rows)


def _mark_spikes(placements: Assignments, policy: GroupingPolicy) -> None:
    """A group that spiked is one step worse from then on."""
    if not policy.spike_count:
        return
    buckets = {
        (stored.group_id, bucket_start(stored.pending.alert.received_at, policy.spike_minutes))
        for stored in placements.events
    }
    spiked = query(
        record_sql.MARK_SPIKES,
        record_sql.BUCKET_COLUMNS,
        sorted(buckets),
        spike_count=policy.spike_count,
        bucket=timedelta(minutes=policy.spike_minutes),
    )
    placements.escalated.update(group_id for (group_id,) in spiked)


def _snapshots(placements: Assignments) -> dict[int, GroupSnapshot]:
    opened = {stored.group_id for stored in placements.events if stored.decision is not Decision.JOINED}
    rows = query(
        record_sql.SNAPSHOTS,
        record_sql.SNAPSHOT_COLUMNS,
        sorted({(stored.group_id,) for stored in placements.events}),
    )
    names = tuple(GroupSnapshot.__dataclass_fields__)
    snapshots = (dict(zip(names, row, strict=False)) for row in rows)
    return {
        values["id"]: GroupSnapshot(
            **values
            | {
                "severity": Severity(values["severity"]),
                "status": GroupStatus(values["status"]),
                "escalated": values["id"] in placements.escalated - opened,
            },
        )
        for values in snapshots
    }
