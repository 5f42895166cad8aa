"""What a source says about the state of its groups, carried over to them.

A change concerns the groups of one fingerprint in every environment. It is idempotent, and what arrives late is
measured by when it was received: a "resolved" from before a group's last alert does not close it, an "archived" from
before a group began does not snooze it, and nothing from before the source's last word on a status, or on whose a
group is, changes that. Call everything here inside ``models.session()``.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from signalcraft import border
from signalcraft.alerts import Change, StatusChange
from signalcraft.history import Actor, noting
from signalcraft.lifecycle import Cause
from signalcraft.models import database
from signalcraft.statements import Columns, query, status_after

_MATCH_COLUMNS: Columns = {"workspace_id": "bigint", "source": "text", "fingerprint": "text", "project": "text"}

#: Lock the groups that any of the changes concerns, in the order in which everybody locks groups. Not their keys: an
#: alert that opens a group after one of these refers to it, and may hold the place that a reopening waits for.
_LOCK = """
    SELECT g.id FROM alert_group g JOIN {rows}
      ON g.workspace_id = r.workspace_id AND g.fingerprint = r.fingerprint AND g.source = r.source
     AND (r.project = '' OR g.project = r.project)
    ORDER BY g.workspace_id, g.group_key, g.id FOR NO KEY UPDATE OF g"""

#: The groups a change is about.
_MEANT = """
    g.workspace_id = %(workspace_id)s AND g.fingerprint = %(fingerprint)s AND g.source = %(source)s
    AND (%(project)s = '' OR g.project = %(project)s)"""

#: Those whose status it concerns: the source has said nothing newer of it since.
_CONCERNED = f"""{_MEANT}
    AND (g.source_status_at IS NULL OR g.source_status_at <= %(received_at)s)"""

_NO_OTHER_CURRENT = """
    NOT EXISTS (
        SELECT FROM alert_group c
        WHERE c.workspace_id = g.workspace_id AND c.group_key = g.group_key AND c.is_current AND c.id <> g.id
    )"""

_NEWEST_OF_KEY = "SELECT DISTINCT ON (g.group_key) g.id FROM alert_group g WHERE {which} ORDER BY {order}"
_BY_AGE = "g.group_key, g.last_seen_at DESC, g.id DESC"

_RESOLVE = f"""
    UPDATE alert_group g
    SET status = {status_after(Cause.SOURCE_RESOLVED, "g.status")},
        resolved_at = %(received_at)s, is_current = false, snoozed_until = NULL, version = g.version + 1
    WHERE {_CONCERNED} AND g.status <> 'resolved' AND g.last_seen_at <= %(received_at)s"""

_ARCHIVE = f"""
    UPDATE alert_group g
    SET status = {status_after(Cause.SOURCE_ARCHIVED, "g.status")},
        snoozed_until = %(snoozed_until)s, version = g.version + 1
    WHERE {_CONCERNED} AND g.status <> 'resolved' AND g.first_seen_at <= %(received_at)s
      AND (g.status <> 'snoozed' OR g.snoozed_until IS DISTINCT FROM %(snoozed_until)s)"""

#: A snooze outlasts the window, so the group that is snoozed must be the one that alerts meet.
_MAKE_NEWEST_UNRESOLVED_CURRENT = f"""
    UPDATE alert_group g SET is_current = true
    WHERE NOT g.is_current AND {_NO_OTHER_CURRENT}
      AND g.id IN ({_NEWEST_OF_KEY.format(which=_CONCERNED + " AND g.status <> 'resolved'", order=_BY_AGE)})"""

#: Only the newest group of each environment, and not where a newer current one stands.
_UNRESOLVE = f"""
    UPDATE alert_group g
    SET status = {status_after(Cause.SOURCE_UNRESOLVED, "g.status")},
        resolved_at = NULL, snoozed_until = NULL, is_current = true, version = g.version + 1
    WHERE g.status IN ('resolved', 'snoozed') AND {_NO_OTHER_CURRENT}
      AND (g.resolved_at IS NULL OR g.resolved_at <= %(received_at)s)
      AND g.id IN ({_NEWEST_OF_KEY.format(which=_CONCERNED, order=_BY_AGE)})"""

_TO_ASSIGN = f"{_MEANT} AND (g.assigned_at IS NULL OR g.assigned_at <= %(received_at)s)"
_ASSIGN = f"""
    UPDATE alert_group g SET assignee_user_id = %(assignee)s, version = g.version + 1
    WHERE {_TO_ASSIGN} AND g.status <> 'resolved' AND g.assignee_user_id IS DISTINCT FROM %(assignee)s"""

#: Remember when the source last spoke, also where that changed nothing; and how often it has seen the issue by then.
_REMEMBER = f"UPDATE alert_group g SET source_status_at = %(received_at)s WHERE {_CONCERNED}"
_REMEMBER_ASSIGNMENT = f"UPDATE alert_group g SET assigned_at = %(received_at)s WHERE {_TO_ASSIGN}"
_REMEMBER_COUNT = f"""
    UPDATE alert_group g SET source_count = %(source_count)s
    WHERE {_MEANT} AND g.status <> 'resolved' AND %(source_count)s > coalesce(g.source_count, -1)"""


def _noted(update: str) -> str:
    return noting(update, Actor.SOURCE, by="%(source)s", at="%(received_at)s")


_STEPS: Mapping[Change, Sequence[str]] = MappingProxyType(
    {
        Change.RESOLVED: (_noted(_RESOLVE), _REMEMBER),
        Change.ARCHIVED: (_noted(_ARCHIVE), _MAKE_NEWEST_UNRESOLVED_CURRENT, _REMEMBER),
        Change.UNRESOLVED: (_noted(_UNRESOLVE), _REMEMBER),
        Change.ASSIGNED: (_noted(_ASSIGN), _REMEMBER_ASSIGNMENT),
    }
)


def apply_changes(changes: Sequence[tuple[int, StatusChange]]) -> int:
    """Carry out changes, each with its workspace's id, in the order in which they were received, in one transaction.

    How many times a group changed; one that was as the source says already does not count.

    Raises:
        DatabaseUnavailable: another transaction came first; nothing was changed, try again.
    """
    if not changes:
        return 0
    concerned = {(workspace, change.source, change.fingerprint, change.project) for workspace, change in changes}
    with border.refusals(), database.atomic():
        query(_LOCK, _MATCH_COLUMNS, sorted(concerned))
        return sum(_apply(*change) for change in sorted(changes, key=lambda pair: pair[1].received_at))


def _apply(workspace_id: int, change: StatusChange) -> int:
    parameters = {
        "workspace_id": workspace_id,
        "source": change.source,
        "fingerprint": change.fingerprint,
        "project": change.project,
        "received_at": change.received_at,
        "snoozed_until": change.snoozed_until,
        "assignee": change.assignee,
        "source_count": change.source_count,
    }
    if change.source_count is not None:  # before it may be resolved: an old group keeps the count of its day
        database.execute_sql(_REMEMBER_COUNT, parameters)
    first, *others = _STEPS[change.change]
    changed = {group_id for (group_id,) in database.execute_sql(first, parameters).fetchall()}
    for statement in others:
        database.execute_sql(statement, parameters)
    return len(changed)
