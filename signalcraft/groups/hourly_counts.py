"""Hourly counts of alerts: ``statement`` adds a batch, ``of`` sums them up into statistics.

``record.record`` adds the counts last. A transaction that holds locks on counts then waits only for other counts, and
all transactions lock those in one order, so there is no deadlock. Statistics read no events, however long the period.
Call everything inside ``database.session()``.
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
from signalcraft.storage.sql import Statement

Bucket = tuple[int, datetime, str, str, str]


def statement(pending: Iterable[PendingEvent], stored_events: Sequence[StoredEvent]) -> Statement:
    """Return the statement that adds a batch of alerts to the hourly counts.

    ``pending`` includes duplicates, ``stored_events`` are the new ones with their groups. An existing group counts as
    updated once per batch, in the bucket of the first alert that joined it.
    """
    alerts = Counter(map(_bucket, pending))
    buckets = [_bucket(stored.pending) for stored in stored_events]
    stored = Counter(buckets)
    opened: dict[int, Bucket] = {}
    joined: dict[int, Bucket] = {}
    for event, bucket in zip(stored_events, buckets, strict=True):
        if event.decision is not Decision.JOINED:
            opened[event.group_id] = bucket
        joined.setdefault(event.group_id, bucket)
    new = Counter(opened.values())
    updated = Counter(bucket for group_id, bucket in joined.items() if group_id not in opened)
    rows = [
        (*bucket, alerts[bucket], alerts[bucket] - stored[bucket], new[bucket], updated[bucket])
        for bucket in sorted(alerts)
    ]
    return Statement(record_sql.COUNT_HOURS, record_sql.HOUR_COLUMNS, rows)


def _bucket(pending_event: PendingEvent) -> Bucket:
    alert = pending_event.alert
    hour = bucket_start(alert.received_at, minutes=60)
    return pending_event.workspace_id, hour, alert.project, alert.environment, alert.severity.value


#: The longest period, in days.
MAX_DAYS: Final = 92
TOP: Final = 10

#: One scan for the total and each division. ``grouping`` has one bit per column, from the left: it is set if the row is
#: not grouped by that column.
_SUMS = """
    SELECT grouping(hour, severity, environment, project), hour, severity, environment, project,
           sum(alerts)::bigint, sum(duplicates)::bigint, sum(groups_new)::bigint, sum(groups_updated)::bigint
    FROM hourly_count
    WHERE workspace_id = %(workspace_id)s AND hour >= %(since)s AND hour < %(until)s
    GROUP BY GROUPING SETS ((), (hour), (severity), (environment), (project))
    ORDER BY hour, severity, environment, project"""
_BY_HOUR: Final = """
    SELECT hour, sum(alerts - duplicates)::bigint FROM hourly_count
    WHERE workspace_id = %(workspace_id)s AND hour >= %(since)s AND hour < %(until)s GROUP BY hour ORDER BY hour"""
_DIVISIONS: Mapping[int, str] = {0b0111: "hour", 0b1011: "severity", 0b1101: "environment", 0b1110: "project"}
_TOTAL: Final = 0b1111


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A period of full hours, from ``since`` (inclusive) to ``until`` (exclusive)."""

    since: datetime
    until: datetime

    @classmethod
    def covering(cls, since: datetime, until: datetime) -> Self:
        """Return the shortest period of full hours covering these moments."""
        return cls(since=_full_hour(since), until=_full_hour(until + timedelta(hours=1) - timedelta.resolution))


def _full_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Sums of alerts, duplicates among them, and groups opened or updated."""

    alerts: int = 0
    duplicates: int = 0
    groups_new: int = 0
    groups_updated: int = 0

    @property
    def joined(self) -> int:
        """New alerts that joined an existing group."""
        return self.alerts - self.duplicates - self.groups_new

    @property
    def dedup_ratio(self) -> float:
        """Return the share of alerts that opened no group.

        These are the duplicates and the joined ones. Without alerts, the share is 0.
        """
        return round((self.duplicates + self.joined) / self.alerts, 4) if self.alerts else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Statistics of a period; ``by`` has, for each column, its values with their sums, in order."""

    period: Period
    whole: Sums
    by: Mapping[str, Sequence[tuple[Any, Sums]]]
    top_groups: Sequence[tuple[int, str, int]]


def of(workspace_id: int, period: Period) -> Statistics:
    """Return the statistics of ``period``."""
    whole, by = Sums(), {name: list[tuple[Any, Sums]]() for name in _DIVISIONS.values()}
    parameters = {"workspace_id": workspace_id, "since": period.since, "until": period.until}
    for grouping, *values, alerts, duplicates, new, updated in database.execute_sql(_SUMS, parameters).fetchall():
        sums = Sums(alerts=alerts, duplicates=duplicates, groups_new=new, groups_updated=updated)
        if grouping == _TOTAL:
            whole = sums if alerts is not None else whole
        else:
            by[_DIVISIONS[grouping]].append((next(value for value in values if value is not None), sums))
    return Statistics(period=period, whole=whole, by=by, top_groups=_top_groups(workspace_id, period))


def by_hour(workspace_id: int, period: Period) -> Sequence[tuple[datetime, int]]:
    """Return the hours of ``period`` that have counts, with their number of alerts, each counted once.

    A repeat of an alert that lasts is a duplicate.
    """
    parameters = {"workspace_id": workspace_id, "since": period.since, "until": period.until}
    rows: list[tuple[datetime, int]] = database.execute_sql(_BY_HOUR, parameters).fetchall()
    return rows


def _top_groups(workspace_id: int, period: Period) -> list[tuple[int, str, int]]:
    """Return the largest groups last seen in the period.

    Each is a tuple of id, title and count. The order is that of an index.
    """
    seen = (AlertGroup.last_seen_at >= period.since) & (AlertGroup.last_seen_at < period.until)
    query = AlertGroup.select(AlertGroup.id, AlertGroup.title, AlertGroup.count)
    query = query.where((AlertGroup.workspace == workspace_id) & seen)
    query = query.order_by(AlertGroup.count.desc(), AlertGroup.id.desc()).limit(TOP)
    return [(group.id, group.title, group.count) for group in query]
