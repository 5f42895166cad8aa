"""Assignment of new events to groups: upserts in rounds, then the events those refuse, one by one.

``record.record`` calls this inside its transaction. ``domain.grouping`` defines the rule; this module applies it to
rows that other transactions change at the same time.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import zip_longest

from signalcraft.domain.alerts import Decision, GroupStatus, Severity
from signalcraft.domain.grouping import Assignment, Span, assign, reason_to_open
from signalcraft.domain.lifecycle import Trigger, snooze_holds
from signalcraft.groups import record_sql
from signalcraft.groups.bursts import AssignedEvent, Burst, PendingEvent, burst_rounds, received_at
from signalcraft.storage.sql import query


@dataclass(slots=True)
class Assignments:
    """The events of a batch with their groups, and the ids of groups whose severity rose.

    ``counts`` has the number of alerts of each group that can still spike.
    """

    events: list[AssignedEvent] = field(default_factory=list)
    escalated: set[int] = field(default_factory=set)
    counts: dict[int, int] = field(default_factory=dict)

    def add(self, burst: Burst, group_id: int, decision: Decision) -> None:
        """Add the events of a burst.

        ``decision`` is that of the first event; the others joined.
        """
        for position, pending_event in enumerate(burst.events):
            own = decision if position == 0 else Decision.JOINED
            self.events.append(AssignedEvent(pending=pending_event, group_id=group_id, decision=own))


@dataclass(frozen=True, slots=True)
class _JoinedGroup:
    """A group that a burst joined, with its severity and status from before."""

    group_id: int
    burst: Burst
    severity: Severity
    status: GroupStatus
    snoozed_until: datetime | None

    @property
    def is_worse(self) -> bool:
        return self.burst.severity.rank > self.severity.rank

    @property
    def trigger(self) -> Trigger | None:
        """The trigger that changes severity or status, if any."""
        if self.is_worse:
            return Trigger.WORSE_ALERT
        is_snoozed = self.status is GroupStatus.SNOOZED
        if is_snoozed and not snooze_holds(self.status, self.snoozed_until, self.burst.last_seen_at):
            return Trigger.SNOOZE_END
        return None


def assign_events(events: Iterable[PendingEvent], window: timedelta) -> Assignments:
    """Assign each event to an existing or new group."""
    assignments = Assignments()
    for bursts in burst_rounds(events, window):
        opened, refused = _upsert(bursts, window, assignments)
        _assign_individually([*refused, *_link_previous_groups(opened, assignments)], window, assignments)
    return assignments


def _upsert(
    bursts: Sequence[Burst],
    window: timedelta,
    assignments: Assignments,
) -> tuple[dict[int, Burst], list[Burst]]:
    """Open a group per burst or join the current one.

    Return the bursts that opened a group, by its id, and the bursts that the current group refused.
    """
    refused = {burst.key: burst for burst in bursts}
    opened: dict[int, Burst] = {}
    joined: list[_JoinedGroup] = []
    rows = [tuple(burst.row.values()) for burst in bursts]
    results = query(record_sql.UPSERT_GROUPS, record_sql.GROUP_COLUMNS, rows, window=window)
    for group_id, workspace_id, group_key, severity, status, snoozed_until, count, is_new in results:
        burst = refused.pop((workspace_id, group_key))
        if count is not None:
            assignments.counts[group_id] = count
        if is_new:
            opened[group_id] = burst
        else:
            joined.append(_JoinedGroup(group_id, burst, Severity(severity), GroupStatus(status), snoozed_until))
    _update_severity_and_status(joined, assignments)
    return opened, list(refused.values())


def _update_severity_and_status(joined: Iterable[_JoinedGroup], assignments: Assignments) -> None:
    """Raise severities, break acks and snoozes.

    The joining statement has locked the rows.
    """
    changes = []
    for group in joined:
        assignments.add(group.burst, group.group_id, Decision.JOINED)
        if group.trigger is not None:
            changes.append((group.group_id, group.burst.severity.value, group.trigger.value))
        if group.is_worse:
            assignments.escalated.add(group.group_id)
    query(record_sql.UPDATE_SEVERITY_AND_STATUS, record_sql.TRIGGER_COLUMNS, changes)


def _link_previous_groups(opened: Mapping[int, Burst], assignments: Assignments) -> list[Burst]:
    """Link opened groups to the previous group of their key.

    Return the bursts that belong to another group; the groups opened for them are deleted. A burst belongs to another
    group if the previous group was resolved only after the burst was received, or is newer than the burst.
    """
    keys = [(group_id, *burst.key) for group_id, burst in opened.items()]
    found = query(record_sql.FIND_PREVIOUS, record_sql.OPENED_COLUMNS, keys)
    previous = {group_id: _span(row) for group_id, *row in found}
    wrongly_opened = {
        group_id
        for group_id, span in previous.items()
        if max(span.last_seen_at, span.resolved_at or span.last_seen_at) >= opened[group_id].first_seen_at
    }
    links = [
        (group_id, span.group_id, span.resolved_at)
        for group_id, span in previous.items()
        if group_id not in wrongly_opened
    ]
    query(record_sql.LINK_PREVIOUS, record_sql.LINK_COLUMNS, links)
    query(record_sql.DELETE_GROUPS, {"id": "bigint"}, [(group_id,) for group_id in wrongly_opened])
    for group_id, burst in opened.items():
        if group_id not in wrongly_opened:
            assignments.add(burst, group_id, reason_to_open(previous.get(group_id), burst.first_seen_at))
    return [opened[group_id] for group_id in wrongly_opened]


def _assign_individually(bursts: Sequence[Burst], window: timedelta, assignments: Assignments) -> None:
    """Assign events singly among all groups of their key.

    Events with the same group are written together.
    """
    spans = _lock_spans(bursts, window)
    joining, opening = list[Burst](), list[list[Burst]]()
    for burst in bursts:
        to_join, to_open = _split_by_group(burst, spans[burst.key], window)
        joining += to_join
        opening.append(to_open)
    _join_groups(joining, assignments)
    opened: dict[tuple[int, str], list[int]] = defaultdict(list)
    for round_of_keys in zip_longest(*opening):
        _open_groups([part for part in round_of_keys if part is not None], window, assignments, opened)


def _split_by_group(burst: Burst, spans: Sequence[Span], window: timedelta) -> tuple[list[Burst], list[Burst]]:
    """Split a burst into joining and opening parts, in order.

    The first join existing groups, the second open new ones. Each event is assigned as if it arrived alone after the
    earlier ones: each event extends the span of its group, existing or new, for the next event. New groups have the
    temporary ids -1, -2, …
    """
    known = {span.group_id: span for span in spans}
    events: dict[int, list[PendingEvent]] = defaultdict(list)
    targets: dict[int, Assignment] = {}
    for event in burst.events:
        moment = received_at(event)
        assignment = assign(moment, list(known.values()), window)
        target = assignment.joins if assignment.joins is not None else -1 - sum(id_ < 0 for id_ in targets)
        if assignment.joins is None:
            if assignment.is_current:
                known = {group_id: replace(span, is_current=False) for group_id, span in known.items()}
            known[target] = _new_span(moment, target, assignment)
        span = known[target]
        first, last = min(span.first_seen_at, moment), max(span.last_seen_at, moment)
        known[target] = replace(span, first_seen_at=first, last_seen_at=last)
        targets.setdefault(target, assignment)
        events[target].append(event)
    parts = {target: Burst(events[target], assignment) for target, assignment in targets.items()}
    return [part for target, part in parts.items() if target > 0], [
        part for target, part in parts.items() if target < 0
    ]


def _new_span(moment: datetime, group_id: int, assignment: Assignment) -> Span:
    follows = assignment.follows
    return Span(
        group_id=group_id,
        first_seen_at=moment,
        last_seen_at=moment,
        status=GroupStatus.OPEN,
        is_current=assignment.is_current,
        began_after=follows.resolved_at if follows and follows.was_resolved_by(moment) else None,
    )


def _join_groups(parts: Sequence[Burst], assignments: Assignments) -> None:
    by_id = {part.assignment.joins: part for part in parts}
    rows = [tuple((part.row | {"id": id_})[name] for name in record_sql.JOIN_COLUMNS) for id_, part in by_id.items()]
    joined = query(record_sql.JOIN_GROUPS, record_sql.JOIN_COLUMNS, rows)
    assignments.counts.update({group_id: count for group_id, *_, count, _ in joined if count is not None})
    _update_severity_and_status(
        [
            _JoinedGroup(group_id, by_id[group_id], Severity(severity), GroupStatus(status), snoozed_until)
            for group_id, _, _, severity, status, snoozed_until, _, _ in joined
        ],
        assignments,
    )


def _open_groups(
    parts: Sequence[Burst],
    window: timedelta,
    assignments: Assignments,
    opened_before: dict[tuple[int, str], list[int]],
) -> None:
    """Open the groups of ``parts``; no key occurs twice.

    No other transaction can have opened a current group meanwhile: this one holds the lock on the old current group or
    on the deleted one. ``opened_before`` has the ids of the groups opened for earlier parts, by key: a part may
    follow one of them.
    """
    parts = [_with_previous_id(part, opened_before[part.key]) for part in parts]
    current = [part.key for part in parts if part.assignment.is_current]
    query(record_sql.RETIRE_CURRENT, record_sql.KEY_COLUMNS, current)
    opened, _ = _upsert(parts, window, assignments)
    for group_id, part in opened.items():
        assignments.add(part, group_id, part.assignment.decision)
        opened_before[part.key].append(group_id)


def _with_previous_id(part: Burst, opened: Sequence[int]) -> Burst:
    """Replace the previous group's temporary id with its real one."""
    follows = part.assignment.follows
    if follows is None or follows.group_id > 0:
        return part
    real = replace(follows, group_id=opened[-1 - follows.group_id])
    return replace(part, assignment=replace(part.assignment, follows=real))


def _lock_spans(bursts: Sequence[Burst], window: timedelta) -> Mapping[tuple[int, str], Sequence[Span]]:
    """Lock all groups to which the events may belong.

    They are returned by key.
    """
    spans: dict[tuple[int, str], list[Span]] = defaultdict(list)
    since = [(*burst.key, burst.first_seen_at - window) for burst in bursts]
    for workspace_id, group_key, *row in query(record_sql.LOCK_SPANS, record_sql.SPAN_LOOKUP_COLUMNS, since):
        spans[workspace_id, group_key].append(_span(row))
    return spans


def _span(row: Sequence[object]) -> Span:
    names = ("group_id", "first_seen_at", "last_seen_at", "status", "is_current")
    optional = ("snoozed_until", "resolved_at", "began_after")
    values = dict(zip((*names, *optional), row, strict=True))
    return Span(**values | {"status": GroupStatus(str(values["status"]))})  # type: ignore[arg-type]  # a row as SELECTed
