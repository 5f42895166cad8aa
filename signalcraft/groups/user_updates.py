"""What users do to groups: acknowledge, resolve, reopen, snooze, assign, name a runbook.

The rows are locked first, in the order in which everybody locks groups; then ``lifecycle`` says what may follow, and
one statement changes the group and notes it. Call everything inside ``models.session()``.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, TypedDict

from signalcraft.domain.alerts import GroupStatus
from signalcraft.domain.errors import (
    Conflict,
    DatabaseUnavailable,
    IllegalTransition,
    NotFound,
    PreconditionFailed,
    Refusal,
)
from signalcraft.domain.lifecycle import Trigger, status_at, transition
from signalcraft.groups.filters import GroupFilter, conditions
from signalcraft.storage.audit_log import Actor, with_audit_log
from signalcraft.storage.database import database, short_lock_timeout, translate_constraint_errors
from signalcraft.storage.models import AlertGroup
from signalcraft.storage.sql import LOCK_ORDER

#: How many groups one call may change: measured, as many take some 300 ms.
MAX_BULK: Final = 1_000

_CAUSES: Mapping[GroupStatus, Trigger] = MappingProxyType(
    {
        GroupStatus.OPEN: Trigger.USER_REOPEN,
        GroupStatus.ACK: Trigger.USER_ACK,
        GroupStatus.RESOLVED: Trigger.USER_RESOLVE,
        GroupStatus.SNOOZED: Trigger.USER_SNOOZE,
    },
)

#: In the order of ``_Group``.
_LOCK = f"""
    SELECT g.id, g.version, g.group_key, g.status, g.snoozed_until, g.resolved_at, g.is_current,
           g.last_seen_at, g.assignee_user_id, g.runbook_url
    FROM alert_group g
    WHERE g.workspace_id = %(workspace_id)s AND g.id = ANY(%(ids)s)
    ORDER BY {LOCK_ORDER} FOR NO KEY UPDATE"""

#: Of the keys of the groups, those that have a current group, and which that is. Asked once the groups are locked.
_FIND_CURRENT = """
    SELECT g.group_key, g.id FROM alert_group g
    WHERE g.workspace_id = %(workspace_id)s AND g.group_key = ANY(%(keys)s) AND g.is_current"""

_UPDATE = with_audit_log(
    """
    UPDATE alert_group g
    SET status = %(status)s, snoozed_until = %(snoozed_until)s, resolved_at = %(resolved_at)s,
        is_current = %(is_current)s, assignee_user_id = %(assignee_user_id)s, runbook_url = %(runbook_url)s,
        assigned_at = CASE WHEN g.assignee_user_id IS DISTINCT FROM %(assignee_user_id)s THEN %(at)s
                           ELSE g.assigned_at END,
        version = g.version + 1
    WHERE g.id = %(id)s""",
    Actor.TOKEN,
    by="%(by)s",
    at="%(at)s",
)


class UpdateFields(TypedDict, total=False):
    """The fields of a group that a user may set; those that are there are set."""

    status: GroupStatus
    snoozed_until: datetime | None
    assignee_user_id: str | None
    runbook_url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupUpdate:
    """What to set, who says so (a token's name), and when."""

    fields: UpdateFields
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """What became of one group of many: why it was left alone, or None where it is as was asked."""

    group_id: int
    refusal: Refusal | None


@dataclass(frozen=True, slots=True)
class _Group:
    """A locked group."""

    id: int
    version: int
    group_key: str
    status: GroupStatus
    snoozed_until: datetime | None
    resolved_at: datetime | None
    is_current: bool
    last_seen_at: datetime
    assignee_user_id: str | None
    runbook_url: str | None


def update_group(
    workspace_id: int, group_id: int, edit: GroupUpdate, *, versions: Collection[int] | None = None
) -> None:
    """Change one group, if its version is one of ``versions`` (None: any).

    Raises:
        NotFound: the workspace has no such group.
        PreconditionFailed: its version is another.
        Conflict: its state does not allow the change.
        DatabaseUnavailable: other transactions came first, twice; nothing was changed, try again.
    """
    try:
        _change_one(workspace_id, group_id, edit, versions)
    except DatabaseUnavailable:  # another group of the key has just become current, and can be seen now
        _change_one(workspace_id, group_id, edit, versions)


def _change_one(workspace_id: int, group_id: int, edit: GroupUpdate, versions: Collection[int] | None) -> None:
    with translate_constraint_errors(), database.atomic():
        groups = _lock(workspace_id, [group_id])
        if not groups:
            raise NotFound
        if versions is not None and groups[0].version not in versions:
            raise PreconditionFailed
        with short_lock_timeout():
            _change(groups[0], edit, _current(workspace_id, groups))


def update_groups(
    workspace_id: int, group_ids: Sequence[int], edit: GroupUpdate, *, wanted: GroupFilter | None = None
) -> list[UpdateResult]:
    """Change up to ``MOST_AT_ONCE`` groups in one transaction; what became of each, in the order of ``group_ids``.

    One that cannot be changed is left alone and keeps none of the others from it; so is one that is no longer what
    ``wanted`` means when it is locked.

    Raises:
        DatabaseUnavailable: other transactions came first, twice; nothing was changed, try again.
    """
    try:
        return _change_many(workspace_id, group_ids, edit, wanted)
    except DatabaseUnavailable:  # as for one
        return _change_many(workspace_id, group_ids, edit, wanted)


def _change_many(
    workspace_id: int, group_ids: Sequence[int], edit: GroupUpdate, wanted: GroupFilter | None
) -> list[UpdateResult]:
    refusals: dict[int, Refusal | None] = {group_id: NotFound() for group_id in group_ids}
    with translate_constraint_errors(), database.atomic(), short_lock_timeout():
        groups = _lock(workspace_id, group_ids)
        current = _current(workspace_id, groups)
        meant = {group.id for group in groups} if wanted is None else _still_meant(groups, wanted, now=edit.at)
        for group in groups:
            try:
                if group.id not in meant:
                    raise Conflict("It has just become another than the filter means.")  # noqa: TRY301 - told like others
                _change(group, edit, current)
                refusals[group.id] = None
            except Conflict as conflict:
                refusals[group.id] = conflict
    return [UpdateResult(group_id, refusal) for group_id, refusal in refusals.items()]


def _still_meant(groups: Sequence[_Group], wanted: GroupFilter, *, now: datetime) -> set[int]:
    ids = [group.id for group in groups]
    rows: Any = AlertGroup.select(AlertGroup.id).where(AlertGroup.id.in_(ids), *conditions(wanted, now)).tuples()
    return {group_id for (group_id,) in rows}


def _lock(workspace_id: int, group_ids: Sequence[int]) -> list[_Group]:
    cursor = database.execute_sql(_LOCK, {"workspace_id": workspace_id, "ids": list(group_ids)})
    return [replace(group, status=GroupStatus(group.status)) for group in (_Group(*row) for row in cursor.fetchall())]


def _current(workspace_id: int, groups: Sequence[_Group]) -> dict[str, int]:
    keys = list({group.group_key for group in groups})
    return dict(database.execute_sql(_FIND_CURRENT, {"workspace_id": workspace_id, "keys": keys}).fetchall())


def _change(group: _Group, edit: GroupUpdate, current: dict[str, int]) -> None:
    """Write what ``edit`` makes of a locked group, if that is anything; keep ``current`` true."""
    edited = _edited(group, edit, has_successor=current.get(group.group_key, group.id) != group.id)
    if edited == group:
        return
    database.execute_sql(_UPDATE, asdict(edited) | {"status": edited.status.value, "by": edit.by, "at": edit.at})
    if edited.is_current:
        current[group.group_key] = group.id
    elif group.is_current:
        del current[group.group_key]


def _edited(group: _Group, edit: GroupUpdate, *, has_successor: bool) -> _Group:
    """The group as it should be. ``has_successor``: another group is the one that alerts of its key meet.

    Raises:
        Conflict: its state does not allow it.
    """
    fields = edit.fields
    edited = replace(
        group,
        assignee_user_id=fields.get("assignee_user_id", group.assignee_user_id),
        runbook_url=fields.get("runbook_url", group.runbook_url),
    )
    if "status" in fields:
        return _with_status(edited, fields["status"], edit, has_successor=has_successor)
    if "snoozed_until" not in fields:
        return edited
    if status_at(group.status, group.snoozed_until, edit.at) is GroupStatus.SNOOZED:
        return replace(edited, snoozed_until=fields["snoozed_until"])
    if fields["snoozed_until"] is None:
        return edited
    raise Conflict("Only a snoozed group has snoozed_until; set status to snoozed with it.")


def _with_status(group: _Group, wanted: GroupStatus, edit: GroupUpdate, *, has_successor: bool) -> _Group:
    """An expired snooze counts as open. Whatever must meet the alerts of its key is made the current group.

    Alerts that were received after the user spoke, and stored before, are resolved with the group.
    """
    before = status_at(group.status, group.snoozed_until, edit.at)
    try:
        status = transition(before, _CAUSES[wanted])
    except IllegalTransition as illegal:
        raise Conflict(f"{illegal}: reopen it first.") from None
    if status is GroupStatus.RESOLVED:
        resolved_at = group.resolved_at or max(edit.at, group.last_seen_at)
        return replace(group, status=status, snoozed_until=None, resolved_at=resolved_at, is_current=False)
    meets_alerts = before is GroupStatus.RESOLVED or status is GroupStatus.SNOOZED
    if meets_alerts and has_successor:
        raise Conflict("A newer group of the same key is current: change that one.")
    until = edit.fields.get("snoozed_until", group.snoozed_until if before is status else None)
    return replace(
        group,
        status=status,
        snoozed_until=until if status is GroupStatus.SNOOZED else None,
        resolved_at=None,
        is_current=group.is_current or meets_alerts,
    )
