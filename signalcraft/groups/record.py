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
from signalcraft.domain.grouping import Policy, bucket_start
from signalcraft.groups import hourly_counts, record_sql
from signalcraft.groups.assignment import Placements, place_events
from signalcraft.groups.bursts import Arrival, Home
from signalcraft.storage.database import database, refusals
from signalcraft.storage.sql import query


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a batch came to: where each alert that was not there before went, and each group it touched, by id.

    ``grouped_in`` is how many seconds finding those groups took.
    """

    homes: Sequence[Home] = ()
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
        decisions = {home.group_id: home.decision for home in self.homes}
        return decisions | {home.group_id: home.decision for home in self.homes if home.decision is not Decision.JOINED}


def record(arrivals: Sequence[Arrival], policy: Policy) -> Recorded:
    """Store alerts of any workspaces and keys, each once, in one transaction.

    One that is there already adds only the rule that sent it.

    Raises:
        NotStorable: PostgreSQL refuses one of them; nothing was stored.
        DatabaseUnavailable: another transaction came first; nothing was stored, try again.
    """
    with refusals(), database.atomic():
        fresh = _insert_events(_merge_copies(arrivals))
        began = time.perf_counter()
        placements = place_events(fresh, policy.window)
        grouped_in = time.perf_counter() - began
        _point_events(placements.homes)
        _mark_spikes(placements, policy)
        hourly_counts.count(arrivals, placements.homes)
        return Recorded(
            homes=placements.homes,
            duplicates=len(arrivals) - len(fresh),
            grouped_in=grouped_in,
            groups=_snapshots(placements),
        )


def preview(arrivals: Sequence[Arrival], policy: Policy) -> Recorded:
    """What ``record`` would do now. Nothing is stored; groups that would be opened have ids that never come to be."""
    with database.atomic() as transaction:
        recorded = record(arrivals, policy)
        transaction.rollback()
        return recorded


def _merge_copies(arrivals: Iterable[Arrival]) -> list[Arrival]:
    """One arrival an alert: the one received first, with the rules of all; in the order of their identities."""
    copies: dict[tuple[int, str, str], list[Arrival]] = defaultdict(list)
    for arrival in arrivals:
        copies[arrival.identity].append(arrival)
    return [
        replace(
            min(copies[identity], key=lambda copy: copy.alert.received_at),
            rules=tuple(sorted({rule for copy in copies[identity] for rule in copy.rules})),
        )
        for identity in sorted(copies)
    ]


def _insert_events(arrivals: Sequence[Arrival]) -> dict[int, Arrival]:
    """Those that were not there yet, by the id they have now."""
    rows = query(record_sql.INSERT_EVENTS, record_sql.EVENT_COLUMNS, [_event_row(arrival) for arrival in arrivals])
    by_identity = {arrival.identity: arrival for arrival in arrivals}
    return {
        event_id: by_identity[workspace_id, source, source_event_id]
        for event_id, workspace_id, source, source_event_id, is_new in rows
        if is_new
    }


def _event_row(arrival: Arrival) -> tuple[object, ...]:
    """In the order of ``statements.EVENT_COLUMNS``."""
    alert = arrival.alert
    return (
        arrival.workspace_id,
        alert.source,
        alert.source_event_id,
        arrival.delivery_id,
        alert.project,
        alert.environment,
        alert.severity.value,
        alert.fingerprint,
        alert.issue_id,
        alert.title,
        alert.description,
        orjson.dumps(alert.tags).decode(),
        orjson.dumps(arrival.rules).decode(),
        alert.link,
        alert.occurred_at,
        alert.received_at,
    )


def _point_events(homes: Iterable[Home]) -> None:
    rows = [(home.event_id, home.group_id, home.decision.value, home.arrival.payload) for home in homes]
    query(record_sql.POINT_EVENTS, record_sql.HOME_COLUMNS, rows)


def _mark_spikes(placements: Placements, policy: Policy) -> None:
    """A group that spiked is one step worse from then on."""
    if not policy.spike_count:
        return
    buckets = {
        (home.group_id, bucket_start(home.arrival.alert.received_at, policy.spike_minutes)) for home in placements.homes
    }
    spiked = query(
        record_sql.MARK_SPIKES,
        record_sql.BUCKET_COLUMNS,
        sorted(buckets),
        spike_count=policy.spike_count,
        bucket=timedelta(minutes=policy.spike_minutes),
    )
    placements.escalated.update(group_id for (group_id,) in spiked)


def _snapshots(placements: Placements) -> dict[int, GroupSnapshot]:
    opened = {home.group_id for home in placements.homes if home.decision is not Decision.JOINED}
    rows = query(
        record_sql.SNAPSHOTS,
        record_sql.SNAPSHOT_COLUMNS,
        sorted({(home.group_id,) for home in placements.homes}),
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
