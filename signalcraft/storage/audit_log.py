"""How a change of a group leaves a trace: the row that says who, when, from what, to what.

The statement that changes a group is the one that writes the trace, so there is none without the other.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Actor(StrEnum):
    """What kind of hand changed a group: an API token, the word of a source, an alert that joined, or long quiet."""

    TOKEN = "token"  # noqa: S105 - a word, no secret
    SOURCE = "source"
    ALERT = "alert"
    CLOCK = "clock"


_UTC = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
#: The fields whose changes are kept, and each as text.
_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "status": "{}.status",
        "snoozed_until": _UTC.format("{}.snoozed_until"),
        "assignee_user_id": "{}.assignee_user_id",
        "runbook_url": "{}.runbook_url",
    },
)


def with_audit_log(update: str, actor: Actor, *, by: str, at: str) -> str:
    """``update``, an UPDATE of ``alert_group g`` without RETURNING, that also notes what it changed.

    ``by`` and ``at`` are SQL: who it was, and when. One row comes back for each field of each group that is not as
    before: the group's id. The rows must be locked already: the old values are those of the statement's beginning.
    """
    fields = ", ".join(f"('{name}', {text.format('was')}, {text.format('changed')})" for name, text in _FIELDS.items())
    return f"""
    WITH changed AS ({update} RETURNING g.*)
    INSERT INTO group_change
        (workspace_id, alert_group_id, changed_at, actor, changed_by, field, from_value, to_value)
    SELECT changed.workspace_id, changed.id, {at}, '{actor.value}', {by}, field.name, field.from_value, field.to_value
    FROM changed JOIN alert_group was ON was.id = changed.id
    CROSS JOIN LATERAL (VALUES {fields}) AS field (name, from_value, to_value)
    WHERE field.from_value IS DISTINCT FROM field.to_value
    ORDER BY changed.id
    RETURNING alert_group_id"""
