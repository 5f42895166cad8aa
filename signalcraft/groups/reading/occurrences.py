"""Occurrences of one problem: the groups of one key, each opened when the one before was over.

Call everything inside ``database.session()``.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from signalcraft.groups.reading import pages, queries
from signalcraft.groups.reading.pages import Page, Position
from signalcraft.storage.database import database

#: The period, in days, in which occurrences are counted.
DAYS: Final = 30

_OF_KEY: Final = """
    of_key AS (
        SELECT workspace_id, group_key FROM alert_group WHERE workspace_id = %(workspace_id)s AND id = %(group_id)s
    )"""

#: Current groups and the others have an index each.
_PAGE: Final = f"""
    WITH {_OF_KEY}
    SELECT id FROM (
        SELECT g.id, g.first_seen_at FROM of_key JOIN alert_group g USING (workspace_id, group_key)
        WHERE g.is_current AND (g.first_seen_at, g.id) < (%(before)s, %(before_id)s)
        UNION ALL
        SELECT older.* FROM of_key CROSS JOIN LATERAL (
            SELECT g.id, g.first_seen_at FROM alert_group g
            WHERE g.workspace_id = of_key.workspace_id AND g.group_key = of_key.group_key AND NOT g.is_current
              AND (g.first_seen_at, g.id) < (%(before)s, %(before_id)s)
            ORDER BY g.first_seen_at DESC, g.id DESC LIMIT %(limit)s
        ) AS older
    ) AS occurrence ORDER BY first_seen_at DESC, id DESC LIMIT %(limit)s"""

#: Groups that began in the period, and the last one before it, which may have gone on into it. Alerts that came before
#: their hours were counted are known by the first and the last of their group.
_SEEN: Final = f"""
    WITH {_OF_KEY},
    seen AS MATERIALIZED (
        SELECT g.id, g.first_seen_at, g.last_seen_at FROM of_key JOIN alert_group g USING (workspace_id, group_key)
        WHERE g.is_current
        UNION ALL
        SELECT g.id, g.first_seen_at, g.last_seen_at FROM of_key JOIN alert_group g USING (workspace_id, group_key)
        WHERE NOT g.is_current AND g.first_seen_at >= %(since)s
        UNION ALL
        SELECT before.* FROM of_key CROSS JOIN LATERAL (
            SELECT g.id, g.first_seen_at, g.last_seen_at FROM alert_group g
            WHERE g.workspace_id = of_key.workspace_id AND g.group_key = of_key.group_key
              AND NOT g.is_current AND g.first_seen_at < %(since)s
            ORDER BY g.first_seen_at DESC LIMIT 1
        ) AS before
    ), moment (at) AS (
        SELECT h.hour FROM seen JOIN group_hour h ON h.alert_group_id = seen.id AND h.hour >= %(since)s
        UNION ALL SELECT first_seen_at FROM seen
        UNION ALL SELECT last_seen_at FROM seen
    )
    SELECT (SELECT count(*) FROM seen WHERE last_seen_at >= %(since)s),
           (SELECT count(DISTINCT date_trunc('day', at, 'UTC')) FROM moment WHERE at >= %(since)s)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How often a problem was seen from ``since`` on: in how many groups, and on how many days of UTC."""

    since: datetime
    groups: int
    days: int


def seen(workspace_id: int, group_id: int, *, now: datetime) -> Seen:
    """Return how often the group's problem was seen in 30 days, today included."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    since = today - timedelta(days=DAYS - 1)
    parameters = {"workspace_id": workspace_id, "group_id": group_id, "since": since}
    groups, days = database.execute_sql(_SEEN, parameters).fetchone()
    return Seen(since=since, groups=groups, days=days)


def occurrences(workspace_id: int, group_id: int, *, limit: int, after: Position | None, now: datetime) -> Page:
    """Return a page of the groups of the group's key, itself among them, the one that began last first."""
    before, before_id = (after.value, after.id) if after else ("infinity", 0)
    parameters = {"workspace_id": workspace_id, "group_id": group_id, "limit": limit + 1}
    cursor = database.execute_sql(_PAGE, parameters | {"before": before, "before_id": before_id})
    ids = [row_id for (row_id,) in cursor.fetchall()]
    by_id = {row["id"]: row for row in queries.groups_of_ids(workspace_id, ids, now=now)}
    rows = [by_id[row_id] for row_id in ids if row_id in by_id]
    return pages.cut([row | {"sort_value": row["first_seen_at"]} for row in rows], limit)
