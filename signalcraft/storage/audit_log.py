"""The audit log of groups: who changed which field, when, from which value to which, why; and what happened by that.

The statement that updates a group also inserts its audit rows and its happenings, so none exists without the others.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Actor(StrEnum):
    """Who changed a group: an API token, its source, an alert that joined, inactivity, or a person in Slack."""

    TOKEN = "token"  # noqa: S105 - a word, no secret
    SOURCE = "source"
    ALERT = "alert"
    CLOCK = "clock"
    SLACK = "slack"

    @property
    def is_person(self) -> bool:
        """Return whether this is somebody who waits to see what came of it."""
        return self in (Actor.TOKEN, Actor.SLACK)


_UTC = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
#: The audited fields, each with its SQL as text.
_FIELDS: Final[Mapping[str, str]] = {
    "status": "{}.status",
    "snoozed_until": _UTC.format("{}.snoozed_until"),
    "assignee_user_id": "{}.assignee_user_id",
    "runbook_url": "{}.runbook_url",
}


#: What a change of status is called, by the new status. An alert that breaks an ack or a snooze by its severity is told
#: as ``escalated`` by the statement that stored it.
_STATUS_HAPPENING = """CASE changed.status
        WHEN 'ack' THEN 'acked' WHEN 'snoozed' THEN 'snoozed' WHEN 'resolved' THEN 'resolved'
        ELSE CASE WHEN '{actor}' <> 'alert' THEN 'reopened'
                  WHEN was.alert_severity = changed.alert_severity THEN 'snooze_ended' END
    END"""


def with_audit_log(update: str, actor: Actor, *, by: str, at: str, note: str = "NULL") -> str:
    """Return SQL that runs ``update`` and inserts its audit rows and happenings.

    ``update`` is an UPDATE of ``alert_group g`` without RETURNING; ``by``, ``at`` and ``note`` are SQL expressions for
    the actor, the time and what a person wrote about it. The statement returns the group's id once for each field that
    changed. The rows must be locked already: the old values are those from the start of the statement.
    """
    fields = ", ".join(f"('{name}', {text.format('was')}, {text.format('changed')})" for name, text in _FIELDS.items())
    status_happening = _STATUS_HAPPENING.format(actor=actor.value)
    return f"""
    WITH changed AS ({update} RETURNING g.*),
    audited AS (
        INSERT INTO group_change
            (workspace_id, alert_group_id, changed_at, actor, changed_by, field, from_value, to_value, note)
        SELECT changed.workspace_id, changed.id, {at}, '{actor.value}', {by},
               field.name, field.from_value, field.to_value, {note}
        FROM changed JOIN alert_group was ON was.id = changed.id
        CROSS JOIN LATERAL (VALUES {fields}) AS field (name, from_value, to_value)
        WHERE field.from_value IS DISTINCT FROM field.to_value
        ORDER BY changed.id
        RETURNING alert_group_id
    ),
    happened AS (
        INSERT INTO happening (workspace_id, alert_group_id, kind, at, actor, by)
        SELECT changed.workspace_id, changed.id, happened.kind, {at}, '{actor.value}', {by}
        FROM changed JOIN alert_group was ON was.id = changed.id
        CROSS JOIN LATERAL (VALUES
            (CASE WHEN (was.status, was.snoozed_until) IS DISTINCT FROM (changed.status, changed.snoozed_until)
                  THEN {status_happening} END),
            (CASE WHEN was.assignee_user_id IS DISTINCT FROM changed.assignee_user_id THEN 'assigned' END)
        ) AS happened (kind)
        WHERE happened.kind IS NOT NULL
        ORDER BY changed.id
    )
    SELECT alert_group_id FROM audited"""
