"""A group as JSON, the same for the API and for receivers of notifications."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from marshmallow import Schema, fields, validate

from signalcraft.domain.alerts import GroupStatus, Severity

Row = dict[str, Any]
Json = dict[str, Any]


class TimeField(fields.Field[datetime]):
    """RFC 3339, UTC, always with microseconds and ``Z``: of fixed length, so text sorts as time does."""

    def _serialize(self, value: datetime | None, attr: str | None, obj: Any, **_: Any) -> str | None:  # noqa: ANN401, ARG002 - marshmallow's signature
        return None if value is None else write_time(value)


def write_time(moment: datetime) -> str:
    """Format ``moment`` as RFC 3339 in UTC, of fixed length."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def one_of(names: type[StrEnum]) -> validate.OneOf:
    """Return a validator of the values of ``names``."""
    return validate.OneOf([name.value for name in names])


class Group(Schema):
    """A group: alerts that belong together."""

    id = fields.Integer(required=True)
    group_key = fields.String(required=True)
    source = fields.String(required=True)
    project = fields.String(required=True)
    environment = fields.String(required=True)
    severity = fields.String(required=True, validate=one_of(Severity))
    status = fields.String(required=True, validate=one_of(GroupStatus))
    title = fields.String(required=True)
    count = fields.Integer(required=True)
    first_seen_at = TimeField(required=True)
    last_seen_at = TimeField(required=True)
    fingerprint = fields.String(required=True)
    issue_id = fields.String(required=True, allow_none=True)
    link = fields.String(required=True, allow_none=True)
    assignee_user_id = fields.String(required=True, allow_none=True)
    runbook_url = fields.String(required=True, allow_none=True)
    snoozed_until = TimeField(required=True, allow_none=True)
    previous_group_id = fields.Integer(required=True, allow_none=True)


_GROUP = Group()


def dump_group(row: Row) -> Json:
    """Return a group as JSON."""
    dumped: Json = _GROUP.dump(row)
    return dumped
