"""The API's words: JSON out."""

import json
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from marshmallow import Schema, fields, validate

from signalcraft.domain.alerts import Decision, FieldWarning, GroupStatus, Severity, StatusChange
from signalcraft.groups.hourly_counts import Statistics
from signalcraft.groups.preview import Preview
from signalcraft.groups.user_updates import UpdateResult
from signalcraft.storage.audit_log import Actor

Row = dict[str, Any]
Json = dict[str, Any]

#: CPython converts integers of up to 4300 digits (https://docs.python.org/3/library/stdtypes.html#int-max-str-digits).
_MAX_DIGITS = 4000
#: What the description says of fields that leave as they are stored.
_TEXT: Json = {"type": "string"}
_PAIR: Json = {"type": "array", "items": _TEXT, "minItems": 2, "maxItems": 2}


class TimeField(fields.Field[datetime]):
    """RFC 3339, UTC, always with microseconds and ``Z``: one length, so that text sorts as time does."""

    def _serialize(self, value: datetime | None, attr: str | None, obj: Any, **_: Any) -> str | None:  # noqa: ANN401, ARG002 - marshmallow's signature
        return None if value is None else write_time(value)


def write_time(moment: datetime) -> str:
    """RFC 3339, UTC, always of one length."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _one_of(names: type[StrEnum]) -> validate.OneOf:
    return validate.OneOf([name.value for name in names])


class Group(Schema):
    """A group: alerts that belong together."""

    id = fields.Integer(required=True)
    group_key = fields.String(required=True)
    source = fields.String(required=True)
    project = fields.String(required=True)
    environment = fields.String(required=True)
    severity = fields.String(required=True, validate=_one_of(Severity))
    status = fields.String(required=True, validate=_one_of(GroupStatus))
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


class Event(Schema):
    """An alert as it was stored."""

    id = fields.Integer(required=True)
    alert_group_id = fields.Integer(required=True)
    source = fields.String(required=True)
    source_event_id = fields.String(required=True)
    delivery_id = fields.String(required=True)
    project = fields.String(required=True)
    environment = fields.String(required=True)
    severity = fields.String(required=True, validate=_one_of(Severity))
    fingerprint = fields.String(required=True)
    issue_id = fields.String(required=True, allow_none=True)
    title = fields.String(required=True)
    message = fields.String(required=True)
    tags = fields.Raw(attribute="tags_json", required=True, metadata={"type": "array", "items": _PAIR})
    triggered_rules = fields.Raw(required=True, metadata={"type": "array", "items": _TEXT})
    link = fields.String(required=True, allow_none=True)
    occurred_at = TimeField(required=True)
    received_at = TimeField(required=True)
    decision = fields.String(required=True, validate=_one_of(Decision))


class EventWithPayload(Event):
    """An event with what was sent; null once PAYLOAD_RETENTION_DAYS are over."""

    payload = fields.Function(lambda row: _parse(row["payload_json"]))


class Sums(Schema):
    """Alerts as they came, and what became of them."""

    alerts = fields.Integer(required=True)
    duplicates = fields.Integer(required=True)
    joined = fields.Integer(required=True)
    groups_new = fields.Integer(required=True)
    groups_updated = fields.Integer(required=True)
    dedup_ratio = fields.Float(required=True)


class Change(Schema):
    """A field of a group that changed."""

    id = fields.Integer(required=True)
    at = TimeField(attribute="changed_at", required=True)
    actor = fields.String(required=True, validate=_one_of(Actor))
    by = fields.String(attribute="changed_by", required=True)
    field = fields.String(required=True)
    before = fields.String(attribute="from_value", data_key="from", required=True, allow_none=True)
    after = fields.String(attribute="to_value", data_key="to", required=True, allow_none=True)


_GROUP, _EVENT, _EVENT_WITH_PAYLOAD, _CHANGE, _SUMS = Group(), Event(), EventWithPayload(), Change(), Sums()


def dump_group(row: Row) -> Json:
    """A group."""
    return _dump(_GROUP, row)


def dump_groups(rows: Iterable[Row], next_cursor: str | None, estimate: int | None = None) -> Json:
    """A page of groups; with about how many there are, where that was asked for."""
    total = {} if estimate is None else {"total_estimate": estimate}
    return {"groups": [_dump(_GROUP, row) for row in rows], "next_cursor": next_cursor, **total}


def dump_event(row: Row) -> Json:
    """An event with what was sent: null once PAYLOAD_RETENTION_DAYS are over."""
    return _dump(_EVENT_WITH_PAYLOAD, row)


def dump_listed_event(row: Row) -> Json:
    """An event, without what was sent."""
    return _dump(_EVENT, row)


def dump_events(rows: Iterable[Row], next_cursor: str | None) -> Json:
    """A page of events, without what was sent."""
    return {"events": [_dump(_EVENT, row) for row in rows], "next_cursor": next_cursor}


def dump_history(rows: Iterable[Row], next_cursor: str | None) -> Json:
    """A page of what was changed of a group."""
    return {"changes": [_dump(_CHANGE, row) for row in rows], "next_cursor": next_cursor}


def dump_outcomes(outcomes: Iterable[UpdateResult], *, next_cursor: str | None) -> Json:
    """What became of each of many groups; there is a ``next_cursor`` if the filter may mean others, too."""
    results = [_dump_outcome(outcome) for outcome in outcomes]
    return {"results": results, "more": next_cursor is not None, "next_cursor": next_cursor}


def _dump_outcome(outcome: UpdateResult) -> Json:
    refusal = outcome.refusal
    if refusal is None:
        return {"id": outcome.group_id, "status": 200, "code": None, "detail": None}
    detail = refusal.detail or refusal.title
    return {"id": outcome.group_id, "status": refusal.status, "code": refusal.code, "detail": detail}


def dump_stats(found: Statistics) -> Json:
    """What came in during a period, and what became of it."""
    divided = {
        f"by_{name}": [{name: _plain(value), **_dump(_SUMS, sums)} for value, sums in rows]
        for name, rows in found.by.items()
    }
    top = [{"id": group_id, "title": title, "count": count} for group_id, title, count in found.top_groups]
    period = {"since": write_time(found.period.since), "until": write_time(found.period.until)}
    return {**period, **_dump(_SUMS, found.whole), **divided, "top_groups": top}


def _plain(value: str | datetime) -> str:
    return write_time(value) if isinstance(value, datetime) else value


def dump_explanation(event: Row, group: Row, sentences: Sequence[str]) -> Json:
    """Why an event is where it is."""
    return {
        "event_id": event["id"],
        "group_id": group["id"],
        "decision": event["decision"],
        "group_key": group["group_key"],
        "key_parts": {name: event[name] for name in ("source", "project", "environment", "fingerprint")},
        "explanation": list(sentences),
    }


def dump_preview(previews: Iterable[Preview], warnings: Iterable[FieldWarning]) -> Json:
    """What would become of a delivery. A group that would be opened has no id yet."""
    return {
        "outcomes": [_dump_preview(preview) for preview in previews],
        "warnings": [{"field": warning.field, "problem": warning.problem} for warning in warnings],
    }


def _dump_preview(preview: Preview) -> Json:
    outcome, stored = preview.outcome, preview.stored
    if isinstance(outcome, StatusChange):
        return {"kind": "status_change", "change": outcome.change.value, "fingerprint": outcome.fingerprint}
    joins = stored is not None and stored.decision is Decision.JOINED
    return {
        "kind": "alert",
        "duplicate": stored is None,
        "decision": stored.decision.value if stored else None,
        "group_id": stored.group_id if stored and joins else None,
        "group_key": preview.group_key,
        "key_parts": {name: getattr(outcome, name) for name in ("source", "project", "environment", "fingerprint")},
        "source_event_id": outcome.source_event_id,
        "severity": outcome.severity.value,
        "title": outcome.title,
        "link": outcome.link,
    }


def _dump(schema: Schema, row: object) -> Json:
    dumped: Json = schema.dump(row)
    return dumped


def _parse(payload: bytes | None) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The body as JSON; what JSON does not know (``NaN``) is null, and a number too long for Python its text."""
    if payload is None:
        return None
    text = payload.decode("utf-8", "replace")
    return json.loads(text, parse_constant=lambda _: None, parse_int=_parse_int, parse_float=_parse_float)


def _parse_float(literal: str) -> float | None:
    """``1e400`` is a number in JSON and none in Python, which would write ``Infinity``."""
    number = float(literal)
    return number if math.isfinite(number) else None


def _parse_int(literal: str) -> int | str:
    return int(literal) if len(literal) <= _MAX_DIGITS else literal
