"""Apply status changes of issues with more unresolved groups than one transaction may change, in steps.

Each step is a transaction: it applies the oldest unfinished change to the next groups, and keeps how far it has come.
So a worker that dies loses one step, alerts wait for one step at most, and no number of groups exceeds
``statement_timeout``. A group that was changed by a later one meanwhile is left as it is. Call everything inside
``database.session()``.
"""

from collections.abc import Callable, Collection

from signalcraft.domain.alerts import Change
from signalcraft.groups import issue_groups, source_updates
from signalcraft.storage.database import database, short_lock_timeout, translate_constraint_errors

#: A reopening is dropped once a later change has begun: that one does not come to a group resolved until now.
_FIND_OLDEST = f"""
    SELECT w.id, {source_updates.UPDATE}, w.applied_up_to,
           w.change = 'unresolved' AND EXISTS (
               SELECT FROM last_word n
               WHERE n.workspace_id = w.workspace_id AND n.source = w.source AND n.fingerprint = w.fingerprint
                 AND n.change IN ('resolved', 'archived') AND n.applied_at > w.received_at
           )
    FROM last_word w WHERE w.applied_up_to IS NOT NULL AND w.id <> ALL(%(left_out)s)
    ORDER BY w.received_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED"""
_SET_APPLIED_UP_TO = "UPDATE last_word SET applied_up_to = %(applied_up_to)s WHERE id = %(id)s"


def apply_next_step(left_out: Collection[int], begin: Callable[[int], None]) -> int | None:
    """Apply an unfinished change to the next groups; return how many changed, None without an unfinished change.

    Changes whose ids are in ``left_out`` are not looked at. ``begin`` is called with the id of the one that is applied.

    Raises:
        DatabaseUnavailable: another transaction came first; nothing was changed, retry.
    """
    with translate_constraint_errors(), database.atomic(), short_lock_timeout():
        found = database.execute_sql(_FIND_OLDEST, {"left_out": list(left_out)}).fetchone()
        if found is None:
            return None
        row_id, *values, applied_up_to, is_superseded = found
        begin(row_id)
        workspace_id, change = source_updates.status_change_of(*values)
        issue = source_updates.issue_of(workspace_id, change)
        reached, ids = (None, set[int]()) if is_superseded else _next_page(issue, change.change, applied_up_to)
        changed = source_updates.apply(workspace_id, change, issue_groups.lock(ids), again=True)
        database.execute_sql(_SET_APPLIED_UP_TO, {"applied_up_to": reached, "id": row_id})
        return changed


def _next_page(issue: issue_groups.Issue, change: Change, applied_up_to: str) -> tuple[str | None, set[int]]:
    """Return how far the next step comes, None for the end, and the ids of its groups.

    A reopening goes from key to key, other changes from the newest unresolved group to the oldest.
    """
    limit = source_updates.MAX_GROUPS
    if change is Change.UNRESOLVED:
        return issue_groups.latest_of_keys(issue, after=applied_up_to, limit=limit)
    before = int(applied_up_to) if applied_up_to else issue_groups.LAST_ID
    ids = issue_groups.unresolved([issue], before=before, limit=limit)
    return (str(ids[-1]) if ids else None), set(ids)
