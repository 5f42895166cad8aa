"""What a source says about the state of its groups, carried over to them.

A change concerns the groups of one fingerprint in every environment. It is idempotent, and what arrives late is
measured by when it was received: a "resolved" from before a group's last alert does not close it, an "archived" from
before a group began does not snooze it, and nothing from before the source's last word on a status, or on whose a
group is, changes that.

With several workers a change may be worked off before an alert that was received before it, and find no group. So each
is remembered, in a transaction of its own, before it is carried out; and whoever has stored alerts asks afterwards what
was said since they were received. Whichever of the two commits first, the other one sees it. Whoever does either within
a larger transaction asks and tells again once that is committed. Call everything here inside ``models.session()``.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from signalcraft.domain.alerts import Change, NormalizedAlert, StatusChange
from signalcraft.domain.lifecycle import Trigger
from signalcraft.storage.audit_log import Actor, with_audit_log
from signalcraft.storage.database import database, short_lock_timeout, translate_constraint_errors
from signalcraft.storage.sql import LOCK_ORDER, Columns, query, status_after

_MATCH_COLUMNS: Columns = {"workspace_id": "bigint", "source": "text", "fingerprint": "text", "project": "text"}

_WORD_COLUMNS: Columns = {
    "workspace_id": "bigint",
    "source": "text",
    "fingerprint": "text",
    "project": "text",
    "change": "text",
    "received_at": "timestamptz",
    "snoozed_until": "timestamptz",
    "assignee": "text",
    "source_count": "bigint",
}
_SAID = ("received_at", "snoozed_until", "assignee", "source_count")
_REMEMBER_WORDS = f"""
    INSERT INTO last_word AS w ({", ".join(_WORD_COLUMNS)}) SELECT {", ".join(_WORD_COLUMNS)} FROM {{rows}}
    ON CONFLICT (workspace_id, source, fingerprint, project, change) DO UPDATE
    SET {", ".join(f"{name} = excluded.{name}" for name in _SAID)} WHERE w.received_at <= excluded.received_at"""

_ALERT_COLUMNS: Columns = {**_MATCH_COLUMNS, "received_at": "timestamptz"}
#: What was said of alerts after they were received.
_WORDS_SINCE = f"""
    SELECT DISTINCT {", ".join(f"w.{name}" for name in _WORD_COLUMNS)} FROM {{rows}} JOIN last_word w
      ON w.workspace_id = r.workspace_id AND w.source = r.source AND w.fingerprint = r.fingerprint
     AND (w.project = '' OR w.project = r.project) AND w.received_at >= r.received_at"""

#: Lock the groups that any of the changes concerns, in the order in which everybody locks groups. Not their keys: an
#: alert that opens a group after one of these refers to it, and may hold the place that a reopening waits for.
_LOCK = f"""
    SELECT g.id FROM alert_group g JOIN {{rows}}
      ON g.workspace_id = r.workspace_id AND g.fingerprint = r.fingerprint AND g.source = r.source
     AND (r.project = '' OR g.project = r.project)
    ORDER BY {LOCK_ORDER} FOR NO KEY UPDATE OF g"""

#: The groups a change is about, of those that are locked. Each statement sees what was committed before it began:
#: without this, a group that appears between two of them would be told half of a change.
_MEANT = """
    g.id = ANY(%(locked)s)
    AND g.workspace_id = %(workspace_id)s AND g.fingerprint = %(fingerprint)s AND g.source = %(source)s
    AND (%(project)s = '' OR g.project = %(project)s)"""

#: Those whose status it concerns: the source has said nothing newer of it since, nor, if it is told again, this.
_CONCERNED = f"""{_MEANT}
    AND (g.source_status_at IS NULL OR g.source_status_at < %(received_at)s
         OR NOT %(again)s AND g.source_status_at = %(received_at)s)"""

_NO_OTHER_CURRENT = """
    NOT EXISTS (
        SELECT FROM alert_group c
        WHERE c.workspace_id = g.workspace_id AND c.group_key = g.group_key AND c.is_current AND c.id <> g.id
    )"""

_NEWEST_OF_KEY = "SELECT DISTINCT ON (g.group_key) g.id FROM alert_group g WHERE {which} ORDER BY {order}"
_BY_AGE = "g.group_key, g.last_seen_at DESC, g.id DESC"

_RESOLVE = f"""
    UPDATE alert_group g
    SET status = {status_after(Trigger.SOURCE_RESOLVED, "g.status")},
        resolved_at = %(received_at)s, is_current = false, snoozed_until = NULL, version = g.version + 1
    WHERE {_CONCERNED} AND g.status <> 'resolved' AND g.last_seen_at <= %(received_at)s"""

_ARCHIVE = f"""
    UPDATE alert_group g
    SET status = {status_after(Trigger.SOURCE_ARCHIVED, "g.status")},
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
    SET status = {status_after(Trigger.SOURCE_UNRESOLVED, "g.status")},
        resolved_at = NULL, snoozed_until = NULL, is_current = true, version = g.version + 1
    WHERE g.status IN ('resolved', 'snoozed') AND {_NO_OTHER_CURRENT} AND g.first_seen_at <= %(received_at)s
      AND (g.resolved_at IS NULL OR g.resolved_at <= %(received_at)s)
      AND g.id IN ({_NEWEST_OF_KEY.format(which=_CONCERNED, order=_BY_AGE)})"""

_TO_ASSIGN = f"""{_MEANT} AND g.first_seen_at <= %(received_at)s
    AND (g.assigned_at IS NULL OR g.assigned_at < %(received_at)s
         OR NOT %(again)s AND g.assigned_at = %(received_at)s)"""
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
    return with_audit_log(update, Actor.SOURCE, by="%(source)s", at="%(received_at)s")


_STEPS: Mapping[Change, Sequence[str]] = MappingProxyType(
    {
        Change.RESOLVED: (_noted(_RESOLVE), _REMEMBER),
        Change.ARCHIVED: (_noted(_ARCHIVE), _MAKE_NEWEST_UNRESOLVED_CURRENT, _REMEMBER),
        Change.UNRESOLVED: (_noted(_UNRESOLVE), _REMEMBER),
        Change.ASSIGNED: (_noted(_ASSIGN), _REMEMBER_ASSIGNMENT),
    }
)


#: A change, and the id of the workspace that it is about.
WorkspaceChange = tuple[int, StatusChange]


def apply_status_changes(changes: Sequence[WorkspaceChange]) -> int:
    """Remember changes, and carry them out in the order in which they were received, in one transaction.

    How many times a group changed; one that was as the source says already does not count.

    Raises:
        DatabaseUnavailable: another transaction came first; nothing was changed, try again.
    """
    latest = {_row_of(*change)[:5]: _row_of(*change) for change in _in_order(changes)}
    with translate_constraint_errors(), database.atomic():
        query(_REMEMBER_WORDS, _WORD_COLUMNS, [latest[key] for key in sorted(latest)])
    return _apply_in_order(changes, again=False)


def reapply(changes: Sequence[WorkspaceChange]) -> int:
    """Carry out ``changes``, which were applied, for groups that could not be seen then; how often one changed.

    Raises:
        DatabaseUnavailable: as ``apply_changes``.
    """
    return _apply_in_order(changes, again=True)


def apply_missed_updates(alerts: Iterable[tuple[int, NormalizedAlert]]) -> int:
    """Carry out what was said of ``alerts``, which are stored, since they were received; how often a group changed.

    Raises:
        DatabaseUnavailable: as ``apply_changes``.
    """
    since: dict[tuple[int, str, str, str], datetime] = {}
    for workspace_id, alert in alerts:
        key = (workspace_id, alert.source, alert.fingerprint, alert.project)
        since[key] = min(since.get(key, alert.received_at), alert.received_at)
    words = query(_WORDS_SINCE, _ALERT_COLUMNS, [(*key, moment) for key, moment in since.items()])
    return _apply_in_order([_status_change_of(*word) for word in words], again=True)


def _in_order(changes: Iterable[WorkspaceChange]) -> list[WorkspaceChange]:
    return sorted(changes, key=lambda pair: pair[1].received_at)


def _row_of(workspace_id: int, change: StatusChange) -> tuple[Any, ...]:
    """In the order of ``_WORD_COLUMNS``."""
    named = (change.source, change.fingerprint, change.project, change.change.value)
    return (workspace_id, *named, *(getattr(change, name) for name in _SAID))


def _status_change_of(workspace_id: int, *values: Any) -> WorkspaceChange:  # noqa: ANN401 - a row as SELECTed
    said = dict(zip(list(_WORD_COLUMNS)[1:], values, strict=True))
    return workspace_id, StatusChange(**said | {"change": Change(said["change"])})


def _apply_in_order(changes: Sequence[WorkspaceChange], *, again: bool) -> int:
    """``again``: they were carried out before, so groups that have heard them are left alone."""
    if not changes:
        return 0
    concerned = {(workspace, change.source, change.fingerprint, change.project) for workspace, change in changes}
    with translate_constraint_errors(), database.atomic(), short_lock_timeout():
        locked = [group_id for (group_id,) in query(_LOCK, _MATCH_COLUMNS, sorted(concerned))]
        return sum(_apply(*change, locked, again=again) for change in _in_order(changes))


def _apply(workspace_id: int, change: StatusChange, locked: Sequence[int], *, again: bool) -> int:
    parameters = {
        "locked": locked,
        "workspace_id": workspace_id,
        "source": change.source,
        "fingerprint": change.fingerprint,
        "project": change.project,
        "received_at": change.received_at,
        "snoozed_until": change.snoozed_until,
        "assignee": change.assignee,
        "source_count": change.source_count,
        "again": again,
    }
    if change.source_count is not None:  # before it may be resolved: an old group keeps the count of its day
        database.execute_sql(_REMEMBER_COUNT, parameters)
    first, *others = _STEPS[change.change]
    changed = {group_id for (group_id,) in database.execute_sql(first, parameters).fetchall()}
    for statement in others:
        database.execute_sql(statement, parameters)
    return len(changed)
