"""Find the groups of an issue that a status change may change, however many groups the issue ever had.

These are its unresolved groups, and of each key the current group and the newest other one, which alone may be
reopened. Each is found by an index.
"""

from collections.abc import Sequence
from typing import Final

from signalcraft.storage.sql import LOCK_ORDER, Columns, query

#: A workspace id, a source and a fingerprint.
Issue = tuple[int, str, str]
ISSUE_COLUMNS: Columns = {"workspace_id": "bigint", "source": "text", "fingerprint": "text"}

#: More than any id.
LAST_ID: Final = 2**63 - 1

#: Newest first, so that the newest group of a key comes with the first page.
_UNRESOLVED = """
    SELECT unresolved.id FROM {rows} CROSS JOIN LATERAL (
        SELECT g.id FROM alert_group g
        WHERE g.workspace_id = r.workspace_id AND g.source = r.source AND g.fingerprint = r.fingerprint
          AND g.status <> 'resolved' AND g.id < %(before)s
        ORDER BY g.id DESC LIMIT %(limit)s
    ) AS unresolved LIMIT %(limit)s"""

#: The next key of an issue. A recursion from key to key reads no other group of a key.
_NEXT_KEY = """
    SELECT g.group_key FROM alert_group g
    WHERE g.workspace_id = {of}.workspace_id AND g.fingerprint = {of}.fingerprint AND g.group_key > {after}
    ORDER BY g.group_key LIMIT 1"""
_LATEST_OF_KEYS = f"""
    WITH RECURSIVE keys AS (
        SELECT r.*, following.group_key FROM {{rows}}
        CROSS JOIN LATERAL ({_NEXT_KEY.format(of="r", after="%(after)s")}) AS following
        UNION ALL
        SELECT keys.workspace_id, keys.source, keys.fingerprint, following.group_key FROM keys
        CROSS JOIN LATERAL ({_NEXT_KEY.format(of="keys", after="keys.group_key")}) AS following
    ),
    page AS (SELECT * FROM keys LIMIT %(limit)s)
    SELECT page.group_key, latest.id FROM page LEFT JOIN LATERAL (
        SELECT g.id FROM alert_group g
        WHERE g.workspace_id = page.workspace_id AND g.group_key = page.group_key AND g.is_current
          AND g.source = page.source
        UNION ALL
        (SELECT g.id FROM alert_group g
         WHERE g.workspace_id = page.workspace_id AND g.group_key = page.group_key AND NOT g.is_current
           AND g.source = page.source
         ORDER BY g.first_seen_at DESC LIMIT 1)
    ) AS latest ON true"""

#: Lock groups in the lock order of all transactions. FOR NO KEY UPDATE leaves their keys unlocked: an alert that opens
#: a group after one of these references it, and may hold the unique key of the current group that a reopening waits
#: for.
_LOCK = f"SELECT g.id FROM alert_group g JOIN {{rows}} ON g.id = r.id ORDER BY {LOCK_ORDER} FOR NO KEY UPDATE OF g"


def find(issues: Sequence[Issue], *, limit: int) -> set[int]:
    """Return the ids of up to ``limit`` unresolved groups, newest first, and of the latest groups of as many keys."""
    latest = query(_LATEST_OF_KEYS, ISSUE_COLUMNS, issues, after="", limit=limit)
    ids = {group_id for _, group_id in latest if group_id is not None}
    return ids.union(unresolved(issues, before=LAST_ID, limit=limit))


def unresolved(issues: Sequence[Issue], *, before: int, limit: int) -> list[int]:
    """Return the ids of up to ``limit`` unresolved groups with ids less than ``before``, largest first."""
    return [group_id for (group_id,) in query(_UNRESOLVED, ISSUE_COLUMNS, issues, before=before, limit=limit)]


def latest_of_keys(issue: Issue, *, after: str, limit: int) -> tuple[str | None, set[int]]:
    """Return the ids of the latest groups of up to ``limit`` keys greater than ``after``.

    The first value is the last of these keys; None if no key follows.
    """
    rows = query(_LATEST_OF_KEYS, ISSUE_COLUMNS, [issue], after=after, limit=limit)
    last = max((group_key for group_key, _ in rows), default=None)
    return last, {group_id for _, group_id in rows if group_id is not None}


def lock(ids: set[int]) -> list[int]:
    """Lock groups; return the ids of those that exist."""
    return [group_id for (group_id,) in query(_LOCK, {"id": "bigint"}, [(group_id,) for group_id in sorted(ids)])]
