"""Follow episodes: alerts that last until their source says that they are over.

An episode is an alert with ``is_episode``, stored as any other. This table knows besides which group it is in, when it
was last received, and when its source said that it is over; whichever of the two comes first makes its row. From the
rows alone follows what becomes of a group, so it does not matter in which order or how often the source says something:

- While one of its episodes lasts, a group is not resolved. When the last one ends, it is.
- An episode is over if it was not received later than ``GRACE`` after its latest end. If it was, it lasts again: its
  source was cut off, and had not ended.
- An episode that began after another of the same condition shows that the other is over, although no end of it came.
- An alert that is received again while it lasts is no new one, and moves the group's ``last_seen_at``.
- What a user did stands: the end of an episode is applied to a group once, and a resolved group is opened again only if
  it was the source that resolved it.

The row of an alert is written by the transaction that stores it (``begin``): a group never looks as if its last
episode were over because the row of another one is missing. The other steps are transactions of their own: a worker
that dies between them does them again, since the delivery is processed again. Rows of episodes are locked by identity,
after groups where a transaction locks both. Within the one transaction of the inbox consumer the steps are savepoints,
and groups are locked after episodes, too: it may have to begin again (``docs/decisions/lock-order.md``). Call
everything inside ``database.session()``.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from signalcraft.domain.alerts import NormalizedAlert
from signalcraft.domain.lifecycle import Trigger
from signalcraft.groups.bursts import PendingEvent
from signalcraft.groups.source_updates import WorkspaceChange
from signalcraft.storage.audit_log import Actor, with_audit_log
from signalcraft.storage.database import database, short_lock_timeout, translate_constraint_errors
from signalcraft.storage.sql import LOCK_ORDER, Columns, query, status_after

#: A workspace id and an alert that is an episode.
Firing = tuple[int, NormalizedAlert]
_Row = tuple[int, str, str, datetime, datetime]
#: Besides, where the ids of its condition end.
_AlertRow = tuple[int, str, str, datetime, datetime, str | None]

#: A firing received so soon after the end may be older than it: peers of a sender, and its retries, deliver late. A
#: sender repeats what lasts in longer intervals.
GRACE: Final = timedelta(minutes=2)
_GRACE: Final = f"interval '{GRACE.total_seconds():.0f} s'"

_COLUMNS: Columns = {
    "workspace_id": "bigint",
    "source": "text",
    "source_event_id": "text",
    "first_received_at": "timestamptz",
    "received_at": "timestamptz",
}
_IDENTITY = "workspace_id, source, source_event_id"

_ALERT_COLUMNS: Columns = {**_COLUMNS, "ends": "text"}
#: Rows come in the order of their identities, as those of events do. An event that retention deleted has
#: left the group of its episode here. An episode is over from the first if another of its condition began later.
_STORE = f"""
    INSERT INTO episode AS e ({_IDENTITY}, alert_group_id, last_seen_at, resolved_at)
    SELECT r.workspace_id, r.source, r.source_event_id, a.alert_group_id, r.received_at, (
        SELECT r.received_at FROM episode later
        WHERE later.workspace_id = r.workspace_id AND later.source = r.source
          AND later.source_event_id > r.source_event_id AND later.source_event_id < r.ends LIMIT 1
    )
    FROM {{rows}} {{known}} LEFT JOIN alert_event a USING ({_IDENTITY})
    ORDER BY r.workspace_id, r.source, r.source_event_id COLLATE "C"
    ON CONFLICT ({_IDENTITY}) DO UPDATE
    SET alert_group_id = coalesce(e.alert_group_id, excluded.alert_group_id),
        last_seen_at = greatest(e.last_seen_at, excluded.last_seen_at),
        resolved_at = CASE
            WHEN greatest(e.resolved_at, e.ended_at) >= excluded.last_seen_at - {_GRACE} THEN e.resolved_at
            WHEN excluded.resolved_at IS NOT NULL THEN coalesce(e.resolved_at, excluded.resolved_at)
        END
    WHERE e.last_seen_at < excluded.last_seen_at OR e.alert_group_id IS NULL"""
_STORE_ALERTS = _STORE.replace("{known}", "")
_STORE_REPEATS = _STORE.replace("{known}", f"JOIN episode k USING ({_IDENTITY})")
#: An end that comes before its alert has no group yet. Of several ends the first counts: the others are repeats. One
#: from before the last time that the episode was received, it has outlasted.
_END = f"""
    INSERT INTO episode AS e ({_IDENTITY}, last_seen_at, resolved_at, ended_at)
    SELECT {_IDENTITY}, '-infinity', r.first_received_at, r.received_at
    FROM {{rows}} ORDER BY r.workspace_id, r.source, r.source_event_id COLLATE "C"
    ON CONFLICT ({_IDENTITY}) DO UPDATE
    SET ended_at = greatest(e.ended_at, excluded.ended_at),
        resolved_at = CASE
            WHEN excluded.resolved_at >= e.last_seen_at - {_GRACE} THEN least(e.resolved_at, excluded.resolved_at)
            WHEN excluded.ended_at >= e.last_seen_at - {_GRACE} THEN least(e.resolved_at, excluded.ended_at)
            ELSE e.resolved_at
        END
    RETURNING e.alert_group_id"""

#: Each condition by the index of identities, in a loop: an index of ids, and no statistics of the rows. ``later`` has
#: both bounds of its condition: PostgreSQL uses no others without statistics, and would read the whole source.
_CONDITION_COLUMNS: Columns = {
    "workspace_id": "bigint",
    "source": "text",
    "begins": "text",
    "ends": "text",
    "received_at": "timestamptz",
}
#: One may have ended while this waits for its lock.
_SUPERSEDE = """
    WITH superseded AS MATERIALIZED (
        SELECT e.id, r.received_at FROM {rows} CROSS JOIN LATERAL (
            SELECT o.id, o.source_event_id FROM episode o
            WHERE o.workspace_id = r.workspace_id AND o.source = r.source
              AND o.source_event_id >= r.begins AND o.source_event_id < r.ends AND o.resolved_at IS NULL
              AND EXISTS (
                  SELECT FROM episode later
                  WHERE later.workspace_id = o.workspace_id AND later.source = o.source
                    AND later.source_event_id >= r.begins AND later.source_event_id < r.ends
                    AND later.source_event_id > o.source_event_id
              )
            OFFSET 0
        ) AS found JOIN episode e ON e.id = found.id
        ORDER BY r.workspace_id, r.source, found.source_event_id FOR NO KEY UPDATE OF e
    )
    UPDATE episode e SET resolved_at = least(e.resolved_at, superseded.received_at)
    FROM superseded WHERE e.id = superseded.id
    RETURNING e.alert_group_id"""

_FIND_GROUPS = f"SELECT e.alert_group_id FROM {{rows}} JOIN episode e USING ({_IDENTITY})"
_LOCK = f"""
    SELECT g.id FROM alert_group g WHERE g.id = ANY(%(ids)s) ORDER BY {LOCK_ORDER} FOR NO KEY UPDATE"""

#: A repeat may be stored before the alert that it repeats. One that was received after its own end keeps nothing alive.
_KEEP_ALIVE = f"""
    UPDATE alert_group g
    SET first_seen_at = least(g.first_seen_at, repeated.first), last_seen_at = greatest(g.last_seen_at, repeated.last)
    FROM (
        SELECT e.alert_group_id AS id,
               min(r.first_received_at) AS first, max(least(r.received_at, e.resolved_at)) AS last
        FROM {{rows}} JOIN episode e USING ({_IDENTITY}) GROUP BY e.alert_group_id
    ) AS repeated
    WHERE g.id = repeated.id AND g.id = ANY(%(locked)s) AND g.status <> 'resolved'
      AND (g.first_seen_at > repeated.first OR g.last_seen_at < repeated.last)"""

#: An end is applied once, even if a user opens the group again. A group never ends before its last alert.
_RESOLVE = with_audit_log(
    f"""
    UPDATE alert_group g
    SET status = {status_after(Trigger.SOURCE_RESOLVED, "g.status")},
        resolved_at = greatest(ended.at, g.last_seen_at), source_status_at = greatest(ended.at, g.last_seen_at),
        is_current = false, snoozed_until = NULL, version = g.version + 1
    FROM (
        SELECT l.id, (SELECT max(e.resolved_at) FROM episode e WHERE e.alert_group_id = l.id) AS at
        FROM unnest(%(locked)s::bigint[]) AS l (id)
        WHERE NOT EXISTS (SELECT FROM episode e WHERE e.alert_group_id = l.id AND e.resolved_at IS NULL)
    ) AS ended
    WHERE g.id = ended.id AND g.status <> 'resolved' AND ended.at IS NOT NULL
      AND (g.source_status_at IS NULL OR g.source_status_at < ended.at)""",
    Actor.SOURCE,
    by="changed.source",
    at="changed.resolved_at",
)

#: An alert that was received before the end of the others may be stored after it, into a resolved group; and one that
#: was over may last again. As when a source unresolves an issue, the newest group of its key accepts alerts again.
_REOPEN = with_audit_log(
    f"""
    UPDATE alert_group g
    SET status = {status_after(Trigger.SOURCE_UNRESOLVED, "g.status")},
        resolved_at = NULL, source_status_at = NULL, version = g.version + 1,
        last_seen_at = greatest(g.last_seen_at, lasting.seen_at),
        is_current = NOT EXISTS (
            SELECT FROM alert_group n WHERE n.workspace_id = g.workspace_id AND n.group_key = g.group_key
              AND n.is_current AND n.id <> g.id
        ) AND NOT EXISTS (
            SELECT FROM alert_group n WHERE n.workspace_id = g.workspace_id AND n.group_key = g.group_key
              AND NOT n.is_current AND n.id > g.id
        )
    FROM (
        SELECT e.alert_group_id AS id, max(e.last_seen_at) AS seen_at FROM episode e
        WHERE e.alert_group_id = ANY(%(locked)s) AND e.resolved_at IS NULL GROUP BY e.alert_group_id
    ) AS lasting
    WHERE g.id = lasting.id AND g.status = 'resolved' AND g.resolved_at = g.source_status_at""",
    Actor.SOURCE,
    by="changed.source",
    at="greatest(was.resolved_at, changed.last_seen_at)",
)


def apply_repeats(firing: Sequence[Firing]) -> int:
    """Move ``last_seen_at`` of the groups of known episodes, which may last again.

    Call it before the alerts of a batch are stored, too: an alert that was received an hour after the first of an
    episode, and a minute after its repeat, is in the episode's group. Return how many groups were opened again.

    Raises:
        DatabaseUnavailable: another transaction came first; retry.
    """
    rows = _rows_of_alerts(firing)
    ids = query(_FIND_GROUPS, _ALERT_COLUMNS, rows)
    if not ids:
        return 0
    with translate_constraint_errors(), database.atomic():
        query(_STORE_REPEATS, _ALERT_COLUMNS, rows)
    with translate_constraint_errors(), database.atomic(), short_lock_timeout():
        return _settle(_lock(ids), rows, _REOPEN)


def begin(pending: Iterable[PendingEvent]) -> None:
    """Write the rows of alerts that are episodes; ask nothing for others.

    Call it inside the transaction that stores them, once each has its group.
    """
    firing = [(event.workspace_id, event.alert) for event in pending if event.alert.is_episode]
    query(_STORE_ALERTS, _ALERT_COLUMNS, _rows_of_alerts(firing))


def follow(firing: Sequence[Firing], ends: Iterable[WorkspaceChange]) -> int:
    """Apply stored alerts and ends to their groups; idempotent.

    Return how many groups were resolved or opened again.

    Raises:
        DatabaseUnavailable: another transaction came first; retry.
    """
    begun, ended, conditions = _rows_of_alerts(firing), _rows_of_ends(ends), _conditions(firing)
    if not begun and not ended:
        return 0
    ids = query(_FIND_GROUPS, _ALERT_COLUMNS, begun)
    for statement, columns, rows in ((_END, _COLUMNS, ended), (_SUPERSEDE, _CONDITION_COLUMNS, conditions)):
        with translate_constraint_errors(), database.atomic():
            ids += query(statement, columns, rows)
    with translate_constraint_errors(), database.atomic(), short_lock_timeout():
        return _settle(_lock(ids), begun, _RESOLVE, _REOPEN)


def _settle(locked: Sequence[int], begun: Sequence[_AlertRow], *statements: str) -> int:
    """Make of locked groups what the rows say; return how many were resolved or opened again."""
    query(_KEEP_ALIVE, _ALERT_COLUMNS, begun, locked=locked)
    changed: set[int] = set()
    for statement in statements:
        changed.update(group_id for (group_id,) in database.execute_sql(statement, {"locked": locked}).fetchall())
    return len(changed)


def _lock(found: Sequence[tuple[int | None]]) -> list[int]:
    """Lock groups in the order of all transactions; an episode whose alert is not stored yet has none."""
    ids = sorted({group_id for (group_id,) in found if group_id is not None})
    return [group_id for (group_id,) in database.execute_sql(_LOCK, {"ids": ids}).fetchall()]


def _rows_of_alerts(firing: Sequence[Firing]) -> list[_AlertRow]:
    alerts = {(workspace, alert.source, alert.source_event_id): alert for workspace, alert in firing}
    received = ((workspace, alert.source, alert.source_event_id, alert.received_at) for workspace, alert in firing)
    return [(*row, _end_of(alerts[row[:3]].supersedes)) for row in _rows(received)]


def _end_of(begins: str | None) -> str | None:
    """Return what sorts after all ids that begin so."""
    return begins[:-1] + chr(ord(begins[-1]) + 1) if begins else None


def _rows_of_ends(ends: Iterable[WorkspaceChange]) -> list[_Row]:
    return _rows((workspace, change.source, change.event_id, change.received_at) for workspace, change in ends)


def _conditions(firing: Iterable[Firing]) -> list[tuple[int, str, str, str, datetime]]:
    """Return a row for each condition, with the ids that begin with it, and when it was received last."""
    latest: dict[tuple[int, str, str], datetime] = {}
    for workspace_id, alert in firing:
        if alert.supersedes:
            key = (workspace_id, alert.source, alert.supersedes)
            latest[key] = max(latest.get(key, alert.received_at), alert.received_at)
    return [
        (workspace_id, source, begins, _end_of(begins) or "", moment)
        for (workspace_id, source, begins), moment in sorted(latest.items())
    ]


def _rows(received: Iterable[tuple[int, str, str, datetime]]) -> list[_Row]:
    """Return a row for each episode, sorted by identity, with when it was received first and last."""
    times: dict[tuple[int, str, str], list[datetime]] = defaultdict(list)
    for workspace_id, source, event_id, moment in received:
        times[workspace_id, source, event_id].append(moment)
    return [(*identity, min(moments), max(moments)) for identity, moments in sorted(times.items())]
