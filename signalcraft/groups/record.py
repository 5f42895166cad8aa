"""Record alerts in PostgreSQL, with exact counts under any concurrency.

The steps of ``record`` (``docs/grouping.md`` explains each):

1. Leave out the events that are stored already; only new ones count, and get ids.
2. Per group key, in one order for all transactions, open a group or join the current one, if the window allows.
3. Assign events that the current group refused with ``grouping.assign``: to an older group, or a new one.
4. Insert the events with their groups. If another transaction has stored one of them meanwhile, all is undone and
   begins again.
5. Set the group of each episode, detect spikes, and add to the hours of the groups and to the hourly counts.

Only row locks are taken, always in one order (``storage.sql.LOCK_ORDER``), so transactions wait for each other without
deadlocks. Call everything inside ``database.session()``.
"""

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from peewee import IntegrityError

from signalcraft.domain.alerts import MAX_EVENT_RULES, Decision
from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.domain.grouping import GroupingPolicy, bucket_start
from signalcraft.groups import environments, episodes, happenings, hourly_counts, record_sql
from signalcraft.groups.assignment import Assignments, assign_events
from signalcraft.groups.bursts import AssignedEvent, PendingEvent, StoredEvent, received_at
from signalcraft.storage.database import constraint_name, database, translate_constraint_errors
from signalcraft.storage.sql import Statement, copy, query, query_last

#: How often a batch begins again because other transactions store its events at the same moment, each once.
_ATTEMPTS: Final = 5


class _ConcurrentInsertError(Exception):
    """Another transaction has stored an event that was new when this one began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordResult:
    """The result of a batch: the new events with their groups.

    ``escalated`` are the groups whose severity rose, but for those that the batch opened. ``grouped_in`` is the time of
    the group assignment, in seconds.
    """

    events: Sequence[StoredEvent] = ()
    duplicates: int = 0
    grouped_in: float = 0.0
    escalated: frozenset[int] = frozenset()

    @property
    def group_ids(self) -> frozenset[int]:
        """The groups that the events opened or joined."""
        return frozenset(stored.group_id for stored in self.events)

    @property
    def is_news(self) -> bool:
        """Whether something happened that people may be told of: a group was opened, or escalated."""
        return self.created > 0 or bool(self.escalated)

    @property
    def created(self) -> int:
        """The number of opened groups."""
        return len({stored.group_id for stored in self.events if stored.decision is not Decision.JOINED})

    @property
    def updated(self) -> int:
        """The number of existing groups that were joined."""
        return len(self.group_ids) - self.created

    @property
    def decisions(self) -> Mapping[int, Decision]:
        """Return the decision for each group.

        It says why the group was opened, else that it was joined.
        """
        decisions = {stored.group_id: stored.decision for stored in self.events}
        return decisions | {
            stored.group_id: stored.decision for stored in self.events if stored.decision is not Decision.JOINED
        }


def record(pending: Sequence[PendingEvent], policy: GroupingPolicy, *, is_replay: bool = False) -> RecordResult:
    """Store alerts, each once, in one transaction.

    Workspaces and keys may differ. A duplicate adds only the rule that sent it. In a replay it is no alert that came,
    and counts in no statistics.

    Raises:
        NotStorable: PostgreSQL refuses one of them; nothing was stored.
        DatabaseUnavailable: another transaction came first; nothing was stored, retry.
    """
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(_ConcurrentInsertError), translate_constraint_errors(), database.atomic():
            return _record(pending, policy, is_replay=is_replay)
    raise DatabaseUnavailable("other transactions came first, again and again")


def _record(pending: Sequence[PendingEvent], policy: GroupingPolicy, *, is_replay: bool) -> RecordResult:
    pending = environments.settle(pending)
    new_events, duplicates, event_ids = _split_by_novelty(_merge_duplicates(pending))
    started = time.perf_counter()
    assignments = assign_events(new_events, policy.window)
    grouped_in = time.perf_counter() - started
    stored_events = _insert_events(assignments.events, event_ids)
    _add_rules(duplicates)
    episodes.begin(pending)
    _mark_spikes(assignments, policy)
    came = [stored.pending for stored in stored_events] if is_replay else pending
    query_last(
        _group_hours_statement(stored_events),
        hourly_counts.statement(came, stored_events),
        happenings.statement(stored_events, assignments.escalated),
    )
    opened = {stored.group_id for stored in stored_events if stored.decision is not Decision.JOINED}
    return RecordResult(
        events=stored_events,
        duplicates=len(pending) - len(new_events),
        grouped_in=grouped_in,
        escalated=frozenset(assignments.escalated - opened),
    )


def preview(pending: Sequence[PendingEvent], policy: GroupingPolicy) -> RecordResult:
    """Return what ``record`` would do now; store nothing.

    Groups that would be opened have ids that are never used.
    """
    with database.atomic() as transaction:
        recorded = record(pending, policy)
        transaction.rollback()
        return recorded


def _merge_duplicates(pending: Iterable[PendingEvent]) -> list[PendingEvent]:
    """Merge duplicates; sort by identity.

    The event received first stays, with the rules of all, up to the bound.
    """
    events: dict[tuple[int, str, str], list[PendingEvent]] = defaultdict(list)
    for pending_event in pending:
        events[pending_event.identity].append(pending_event)
    return [same[0] if len(same) == 1 else _merged(same) for _, same in sorted(events.items())]


def _merged(events: Sequence[PendingEvent]) -> PendingEvent:
    rules = sorted({rule for event in events for rule in event.rules})[:MAX_EVENT_RULES]
    return replace(min(events, key=received_at), rules=tuple(rules))


def _split_by_novelty(events: Sequence[PendingEvent]) -> tuple[list[PendingEvent], list[PendingEvent], list[int]]:
    """Return the events that are new, those that are stored already or were, and an id for each new one."""
    moments = [(event.alert.occurred_at, event.alert.received_at) for event in events]
    rows = [(position, *event.identity, *moments[position]) for position, event in enumerate(events)]
    ids = dict(query(record_sql.TAKE_IDS_OF_NEW, record_sql.NOVELTY_COLUMNS, rows))
    new = [event for position, event in enumerate(events) if position in ids]
    known = [event for position, event in enumerate(events) if position not in ids]
    return new, known, list(ids.values())


def _add_rules(duplicates: Iterable[PendingEvent]) -> None:
    """Add the rules that sent duplicates to the stored events."""
    rows = [(*event.identity, event.rules) for event in duplicates if event.rules]
    query(record_sql.ADD_RULES, record_sql.RULE_COLUMNS, rows)


def _insert_events(assigned: Sequence[AssignedEvent], ids: Iterable[int]) -> list[StoredEvent]:
    """Insert the events with these ids.

    Rows come in the order of their identities, so that two batches with the same events wait for each other without a
    deadlock.

    Raises:
        _ConcurrentInsertError: another transaction has stored one of them since they were found to be new.
    """
    stored_events = [
        StoredEvent(event_id=event_id, pending=event.pending, group_id=event.group_id, decision=event.decision)
        for event_id, event in zip(ids, assigned, strict=True)
    ]
    in_order = sorted(stored_events, key=lambda stored: stored.pending.identity)
    try:
        copy("alert_event", record_sql.EVENT_COLUMNS, [_event_row(stored) for stored in in_order])
    except IntegrityError as error:
        if constraint_name(error) == "alert_event_identity_key":
            raise _ConcurrentInsertError from error
        raise
    return stored_events


def _group_hours_statement(stored_events: Iterable[StoredEvent]) -> Statement:
    """Return the statement that adds the events to the hours of their groups."""
    hours = Counter((stored.group_id, bucket_start(received_at(stored.pending), 60)) for stored in stored_events)
    rows = [(group_id, hour, alerts) for (group_id, hour), alerts in hours.items()]
    return Statement(record_sql.COUNT_GROUP_HOURS, record_sql.GROUP_HOUR_COLUMNS, rows)


def _event_row(stored: StoredEvent) -> tuple[object, ...]:
    """Return values in the order of ``record_sql.EVENT_COLUMNS``."""
    pending_event, alert = stored.pending, stored.pending.alert
    return (
        stored.event_id,
        pending_event.workspace_id,
        alert.source,
        alert.source_event_id,
        pending_event.delivery_id,
        alert.project,
        alert.environment,
        alert.names_environment,
        alert.severity,
        alert.fingerprint,
        alert.issue_id,
        alert.title,
        alert.description,
        alert.tags,
        pending_event.rules,
        alert.link,
        alert.occurred_at,
        alert.received_at,
        stored.group_id,
        stored.decision,
        pending_event.payload,
    )


def _mark_spikes(assignments: Assignments, policy: GroupingPolicy) -> None:
    """Mark groups that spiked.

    A spike raises the severity by one step for good.
    """
    if not policy.spike_count:
        return
    buckets = {
        (event.group_id, bucket_start(received_at(event.pending), policy.spike_minutes))
        for event in assignments.events
        if assignments.counts.get(event.group_id, 0) >= policy.spike_count
    }
    spiked = query(
        record_sql.MARK_SPIKES,
        record_sql.BUCKET_COLUMNS,
        sorted(buckets),
        spike_count=policy.spike_count,
        bucket=timedelta(minutes=policy.spike_minutes),
    )
    assignments.escalated.update(group_id for (group_id,) in spiked)
