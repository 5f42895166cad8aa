"""Updates of groups by users: acknowledge, resolve, reopen, snooze, assign, set a runbook.

The rows are locked first, in the lock order of all transactions; then ``lifecycle`` checks the transition, and one
statement updates the group and writes the audit log. Call everything inside ``database.session()``.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
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
from signalcraft.groups.reading.filters import GroupFilter, conditions
from signalcraft.storage.audit_log import Actor, with_audit_log
from signalcraft.storage.database import database, short_lock_timeout, translate_constraint_errors
from signalcraft.storage.models import AlertGroup
from signalcraft.storage.sql import LOCK_ORDER

#: How many groups one call may update: measured, this many take some 300 ms.
MAX_BULK: Final = 1_000

_TRIGGERS: Final[Mapping[GroupStatus, Trigger]] = {
    GroupStatus.OPEN: Trigger.USER_REOPEN,
    GroupStatus.ACK: Trigger.USER_ACK,
    GroupStatus.RESOLVED: Trigger.USER_RESOLVE,
    GroupStatus.SNOOZED: Trigger.USER_SNOOZE,
}

#: What cannot be done with a resolved group, in words.
_PARTICIPLES: Final[Mapping[GroupStatus, str]] = {GroupStatus.ACK: "acknowledged", GroupStatus.SNOOZED: "snoozed"}

#: In the order of ``_Group``.
_LOCK = f"""
    SELECT g.id, g.version, g.group_key, g.status, g.snoozed_until, g.resolved_at, g.is_current,
           g.last_seen_at, g.assignee_user_id, g.runbook_url
    FROM alert_group g
    WHERE g.workspace_id = %(workspace_id)s AND g.id = ANY(%(ids)s)
    ORDER BY {LOCK_ORDER} FOR NO KEY UPDATE"""

#: The current group of each key that has one. Runs once the groups are locked.
_FIND_CURRENT = """
    SELECT g.group_key, g.id FROM alert_group g
    WHERE g.workspace_id = %(workspace_id)s AND g.group_key = ANY(%(keys)s) AND g.is_current"""

#: Status changes are not written into groups that are resolved and stay so. What the source said meanwhile must not be
#: applied again to a group that a user reopens.
_IS_REOPENED = "g.status = 'resolved' AND %(status)s <> 'resolved'"
_APPLIED_AT = """(
    SELECT max(w.applied_at) FROM last_word w
    WHERE w.workspace_id = g.workspace_id AND w.source = g.source AND w.fingerprint = g.fingerprint
      AND w.change {is_kind} 'assigned')"""
_SET: Final = f"""
    UPDATE alert_group g
    SET status = %(status)s, snoozed_until = %(snoozed_until)s, resolved_at = %(resolved_at)s,
        is_current = %(is_current)s, assignee_user_id = %(assignee_user_id)s, runbook_url = %(runbook_url)s,
        assigned_at = CASE WHEN g.assignee_user_id IS DISTINCT FROM %(assignee_user_id)s THEN %(at)s
                           WHEN {_IS_REOPENED} THEN greatest(g.assigned_at, {_APPLIED_AT.format(is_kind="=")})
                           ELSE g.assigned_at END,
        source_status_at = CASE WHEN {_IS_REOPENED}
                                THEN greatest(g.source_status_at, {_APPLIED_AT.format(is_kind="<>")})
                                ELSE g.source_status_at END,
        version = g.version + 1
    WHERE g.id = %(id)s"""
_UPDATES: Final = {
    actor: with_audit_log(_SET, actor, by="%(by)s", at="%(at)s", note="%(note)s") for actor in Actor if actor.is_person
}


class UpdateFields(TypedDict, total=False):
    """The fields of a group that a user may set, and a note that says why; missing keys are left unchanged."""

    status: GroupStatus
    snoozed_until: datetime | None
    assignee_user_id: str | None
    runbook_url: str | None
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupUpdate:
    """Which fields to set, by whom (the name of a token or a person), and when."""

    fields: UpdateFields
    by: str
    at: datetime
    actor: Actor = Actor.TOKEN


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """The result for one group of a bulk update; ``refusal`` is None on success."""

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
    workspace_id: int, group_id: int, update: GroupUpdate, *, versions: Collection[int] | None = None
) -> bool:
    """Update one group, if its version is in ``versions``; return whether anything changed.

    ``None`` allows any version.

    Raises:
        NotFound: the workspace has no such group.
        PreconditionFailed: its version differs.
        Conflict: its state does not allow the update.
        DatabaseUnavailable: other transactions came first, twice; nothing was changed, retry.
    """
    try:
        return _update_one(workspace_id, group_id, update, versions)
    except DatabaseUnavailable:  # another group of the key has just become current, and is visible now
        return _update_one(workspace_id, group_id, update, versions)


def _update_one(workspace_id: int, group_id: int, update: GroupUpdate, versions: Collection[int] | None) -> bool:
    with translate_constraint_errors(), database.atomic():
        groups = _lock(workspace_id, [group_id])
        if not groups:
            raise NotFound
        if versions is not None and groups[0].version not in versions:
            raise PreconditionFailed
        with short_lock_timeout():
            return _write_update(groups[0], update, _current(workspace_id, groups))


def update_groups(
    workspace_id: int, group_ids: Sequence[int], update: GroupUpdate, *, group_filter: GroupFilter | None = None
) -> list[UpdateResult]:
    """Update up to ``MAX_BULK`` groups in one transaction.

    The results are in the order of ``group_ids``. A group that cannot be updated, or no longer matches ``group_filter``
    once it is locked, is left unchanged; the others are updated.

    Raises:
        DatabaseUnavailable: other transactions came first, twice; nothing was changed, retry.
    """
    try:
        return _update_many(workspace_id, group_ids, update, group_filter)
    except DatabaseUnavailable:  # as in update_group
        return _update_many(workspace_id, group_ids, update, group_filter)


def _update_many(
    workspace_id: int, group_ids: Sequence[int], update: GroupUpdate, group_filter: GroupFilter | None
) -> list[UpdateResult]:
    refusals: dict[int, Refusal | None] = {group_id: NotFound() for group_id in group_ids}
    with translate_constraint_errors(), database.atomic(), short_lock_timeout():
        groups = _lock(workspace_id, group_ids)
        current = _current(workspace_id, groups)
        matching = (
            {group.id for group in groups}
            if group_filter is None
            else _still_matching(groups, group_filter, now=update.at)
        )
        for group in groups:
            try:
                if group.id not in matching:
                    raise Conflict("The group has changed meanwhile and no longer matches the filter.")  # noqa: TRY301 - told like others
                _write_update(group, update, current)
                refusals[group.id] = None
            except Conflict as conflict:
                refusals[group.id] = conflict
    return [UpdateResult(group_id, refusal) for group_id, refusal in refusals.items()]


def _still_matching(groups: Sequence[_Group], group_filter: GroupFilter, *, now: datetime) -> set[int]:
    ids = [group.id for group in groups]
    rows: Any = AlertGroup.select(AlertGroup.id).where(AlertGroup.id.in_(ids), *conditions(group_filter, now)).tuples()
    return {group_id for (group_id,) in rows}


def _lock(workspace_id: int, group_ids: Sequence[int]) -> list[_Group]:
    cursor = database.execute_sql(_LOCK, {"workspace_id": workspace_id, "ids": list(group_ids)})
    return [replace(group, status=GroupStatus(group.status)) for group in (_Group(*row) for row in cursor.fetchall())]


def _current(workspace_id: int, groups: Sequence[_Group]) -> dict[str, int]:
    keys = list({group.group_key for group in groups})
    return dict(database.execute_sql(_FIND_CURRENT, {"workspace_id": workspace_id, "keys": keys}).fetchall())


def _write_update(group: _Group, update: GroupUpdate, current: dict[str, int]) -> bool:
    """Update a locked group and ``current``, if anything changes; return whether it did.

    Raises:
        Conflict: its state does not allow the update, or a note would be lost.
    """
    current_id = current.get(group.group_key)
    updated = _updated_group(group, update, successor=None if current_id == group.id else current_id)
    note = update.fields.get("note") or None
    if updated == group:
        if note:
            raise Conflict("Nothing would change, and a note is kept only with a change.")
        return False
    values = {"status": updated.status.value, "by": update.by, "at": update.at, "note": note}
    database.execute_sql(_UPDATES[update.actor], asdict(updated) | values)
    if updated.is_current:
        current[group.group_key] = group.id
    elif group.is_current:
        del current[group.group_key]
    return True


def _updated_group(group: _Group, update: GroupUpdate, *, successor: int | None) -> _Group:
    """Return the group after the update.

    ``successor`` is the current group of its key, if that is another.

    Raises:
        Conflict: its state does not allow the update.
    """
    fields = update.fields
    updated = replace(
        group,
        assignee_user_id=fields.get("assignee_user_id", group.assignee_user_id),
        runbook_url=fields.get("runbook_url", group.runbook_url),
    )
    if "status" in fields:
        return _with_status(updated, fields["status"], update, successor=successor)
    if "snoozed_until" not in fields:
        return updated
    if status_at(group.status, group.snoozed_until, update.at) is GroupStatus.SNOOZED:
        return replace(updated, snoozed_until=fields["snoozed_until"])
    if fields["snoozed_until"] is None:
        return updated
    raise Conflict("Only a snoozed group has snoozed_until; set status to snoozed with it.")


def _with_status(group: _Group, requested: GroupStatus, update: GroupUpdate, *, successor: int | None) -> _Group:
    """Return the group with a new status.

    A reopened or snoozed group becomes current. An expired snooze counts as open. Alerts received after the user's
    request, but stored before it, are resolved with the group.
    """
    before = status_at(group.status, group.snoozed_until, update.at)
    try:
        status = transition(before, _TRIGGERS[requested])
    except IllegalTransition:
        raise Conflict(f"A {before.value} group cannot be {_PARTICIPLES[requested]}: reopen it first.") from None
    if status is GroupStatus.RESOLVED:
        resolved_at = group.resolved_at or max(update.at, group.last_seen_at)
        return replace(group, status=status, snoozed_until=None, resolved_at=resolved_at, is_current=False)
    becomes_current = before is GroupStatus.RESOLVED or status is GroupStatus.SNOOZED
    if becomes_current and successor is not None:
        raise Conflict(f"Group {successor} is newer and takes the alerts of this problem: change that one.")
    until = update.fields.get("snoozed_until", group.snoozed_until if before is status else None)
    return replace(
        group,
        status=status,
        snoozed_until=until if status is GroupStatus.SNOOZED else None,
        resolved_at=None,
        is_current=group.is_current or becomes_current,
    )
