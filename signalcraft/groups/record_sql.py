"""The SQL statements of ``record``, each for any number of rows.

``{rows}`` stands for the rows (``storage.sql.Statement``). SQL rather than Python decides whether an alert may join
a group, and how joining changes the status, because the row must be locked first.
"""

from collections.abc import Sequence

from signalcraft.domain.alerts import MAX_EVENT_RULES, GroupStatus, Severity
from signalcraft.domain.lifecycle import Trigger
from signalcraft.storage.audit_log import Actor, with_audit_log
from signalcraft.storage.sql import LOCK_ORDER, SEVERITY_SCALE, Columns, identity, rank, status_after

EVENT_COLUMNS: Columns = {
    "id": "bigint",
    "workspace_id": "bigint",
    "source": "text",
    "source_event_id": "text",
    "delivery_id": "text",
    "project": "text",
    "environment": "text",
    "names_environment": "boolean",
    "severity": "text",
    "fingerprint": "text",
    "issue_id": "text",
    "title": "text",
    "message": "text",
    "tags_json": "jsonb",
    "triggered_rules": "jsonb",
    "link": "text",
    "occurred_at": "timestamptz",
    "received_at": "timestamptz",
    "alert_group_id": "bigint",
    "decision": "text",
    "payload_json": "bytea",
}
GROUP_COLUMNS: Columns = {
    "workspace_id": "bigint",
    "group_key": "text",
    "source": "text",
    "project": "text",
    "environment": "text",
    "environment_is_assumed": "boolean",
    "fingerprint": "text",
    "issue_id": "text",
    "title": "text",
    "title_from": "text",
    "link": "text",
    "link_from": "text",
    "severity": "text",
    "count": "bigint",
    "source_count": "bigint",
    "first_seen_at": "timestamptz",
    "last_seen_at": "timestamptz",
    "is_current": "boolean",
    "previous_group_id": "bigint",
    "began_after": "timestamptz",
    "runbook_url": "text",
}
_MERGED = (
    *("severity", "count", "source_count", "first_seen_at", "last_seen_at"),
    *("title", "title_from", "link", "link_from"),
)


def _status_after_one_of(triggers: Sequence[Trigger], column: str, status: str) -> str:
    """Return SQL for the status after the trigger in ``column``."""
    branches = " ".join(f"WHEN '{trigger.value}' THEN {status_after(trigger, status)}" for trigger in triggers)
    return f"CASE {column} {branches} ELSE {status} END"


def _one_step_up(severity: str) -> str:
    return f"({SEVERITY_SCALE})[least({rank(severity)} + 1, {len(Severity)})]"


def _merge_into_group(new: str) -> str:
    """Return the SET list for a group joined by ``new``.

    The group is ``g``. ``new`` is a burst. Severity and status are not included.
    """
    return f"""
        count = g.count + {new}.count,
        source_count = greatest(g.source_count, {new}.source_count),
        first_seen_at = least(g.first_seen_at, {new}.first_seen_at),
        last_seen_at = greatest(g.last_seen_at, {new}.last_seen_at),
        title = CASE WHEN {new}.title_from > g.title_from THEN {new}.title ELSE g.title END,
        title_from = greatest(g.title_from, {new}.title_from),
        link = CASE WHEN {new}.link_from > g.link_from THEN {new}.link ELSE g.link END,
        link_from = greatest(g.link_from, {new}.link_from)"""


_IDENTITY: Columns = {name: EVENT_COLUMNS[name] for name in ("workspace_id", "source", "source_event_id")}
_SAME_EVENT = " AND ".join(f"e.{name} = r.{name}" for name in _IDENTITY)

#: An alert that came within the hour cannot be one that retention deleted, which was a day old or more, and the alert's
#: own time is part of its bytes; so live traffic need not look for it. An alert without a time has that of its receipt.
_CAME_AT_ONCE = "(r.occurred_at < r.received_at AND r.occurred_at > r.received_at - interval '1 hour')"

#: Find the events that are neither stored nor were, until retention deleted them; take an id for each. They are copied
#: into the table then: one that another transaction has stored meanwhile violates the unique key. Without that key an
#: alert could count twice, so PostgreSQL shall refuse this statement: the INSERT of no row names the key. Each is found
#: by its index: a join may read all.
NOVELTY_COLUMNS: Columns = {
    "position": "integer",
    **_IDENTITY,
    "occurred_at": "timestamptz",
    "received_at": "timestamptz",
}
TAKE_IDS_OF_NEW = f"""
    WITH no_event AS (
        INSERT INTO alert_event (workspace_id) SELECT 0 WHERE false ON CONFLICT ({", ".join(_IDENTITY)}) DO NOTHING
    )
    SELECT position, nextval('alert_event_id_seq') FROM {{rows}}
    WHERE (SELECT true FROM alert_event e WHERE {_SAME_EVENT}) IS NULL
      AND ({_CAME_AT_ONCE} OR (SELECT true FROM purged_event p WHERE p.identity = {identity("r")}) IS NULL)"""

#: Add the rules that sent duplicates, up to a bound. Events are locked in one order.
RULE_COLUMNS: Columns = {**_IDENTITY, "rules": "jsonb"}
ADD_RULES = f"""
    WITH sent AS MATERIALIZED (
        SELECT e.id, r.rules FROM {{rows}} JOIN alert_event e ON {_SAME_EVENT}
        WHERE jsonb_array_length(e.triggered_rules) < {MAX_EVENT_RULES} AND NOT e.triggered_rules @> r.rules
        ORDER BY {", ".join(f"e.{name}" for name in _IDENTITY)} FOR NO KEY UPDATE OF e
    )
    UPDATE alert_event e
    SET triggered_rules = (
        SELECT jsonb_agg(rule ORDER BY rule) FROM (
            SELECT rule FROM jsonb_array_elements(e.triggered_rules || sent.rules)
                WITH ORDINALITY AS listed (rule, position)
            GROUP BY rule ORDER BY min(position) LIMIT {MAX_EVENT_RULES}
        ) AS kept
    )
    FROM sent WHERE e.id = sent.id"""

#: Add events to the counts of their group and hour: the groups are locked.
GROUP_HOUR_COLUMNS: Columns = {"alert_group_id": "bigint", "hour": "timestamptz", "alerts": "bigint"}
COUNT_GROUP_HOURS = """
    INSERT INTO group_hour AS h (alert_group_id, hour, alerts)
    SELECT alert_group_id, hour, alerts FROM {rows} ORDER BY alert_group_id, hour
    ON CONFLICT (alert_group_id, hour) DO UPDATE SET alerts = h.alerts + excluded.alerts"""

#: What is returned of a group; last its alerts, if it can still spike.
_GROUP = """g.id, g.workspace_id, g.group_key, g.alert_severity, g.status, g.snoozed_until,
    CASE WHEN NOT g.spiked THEN g.count END"""

#: Open a group for each burst, or join the current group of its key on the same condition as ``grouping.Span.covers``.
#: A key that returns no row was refused by its current group, which is locked nevertheless.
UPSERT_GROUPS = f"""
    INSERT INTO alert_group AS g ({", ".join(GROUP_COLUMNS)}, alert_severity)
    SELECT {", ".join(GROUP_COLUMNS)}, severity FROM {{rows}} ORDER BY workspace_id, group_key
    ON CONFLICT (workspace_id, group_key) WHERE is_current DO UPDATE SET {_merge_into_group("excluded")}
    WHERE excluded.first_seen_at >= g.first_seen_at - %(window)s
      AND (g.began_after IS NULL OR excluded.first_seen_at > g.began_after)
      AND (
          excluded.first_seen_at <= g.last_seen_at + %(window)s
          OR g.status = '{GroupStatus.SNOOZED.value}'
             AND (g.snoozed_until IS NULL OR g.snoozed_until > excluded.first_seen_at)
      )
    RETURNING {_GROUP}, g.xmax = 0"""

#: Join each burst to the locked group, current or not, that ``grouping.assign`` chose.
JOIN_COLUMNS: Columns = {"id": "bigint"} | {name: GROUP_COLUMNS[name] for name in _MERGED}
JOIN_GROUPS = f"""
    UPDATE alert_group g SET {_merge_into_group("r")} FROM {{rows}} WHERE g.id = r.id
    RETURNING {_GROUP}, false"""

#: Update severity and status of joined groups, by trigger.
TRIGGER_COLUMNS: Columns = {"id": "bigint", "severity": "text", "cause": "text"}
_NEW_STATUS = _status_after_one_of((Trigger.WORSE_ALERT, Trigger.SNOOZE_END), "r.cause", "g.status")
_HIGHEST_SEVERITY = (
    f"CASE WHEN {rank('r.severity')} > {rank('g.alert_severity')} THEN r.severity ELSE g.alert_severity END"
)
_UPDATE_SEVERITY_AND_STATUS = f"""
    UPDATE alert_group g
    SET alert_severity = {_HIGHEST_SEVERITY},
        severity = CASE WHEN g.spiked THEN {_one_step_up(f"({_HIGHEST_SEVERITY})")} ELSE {_HIGHEST_SEVERITY} END,
        status = {_NEW_STATUS},
        snoozed_until = CASE WHEN {_NEW_STATUS} = '{GroupStatus.SNOOZED.value}' THEN g.snoozed_until END,
        version = g.version + ({_NEW_STATUS} <> g.status)::int
    FROM {{rows}} WHERE g.id = r.id"""
UPDATE_SEVERITY_AND_STATUS = with_audit_log(
    _UPDATE_SEVERITY_AND_STATUS, Actor.ALERT, by="changed.source", at="changed.last_seen_at"
)

_SPAN = "g.id, g.first_seen_at, g.last_seen_at, g.status, g.is_current, g.snoozed_until, g.resolved_at, g.began_after"

#: Find the previous group of the key of each group that was just opened.
OPENED_COLUMNS: Columns = {"group_id": "bigint", "workspace_id": "bigint", "group_key": "text"}
FIND_PREVIOUS = f"""
    SELECT r.group_id, {_SPAN.replace("g.", "p.")}
    FROM {{rows}} CROSS JOIN LATERAL (
        SELECT * FROM alert_group g
        WHERE g.workspace_id = r.workspace_id AND g.group_key = r.group_key AND NOT g.is_current
        ORDER BY g.first_seen_at DESC LIMIT 1
    ) p"""

#: Set the previous group.
LINK_COLUMNS: Columns = {"id": "bigint", "previous_group_id": "bigint", "began_after": "timestamptz"}
LINK_PREVIOUS = """
    UPDATE alert_group g SET previous_group_id = r.previous_group_id, began_after = r.began_after
    FROM {rows} WHERE g.id = r.id"""

#: Delete groups opened in this transaction for alerts that belong to other groups.
DELETE_GROUPS = "DELETE FROM alert_group g USING {rows} WHERE g.id = r.id"

#: Lock the groups of each key that ``grouping.assign`` may need for alerts from ``since`` on, and the last group before
#: that. Current groups and others are selected separately: each kind has its own index, and no index covers both.
SPAN_LOOKUP_COLUMNS: Columns = {"workspace_id": "bigint", "group_key": "text", "since": "timestamptz"}
_SAME_KEY = "g.workspace_id = r.workspace_id AND g.group_key = r.group_key"
LOCK_SPANS = f"""
    SELECT g.workspace_id, g.group_key, {_SPAN}
    FROM {{rows}} CROSS JOIN LATERAL (
        SELECT g.id FROM alert_group g WHERE {_SAME_KEY} AND g.is_current
        UNION
        SELECT g.id FROM alert_group g
        WHERE {_SAME_KEY} AND NOT g.is_current AND (g.last_seen_at >= r.since OR g.resolved_at >= r.since)
        UNION
        (SELECT g.id FROM alert_group g WHERE {_SAME_KEY} AND NOT g.is_current AND g.first_seen_at < r.since
         ORDER BY g.first_seen_at DESC LIMIT 1)
    ) AS candidate JOIN alert_group g ON g.id = candidate.id
    ORDER BY {LOCK_ORDER} FOR NO KEY UPDATE OF g"""

#: Make current groups non-current, so that they accept no more alerts; nothing else changes.
KEY_COLUMNS: Columns = {"workspace_id": "bigint", "group_key": "text"}
RETIRE_CURRENT = """
    UPDATE alert_group g SET is_current = false
    FROM {rows} WHERE g.workspace_id = r.workspace_id AND g.group_key = r.group_key AND g.is_current"""

#: Mark groups with at least ``spike_count`` alerts in a bucket that this batch added to. The events of other groups are
#: not counted: the count depends on ``g``.
BUCKET_COLUMNS: Columns = {"group_id": "bigint", "start": "timestamptz"}
MARK_SPIKES = f"""
    UPDATE alert_group g SET spiked = true, severity = {_one_step_up("g.alert_severity")}
    FROM {{rows}}
    WHERE g.id = r.group_id AND NOT g.spiked AND g.count >= %(spike_count)s
      AND %(spike_count)s <= (
          SELECT count(*) FROM (
              SELECT FROM alert_event e
              WHERE e.alert_group_id = g.id AND e.received_at >= r.start AND e.received_at < r.start + %(bucket)s
              LIMIT %(spike_count)s
          ) AS enough
      )
    RETURNING g.id"""

#: Add to the hourly counts, in the order of their key.
HOUR_COLUMNS: Columns = {
    "workspace_id": "bigint",
    "hour": "timestamptz",
    "project": "text",
    "environment": "text",
    "severity": "text",
    "alerts": "bigint",
    "duplicates": "bigint",
    "groups_new": "bigint",
    "groups_updated": "bigint",
}
_HOUR_SUMS = ("alerts", "duplicates", "groups_new", "groups_updated")
COUNT_HOURS = f"""
    INSERT INTO hourly_count AS h ({", ".join(HOUR_COLUMNS)})
    SELECT {", ".join(HOUR_COLUMNS)} FROM {{rows}} ORDER BY workspace_id, hour, project, environment, severity
    ON CONFLICT (workspace_id, hour, project, environment, severity) DO UPDATE
    SET {", ".join(f"{name} = h.{name} + excluded.{name}" for name in _HOUR_SUMS)}"""
