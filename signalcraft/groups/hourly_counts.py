"""What a batch adds to the counts of each hour, from which statistics are read.

Called by ``store.record`` as the last thing it writes: whoever holds a count waits for nothing but other counts, and
those are taken in one order, so nobody waits in a circle.

Statistics: what came in and what became of it, summed up from the counts of hours.

No event is read, whatever the period. Call it inside ``models.session()``.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self

from signalcraft.domain.alerts import Decision
from signalcraft.domain.grouping import bucket_start
from signalcraft.groups import record_sql
from signalcraft.groups.bursts import PendingEvent, StoredEvent
from signalcraft.storage.database import database
from signalcraft.storage.models import AlertGroup
from signalcraft.storage.sql import query

Bucket = tuple[int, datetime, str, str, str]


def count(pending: Iterable[PendingEvent], stored_events: Sequence[StoredEvent]) -> None:
    """Add alerts as they came, copies too, and where those went that were not there before.

    A group that was there before is updated once a batch, in the bucket of the first alert that joined it.
    """
    alerts = Counter(_bucket(pending_event) for pending_event in pending)
    stored = Counter(_bucket(stored.pending) for stored in stored_events)
    opened = {
        stored.group_id: _bucket(stored.pending) for stored in stored_events if stored.decision is not Decision.JOINED
    }
    joined = {stored.group_id: _bucket(stored.pending) for stored in reversed(stored_events)}
    new = Counter(opened.values())
    updated = Counter(bucket for group_id, bucket in joined.items() if group_id not in opened)
    rows = [
        (*bucket, alerts[bucket], alerts[bucket] - stored[bucket], new[bucket], updated[bucket])
        for bucket in sorted(alerts)
    ]
    query(record_sql.COUNT_HOURS, record_sql.HOUR_COLUMNS, rows)


def _bucket(pending_event: PendingEvent) -> Bucket:
    alert = pending_event.alert
    hour = bucket_start(alert.received_at, minutes=60)
    return pending_event.workspace_id, hour, alert.project, alert.environment, alert.severity.value


#: How long a period may be, in days.
MAX_DAYS: Final = 92
TOP: Final = 10

#: One walk over the counts for the whole and for each way to divide it. ``grouping`` has a bit for each column, from
#: the left, that a row is not divided by.
_SUMS = """
    SELECT grouping(hour, severity, environment, project), hour, severity, environment, project,
           sum(alerts)::bigint, sum(duplicates)::bigint, sum(groups_new)::bigint, sum(groups_updated)::bigint
    FROM hourly_count
    WHERE workspace_id = %(workspace_id)s AND hour >= %(since)s AND hour < %(until)s
    GROUP BY GROUPING SETS ((), (hour), (severity), (environment), (project))
    ORDER BY hour, severity, environment, project"""
_DIVISIONS: Mapping[int, str] = {0b0111: "hour", 0b1011: "severity", 0b1101: "environment", 0b1110: "project"}
_WHOLE: Final = 0b1111


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From ``since`` to before ``until``, both full hours."""

    since: datetime
    until: datetime

    @classmethod
    def covering(cls, since: datetime, until: datetime) -> Self:
        """Return the shortest period of full hours that covers these moments."""
        return cls(since=_full_hour(since), until=_full_hour(until + timedelta(hours=1) - timedelta.resolution))


def _full_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Alerts as they came, and what became of them."""

    alerts: int = 0
    duplicates: int = 0
    groups_new: int = 0
    groups_updated: int = 0

    @property
    def joined(self) -> int:
        """Alerts that were new and went into a group that was there."""
        return self.alerts - self.duplicates - self.groups_new

    @property
    def dedup_ratio(self) -> float:
        """The part of the alerts that opened no group: copies, and those that joined one. 0 where there were none."""
        return round((self.duplicates + self.joined) / self.alerts, 4) if self.alerts else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """``by`` has, for each column, its values with their sums, in order."""

    period: Period
    whole: Sums
    by: Mapping[str, Sequence[tuple[Any, Sums]]]
    top_groups: Sequence[tuple[int, str, int]]


def of(workspace_id: int, period: Period) -> Statistics:
    """What came in during ``period``."""
    whole, by = Sums(), {name: list[tuple[Any, Sums]]() for name in _DIVISIONS.values()}
    parameters = {"workspace_id": workspace_id, "since": period.since, "until": period.until}
    for grouping, *values, alerts, duplicates, new, updated in database.execute_sql(_SUMS, parameters).fetchall():
        sums = Sums(alerts=alerts, duplicates=duplicates, groups_new=new, groups_updated=updated)
        if grouping == _WHOLE:
            whole = sums if alerts is not None else whole
        else:
            by[_DIVISIONS[grouping]].append((next(value for value in values if value is not None), sums))
    return Statistics(period=period, whole=whole, by=by, top_groups=_top_groups(workspace_id, period))


def _top_groups(workspace_id: int, period: Period) -> list[tuple[int, str, int]]:
    """The ids, titles and counts of the largest groups that were seen last in the period."""
    seen = (AlertGroup.last_seen_at >= period.since) & (AlertGroup.last_seen_at < period.until)
    query = AlertGroup.select(AlertGroup.id, AlertGroup.title, AlertGroup.count)
    query = query.where((AlertGroup.workspace == workspace_id) & seen)
    query = query.order_by(AlertGroup.count.desc(), AlertGroup.id).limit(TOP)
    return [(group.id, group.title, group.count) for group in query]
