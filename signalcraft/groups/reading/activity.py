"""How many alerts groups got by hour and by day, as ``record`` counted them: no events are read.

Hours and days are those of UTC, by the time of receipt. Call everything inside ``database.session()``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from signalcraft.domain.grouping import bucket_start
from signalcraft.storage.database import database

HOURS: Final = 24
DAYS: Final = 28

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_COUNTS: Final = """
    SELECT h.alert_group_id, h.hour, h.alerts FROM alert_group g JOIN group_hour h ON h.alert_group_id = g.id
    WHERE g.workspace_id = %(workspace_id)s AND g.id = ANY(%(ids)s) AND h.hour >= %(since)s AND h.hour < %(until)s"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Counts of alerts, oldest first: one for each ``step`` of time from ``since`` on, the last not over yet."""

    since: datetime
    step: timedelta
    counts: Sequence[int]


def last_hours(workspace_id: int, group_ids: Sequence[int], *, now: datetime) -> Mapping[int, Activity]:
    """Return the counts of the last 24 hours of each group, by its id."""
    until = bucket_start(now, minutes=60) + _HOUR
    return _activity(workspace_id, group_ids, since=until - HOURS * _HOUR, step=_HOUR, steps=HOURS)


def last_days(workspace_id: int, group_id: int, *, now: datetime) -> Activity:
    """Return the counts of the last 28 days of a group."""
    until = bucket_start(now, minutes=24 * 60) + _DAY
    return _activity(workspace_id, [group_id], since=until - DAYS * _DAY, step=_DAY, steps=DAYS)[group_id]


def _activity(
    workspace_id: int, group_ids: Sequence[int], *, since: datetime, step: timedelta, steps: int
) -> Mapping[int, Activity]:
    counts = {group_id: [0] * steps for group_id in group_ids}
    if counts:
        period = {"since": since, "until": since + steps * step}
        cursor = database.execute_sql(_COUNTS, {"workspace_id": workspace_id, "ids": list(counts), **period})
        for group_id, hour, alerts in cursor.fetchall():
            counts[group_id][(hour - since) // step] += alerts
    return {group_id: Activity(since=since, step=step, counts=of_group) for group_id, of_group in counts.items()}
