"""Apply status changes of a source to its groups.

A status change applies to the groups of one fingerprint in every environment and under every project's name: ids of
issues and rules are unique within a source, and projects are renamed. It is idempotent. Late changes are
compared by the time they were received: a "resolved" from before a group's last alert does not resolve it, an
"archived" from before a group's first alert does not snooze it, and a change older than the source's latest status
change or the latest assignment of a group does not overwrite that. It locks the groups that it may change
(``issue_groups``), not all groups that the issue ever had; if those are more than ``MAX_GROUPS``, it is only marked as
unfinished, and ``unfinished_updates`` applies it in steps.

Each group that was locked has the time of the change; of the others, which were resolved and stay so, the issue's row
in ``last_word`` (``applied_at``) says so, and a user who reopens one of them writes it into the group.

With several workers a status change may be processed before an alert that was received earlier, and find no group.
Therefore each change is first stored as the latest source update, in its own transaction, and then applied; and a
worker that has stored alerts calls ``apply_missed_updates`` for updates received since those alerts. Whichever of the
two commits first, the other sees it. A worker that does either within a larger transaction calls ``reapply`` and
``apply_missed_updates`` after the commit. Call everything inside ``database.session()``.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from signalcraft.domain.alerts import Change, NormalizedAlert, StatusChange
from signalcraft.domain.lifecycle import Trigger
from signalcraft.groups import issue_groups
from signalcraft.groups.issue_groups import ISSUE_COLUMNS, Issue
from signalcraft.storage.audit_log import Actor, with_audit_log
from signalcraft.storage.database import database, short_lock_timeout, translate_constraint_errors
from signalcraft.storage.sql import Columns, query, status_after

#: The most groups that one transaction changes: it takes some 0.1 s, and alerts of those groups wait for it.
MAX_GROUPS: Final = 500

_UPDATE_COLUMNS: Columns = {
    "workspace_id": "bigint",
    "source": "text",
    "fingerprint": "text",
    "change": "text",
    "received_at": "timestamptz",
    "snoozed_until": "timestamptz",
    "assignee": "text",
    "source_count": "bigint",
}
_VALUES = ("received_at", "snoozed_until", "assignee", "source_count")
_UPSERT_LATEST_UPDATES = f"""
    INSERT INTO last_word AS w ({", ".join(_UPDATE_COLUMNS)}) SELECT {", ".join(_UPDATE_COLUMNS)} FROM {{rows}}
    ON CONFLICT (workspace_id, source, fingerprint, project, change) DO UPDATE
    SET {", ".join(f"{name} = excluded.{name}" for name in _VALUES)} WHERE w.received_at <= excluded.received_at"""

_ALERT_COLUMNS: Columns = {**ISSUE_COLUMNS, "received_at": "timestamptz"}
_SAME_ISSUE = "w.workspace_id = r.workspace_id AND w.source = r.source AND w.fingerprint = r.fingerprint"
#: The columns of an update ``w``, of which ``status_change_of`` makes a change.
UPDATE: Final = ", ".join(f"w.{name}" for name in _UPDATE_COLUMNS)
#: Find the latest source updates received after the alerts they apply to.
_FIND_UPDATES_SINCE = f"""
    SELECT DISTINCT {UPDATE} FROM {{rows}} JOIN last_word w ON {_SAME_ISSUE} AND w.received_at >= r.received_at"""
#: Lock the latest source updates of issues, before any group: two changes of an issue begin one after the other.
_LOCK_UPDATES = f"""
    SELECT w.workspace_id, w.source, w.fingerprint, w.change, w.applied_at
    FROM {{rows}} JOIN last_word w ON {_SAME_ISSUE} ORDER BY w.id FOR NO KEY UPDATE OF w"""
_MARK_APPLIED = f"""
    UPDATE last_word w SET applied_at = greatest(w.applied_at, r.received_at), applied_up_to = %(applied_up_to)s
    FROM {{rows}} WHERE {_SAME_ISSUE} AND w.change = r.change"""

#: The locked groups that a change applies to. Each statement sees what was committed before it began: without the lock
#: condition, only half of a change would apply to a group that appears between two statements.
_MATCHING = """
    g.id = ANY(%(locked)s)
    AND g.workspace_id = %(workspace_id)s AND g.fingerprint = %(fingerprint)s AND g.source = %(source)s"""

#: The matching groups without a newer status change, nor, if the change is reapplied, the same one.
_WITHOUT_NEWER_STATUS = f"""{_MATCHING}
    AND (g.source_status_at IS NULL OR g.source_status_at < %(received_at)s
         OR NOT %(again)s AND g.source_status_at = %(received_at)s)"""

_NO_OTHER_CURRENT = """
    NOT EXISTS (
        SELECT FROM alert_group c
        WHERE c.workspace_id = g.workspace_id AND c.group_key = g.group_key AND c.is_current AND c.id <> g.id
    )"""

_NEWEST_OF_KEY = "SELECT DISTINCT ON (g.group_key) g.id FROM alert_group g WHERE {which} ORDER BY {order}"
_NEWEST_FIRST = "g.group_key, g.last_seen_at DESC, g.id DESC"

_RESOLVE = f"""
    UPDATE alert_group g
    SET status = {status_after(Trigger.SOURCE_RESOLVED, "g.status")},
        resolved_at = %(received_at)s, is_current = false, snoozed_until = NULL, version = g.version + 1,
        source_status_at = %(received_at)s
    WHERE {_WITHOUT_NEWER_STATUS} AND g.status <> 'resolved' AND g.last_seen_at <= %(received_at)s"""

_ARCHIVE = f"""
    UPDATE alert_group g
    SET status = {status_after(Trigger.SOURCE_ARCHIVED, "g.status")},
        snoozed_until = %(snoozed_until)s, version = g.version + 1
    WHERE {_WITHOUT_NEWER_STATUS} AND g.status <> 'resolved' AND g.first_seen_at <= %(received_at)s
      AND (g.status <> 'snoozed' OR g.snoozed_until IS DISTINCT FROM %(snoozed_until)s)"""

_UNRESOLVED_WITHOUT_NEWER_STATUS = f"{_WITHOUT_NEWER_STATUS} AND g.status <> 'resolved'"
#: A snooze outlasts the window, so the snoozed group must be the current one.
_MAKE_NEWEST_UNRESOLVED_CURRENT = f"""
    UPDATE alert_group g SET is_current = true
    WHERE NOT g.is_current AND {_NO_OTHER_CURRENT}
      AND g.id IN ({_NEWEST_OF_KEY.format(which=_UNRESOLVED_WITHOUT_NEWER_STATUS, order=_NEWEST_FIRST)})"""

#: Only the newest group of each key, and only if no newer group is current.
_UNRESOLVE = f"""
    UPDATE alert_group g
    SET status = {status_after(Trigger.SOURCE_UNRESOLVED, "g.status")},
        resolved_at = NULL, snoozed_until = NULL, is_current = true, version = g.version + 1,
        source_status_at = %(received_at)s
    WHERE g.status IN ('resolved', 'snoozed') AND {_NO_OTHER_CURRENT} AND g.first_seen_at <= %(received_at)s
      AND (g.resolved_at IS NULL OR g.resolved_at <= %(received_at)s) AND {_WITHOUT_NEWER_STATUS}
      AND g.id IN ({_NEWEST_OF_KEY.format(which=_MATCHING, order=_NEWEST_FIRST)})"""

_WITHOUT_NEWER_ASSIGNMENT = f"""{_MATCHING} AND g.first_seen_at <= %(received_at)s
    AND (g.assigned_at IS NULL OR g.assigned_at < %(received_at)s
         OR NOT %(again)s AND g.assigned_at = %(received_at)s)"""
_ASSIGN = f"""
    UPDATE alert_group g
    SET assignee_user_id = %(assignee)s, version = g.version + 1, assigned_at = %(received_at)s
    WHERE {_WITHOUT_NEWER_ASSIGNMENT} AND g.status <> 'resolved' AND g.assignee_user_id IS DISTINCT FROM %(assignee)s"""

#: Set the time of the latest status change or assignment, even if nothing else changed, and the source's own count.
_SET_STATUS_TIME = f"""
    UPDATE alert_group g SET source_status_at = %(received_at)s
    WHERE {_MATCHING} AND (g.source_status_at IS NULL OR g.source_status_at < %(received_at)s)"""
_SET_ASSIGNED_TIME = f"""
    UPDATE alert_group g SET assigned_at = %(received_at)s
    WHERE {_MATCHING} AND g.first_seen_at <= %(received_at)s
      AND (g.assigned_at IS NULL OR g.assigned_at < %(received_at)s)"""
_SET_SOURCE_COUNT = f"""
    UPDATE alert_group g SET source_count = %(source_count)s
    WHERE {_MATCHING} AND g.status <> 'resolved' AND %(source_count)s > coalesce(g.source_count, -1)"""


def _audited(update: str) -> str:
    return with_audit_log(update, Actor.SOURCE, by="%(source)s", at="%(received_at)s")


_STATEMENTS: Final[Mapping[Change, Sequence[str]]] = {
    Change.RESOLVED: (_audited(_RESOLVE), _SET_STATUS_TIME),
    Change.ARCHIVED: (_audited(_ARCHIVE), _MAKE_NEWEST_UNRESOLVED_CURRENT, _SET_STATUS_TIME),
    Change.UNRESOLVED: (_audited(_UNRESOLVE), _SET_STATUS_TIME),
    Change.ASSIGNED: (_audited(_ASSIGN), _SET_ASSIGNED_TIME),
}


#: A workspace id and a status change.
WorkspaceChange = tuple[int, StatusChange]


def apply_status_changes(changes: Sequence[WorkspaceChange]) -> int:
    """Store changes, then apply them in order of receipt.

    They are stored as latest source updates. All are applied in one transaction. Return how many times a group changed;
    a group that already has the state does not count.

    Raises:
        DatabaseUnavailable: another transaction came first; no group was changed, retry.
    """
    if not changes:
        return 0
    latest = {_row_of(*change)[:4]: _row_of(*change) for change in _in_order(changes)}
    with translate_constraint_errors(), database.atomic():
        query(_UPSERT_LATEST_UPDATES, _UPDATE_COLUMNS, [latest[key] for key in sorted(latest)])
    return _apply_in_order(changes, again=False)


def reapply(changes: Sequence[WorkspaceChange]) -> int:
    """Apply ``changes`` again.

    This updates groups that were not visible the first time. Return how many times a group changed.

    Raises:
        DatabaseUnavailable: as ``apply_status_changes``.
    """
    return _apply_in_order(changes, again=True)


def apply_missed_updates(alerts: Iterable[tuple[int, NormalizedAlert]]) -> int:
    """Apply source updates received after stored ``alerts`` were received.

    ``alerts`` are pairs of a workspace id and an alert. Return how many times a group changed.

    Raises:
        DatabaseUnavailable: as ``apply_status_changes``.
    """
    since: dict[tuple[int, str, str], datetime] = {}
    for workspace_id, alert in alerts:
        key = (workspace_id, alert.source, alert.fingerprint)
        since[key] = min(since.get(key, alert.received_at), alert.received_at)
    updates = query(_FIND_UPDATES_SINCE, _ALERT_COLUMNS, [(*key, moment) for key, moment in since.items()])
    return _apply_in_order([status_change_of(*update) for update in updates], again=True)


def _in_order(changes: Iterable[WorkspaceChange]) -> list[WorkspaceChange]:
    return sorted(changes, key=lambda pair: pair[1].received_at)


def _row_of(workspace_id: int, change: StatusChange) -> tuple[Any, ...]:
    """Return values in the order of ``_UPDATE_COLUMNS``."""
    key = (change.source, change.fingerprint, change.change.value)
    return (workspace_id, *key, *(getattr(change, name) for name in _VALUES))


def status_change_of(workspace_id: int, *values: Any) -> WorkspaceChange:  # noqa: ANN401 - columns of a row
    """Return the change of the columns ``UPDATE``."""
    fields = dict(zip(list(_UPDATE_COLUMNS)[1:], values, strict=True))
    return workspace_id, StatusChange(**fields | {"change": Change(fields["change"])})


def _apply_in_order(changes: Sequence[WorkspaceChange], *, again: bool) -> int:
    """Apply changes in order of receipt.

    With ``again``, groups to which a change was already applied are skipped, and of many groups only the newest may
    have been missed. Issues that have together too many groups for a transaction get one each.
    """
    issues = sorted({issue_of(*change) for change in changes})
    if not issues:
        return 0
    with translate_constraint_errors(), database.atomic(), short_lock_timeout():
        applied = query(_LOCK_UPDATES, ISSUE_COLUMNS, issues)
        found = issue_groups.find(issues, limit=MAX_GROUPS + 1)
        if len(found) <= MAX_GROUPS or (again and len(issues) == 1):
            due = changes if again else _without_superseded(changes, applied)
            if not again:
                _mark_applied(due)
            locked = issue_groups.lock(found)
            return sum(apply(*change, locked, again=again) for change in _in_order(due))
        if len(issues) == 1:
            _mark_applied(_without_superseded(changes, applied), applied_up_to="")
            return 0
    return sum(
        _apply_in_order([change for change in changes if issue_of(*change) == issue], again=again) for issue in issues
    )


def issue_of(workspace_id: int, change: StatusChange) -> Issue:
    """Return the issue that ``change`` is of."""
    return workspace_id, change.source, change.fingerprint


def _without_superseded(
    changes: Sequence[WorkspaceChange], applied: Sequence[tuple[Any, ...]]
) -> Sequence[WorkspaceChange]:
    """Leave out changes older than one of their issue that was applied before; assignments supersede only each other.

    Groups that the newer one could not see yet will be found by ``apply_missed_updates``.
    """
    latest: dict[tuple[Issue, bool], datetime] = {}
    for workspace_id, source, fingerprint, kind, applied_at in applied:
        key = (workspace_id, source, fingerprint), kind == Change.ASSIGNED.value
        if applied_at is not None:
            latest[key] = max(latest.get(key, applied_at), applied_at)
    return [
        (workspace_id, change)
        for workspace_id, change in changes
        if change.received_at
        >= latest.get((issue_of(workspace_id, change), change.change is Change.ASSIGNED), change.received_at)
    ]


def _mark_applied(changes: Sequence[WorkspaceChange], *, applied_up_to: str | None = None) -> None:
    rows = {(*issue_of(*pair), pair[1].change.value): pair[1].received_at for pair in _in_order(changes)}
    columns: Columns = {**ISSUE_COLUMNS, "change": "text", "received_at": "timestamptz"}
    query(_MARK_APPLIED, columns, [(*key, at) for key, at in sorted(rows.items())], applied_up_to=applied_up_to)


def apply(workspace_id: int, change: StatusChange, locked: Sequence[int], *, again: bool) -> int:
    """Apply a change to locked groups; return how many changed.

    Call it inside a transaction.
    """
    parameters = {
        "locked": locked,
        "workspace_id": workspace_id,
        "source": change.source,
        "fingerprint": change.fingerprint,
        "received_at": change.received_at,
        "snoozed_until": change.snoozed_until,
        "assignee": change.assignee,
        "source_count": change.source_count,
        "again": again,
    }
    if change.source_count is not None:  # before the change may resolve the group: a resolved group keeps its count
        database.execute_sql(_SET_SOURCE_COUNT, parameters)
    first, *others = _STATEMENTS[change.change]
    changed = {group_id for (group_id,) in database.execute_sql(first, parameters).fetchall()}
    for statement in others:
        database.execute_sql(statement, parameters)
    return len(changed)
