"""Which group each new event of a batch goes into: the rounds of upserts, and what they refuse.

Called by ``store.record`` inside its transaction. The rule is ``grouping``'s; here it meets rows that others change
at the same time.
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
from signalcraft.groups.bursts import Burst, PendingEvent, StoredEvent, burst_rounds, received_at
from signalcraft.storage.sql import query


@dataclass(slots=True)
class Assignments:
    """Where the events of a batch went, and the groups that grew worse by it."""

    events: list[StoredEvent] = field(default_factory=list)
    escalated: set[int] = field(default_factory=set)

    def add(self, run: Burst, group_id: int, decision: Decision) -> None:
        """The first event of a run that opened a group has the reason for it; the others joined."""
        for position, (event_id, pending_event) in enumerate(run.events):
            one = decision if position == 0 else Decision.JOINED
            self.events.append(StoredEvent(event_id=event_id, pending=pending_event, group_id=group_id, decision=one))


@dataclass(frozen=True, slots=True)
class _Joined:
    """A group that a run joined: its severity and status are still those from before."""

    group_id: int
    run: Burst
    severity: Severity
    status: GroupStatus
    snoozed_until: datetime | None

    @property
    def is_worse(self) -> bool:
        return self.run.severity.rank > self.severity.rank

    @property
    def cause(self) -> Trigger | None:
        """What the run does to the group's status or severity, if anything."""
        if self.is_worse:
            return Trigger.WORSE_ALERT
        asleep = self.status is GroupStatus.SNOOZED
        if asleep and not snooze_holds(self.status, self.snoozed_until, self.run.last_seen_at):
            return Trigger.SNOOZE_END
        return None


def assign_events(events: Mapping[int, PendingEvent], window: timedelta) -> Assignments:
    """Put each event (by its id) into a group that is there, or into a new one."""
    placements = Assignments()
    for runs in burst_rounds(events, window):
        opened, refused = _upsert(runs, window, placements)
        _assign_individually([*refused, *_link_previous_groups(opened, placements)], window, placements)
    return placements


def _upsert(
    runs: Sequence[Burst],
    window: timedelta,
    placements: Assignments,
) -> tuple[dict[int, Burst], list[Burst]]:
    """Open a group for each run or join the current one: the runs that opened one, by its id, and the refused."""
    waiting = {run.key: run for run in runs}
    opened: dict[int, Burst] = {}
    joined: list[_Joined] = []
    rows = [tuple(run.row.values()) for run in runs]
    answers = query(record_sql.UPSERT_GROUPS, record_sql.GROUP_COLUMNS, rows, window=window)
    for group_id, workspace_id, group_key, severity, status, snoozed_until, is_new in answers:
        run = waiting.pop((workspace_id, group_key))
        if is_new:
            opened[group_id] = run
        else:
            joined.append(_Joined(group_id, run, Severity(severity), GroupStatus(status), snoozed_until))
    _update_severity_and_status(joined, placements)
    return opened, list(waiting.values())


def _update_severity_and_status(joined: Iterable[_Joined], placements: Assignments) -> None:
    """Raise severities, break acks and snoozes; the rows are locked by the statement that joined them."""
    changes = []
    for one in joined:
        placements.add(one.run, one.group_id, Decision.JOINED)
        if one.cause is not None:
            changes.append((one.group_id, one.run.severity.value, one.cause.value))
        if one.is_worse:
            placements.escalated.add(one.group_id)
    query(record_sql.SETTLE_GROUPS, record_sql.SETTLE_COLUMNS, changes)


def _link_previous_groups(opened: Mapping[int, Burst], placements: Assignments) -> list[Burst]:
    """Tie the opened groups to those before them; the runs that belong elsewhere, their groups taken back.

    A run belongs elsewhere if the group before it was resolved only after the run was received, or is newer than it.
    """
    keys = [(group_id, *run.key) for group_id, run in opened.items()]
    found = query(record_sql.FIND_PREVIOUS, record_sql.OPENED_COLUMNS, keys)
    previous = {group_id: _span(row) for group_id, *row in found}
    misplaced = {
        group_id
        for group_id, span in previous.items()
        if max(span.last_seen_at, span.resolved_at or span.last_seen_at) >= opened[group_id].first_seen_at
    }
    follows = [
        (group_id, span.group_id, span.resolved_at) for group_id, span in previous.items() if group_id not in misplaced
    ]
    query(record_sql.FOLLOW_PREVIOUS, record_sql.FOLLOW_COLUMNS, follows)
    query(record_sql.TAKE_BACK, {"id": "bigint"}, [(group_id,) for group_id in misplaced])
    for group_id, run in opened.items():
        if group_id not in misplaced:
            placements.add(run, group_id, reason_to_open(previous.get(group_id), run.first_seen_at))
    return [opened[group_id] for group_id in misplaced]


def _assign_individually(runs: Sequence[Burst], window: timedelta, placements: Assignments) -> None:
    """Place the events of runs one by one among all groups of their key; those with one place go there together."""
    spans = _lock_spans(runs, window)
    joining, opening = list[Burst](), list[list[Burst]]()
    for run in runs:
        into, new = _split_by_group(run, spans[run.key], window)
        joining += into
        opening.append(new)
    _join(joining, placements)
    opened: dict[tuple[int, str], list[int]] = defaultdict(list)
    for round_of_keys in zip_longest(*opening):
        _open([piece for piece in round_of_keys if piece is not None], window, placements, opened)


def _split_by_group(run: Burst, spans: Sequence[Span], window: timedelta) -> tuple[list[Burst], list[Burst]]:
    """The pieces of a run that join groups which are there, and those that open some, in the order in which they do.

    Each event is placed as if it came alone after those before it: a group that one joined reaches further for the
    next, and so does one that was opened. Until they are, groups go by -1, -2, …
    """
    known = {span.group_id: span for span in spans}
    events: dict[int, list[tuple[int, PendingEvent]]] = defaultdict(list)
    places: dict[int, Assignment] = {}
    for event in run.events:
        moment = received_at(event)
        where = assign(moment, list(known.values()), window)
        target = where.joins if where.joins is not None else -1 - sum(one < 0 for one in places)
        if where.joins is None:
            if where.is_current:
                known = {group_id: replace(span, is_current=False) for group_id, span in known.items()}
            known[target] = _opened_at(moment, target, where)
        span = known[target]
        first, last = min(span.first_seen_at, moment), max(span.last_seen_at, moment)
        known[target] = replace(span, first_seen_at=first, last_seen_at=last)
        places.setdefault(target, where)
        events[target].append(event)
    pieces = {target: Burst(events[target], where) for target, where in places.items()}
    return [piece for target, piece in pieces.items() if target > 0], [
        piece for target, piece in pieces.items() if target < 0
    ]


def _opened_at(moment: datetime, group_id: int, where: Assignment) -> Span:
    follows = where.follows
    return Span(
        group_id=group_id,
        first_seen_at=moment,
        last_seen_at=moment,
        status=GroupStatus.OPEN,
        is_current=where.is_current,
        began_after=follows.resolved_at if follows and follows.was_resolved_by(moment) else None,
    )


def _join(pieces: Sequence[Burst], placements: Assignments) -> None:
    by_id = {piece.place.joins: piece for piece in pieces}
    rows = [tuple((piece.row | {"id": id_})[name] for name in record_sql.JOIN_COLUMNS) for id_, piece in by_id.items()]
    joined = query(record_sql.JOIN_GROUPS, record_sql.JOIN_COLUMNS, rows)
    _update_severity_and_status(
        [
            _Joined(group_id, by_id[group_id], Severity(severity), GroupStatus(status), snoozed_until)
            for group_id, _, _, severity, status, snoozed_until, _ in joined
        ],
        placements,
    )


def _open(
    pieces: Sequence[Burst],
    window: timedelta,
    placements: Assignments,
    opened_before: dict[tuple[int, str], list[int]],
) -> None:
    """Nobody else can have opened a current group meanwhile: the old one, or the one taken back, is locked by us.

    ``opened_before`` has the ids that the groups of earlier pieces got, by key; a piece may follow one of them.
    """
    pieces = [_following(piece, opened_before[piece.key]) for piece in pieces]
    current = [piece.key for piece in pieces if piece.place.is_current]
    query(record_sql.RETIRE_CURRENT, record_sql.KEY_COLUMNS, current)
    opened, _ = _upsert(pieces, window, placements)
    for group_id, piece in opened.items():
        placements.add(piece, group_id, piece.place.decision)
        opened_before[piece.key].append(group_id)


def _following(piece: Burst, opened: Sequence[int]) -> Burst:
    """The piece, with the real id of the group that it follows."""
    follows = piece.place.follows
    if follows is None or follows.group_id > 0:
        return piece
    real = replace(follows, group_id=opened[-1 - follows.group_id])
    return replace(piece, place=replace(piece.place, follows=real))


def _lock_spans(runs: Sequence[Burst], window: timedelta) -> Mapping[tuple[int, str], Sequence[Span]]:
    """All groups that the events of ``runs`` may belong to, by key."""
    spans: dict[tuple[int, str], list[Span]] = defaultdict(list)
    since = [(*run.key, run.first_seen_at - window) for run in runs]
    for workspace_id, group_key, *row in query(record_sql.LOCK_SPANS, record_sql.REFUSED_COLUMNS, since):
        spans[workspace_id, group_key].append(_span(row))
    return spans


def _span(row: Sequence[object]) -> Span:
    names = ("group_id", "first_seen_at", "last_seen_at", "status", "is_current")
    optional = ("snoozed_until", "resolved_at", "began_after")
    values = dict(zip((*names, *optional), row, strict=True))
    return Span(**values | {"status": GroupStatus(str(values["status"]))})  # type: ignore[arg-type]  # a row as SELECTed
