"""Response schemas: rows of the database to JSON."""

import json
import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from marshmallow import Schema, fields

from signalcraft.domain.alerts import Decision, FieldWarning, Severity, StatusChange
from signalcraft.groups.hourly_counts import Statistics
from signalcraft.groups.preview import Preview
from signalcraft.groups.reading import occurrences
from signalcraft.groups.reading.group_schema import Json, Row, TimeField, dump_group, one_of, write_time
from signalcraft.groups.reading.summary import Summary
from signalcraft.groups.user_updates import UpdateResult
from signalcraft.notify.contract import OutcomeKind
from signalcraft.notify.queries import State
from signalcraft.storage.audit_log import Actor

#: CPython converts integers of up to 4300 digits (https://docs.python.org/3/library/stdtypes.html#int-max-str-digits).
_MAX_DIGITS = 4000
#: OpenAPI schemas of fields that are sent as they are stored.
_TEXT: Json = {"type": "string"}
_PAIR: Json = {"type": "array", "items": _TEXT, "minItems": 2, "maxItems": 2}


class Event(Schema):
    """A stored alert."""

    id = fields.Integer(required=True)
    alert_group_id = fields.Integer(required=True)
    source = fields.String(required=True)
    source_event_id = fields.String(required=True)
    delivery_id = fields.String(required=True)
    project = fields.String(required=True)
    environment = fields.String(required=True)
    severity = fields.String(required=True, validate=one_of(Severity))
    fingerprint = fields.String(required=True)
    issue_id = fields.String(required=True, allow_none=True)
    title = fields.String(required=True)
    message = fields.String(required=True)
    tags = fields.Raw(attribute="tags_json", required=True, metadata={"type": "array", "items": _PAIR})
    triggered_rules = fields.Raw(required=True, metadata={"type": "array", "items": _TEXT})
    link = fields.String(required=True, allow_none=True)
    occurred_at = TimeField(required=True)
    received_at = TimeField(required=True)
    decision = fields.String(required=True, validate=one_of(Decision))


class EventWithPayload(Event):
    """An event with its payload; null after PAYLOAD_RETENTION_DAYS."""

    payload = fields.Function(lambda row: _parse(row["payload_json"]))


class Sums(Schema):
    """Counts of alerts by outcome."""

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
    actor = fields.String(required=True, validate=one_of(Actor))
    by = fields.String(attribute="changed_by", required=True)
    field = fields.String(required=True)
    before = fields.String(attribute="from_value", data_key="from", required=True, allow_none=True)
    after = fields.String(attribute="to_value", data_key="to", required=True, allow_none=True)
    note = fields.String(required=True, allow_none=True)


class Seen(Schema):
    """How often a problem was seen."""

    since = TimeField(required=True)
    groups = fields.Integer(required=True)
    days = fields.Integer(required=True)


class Attempt(Schema):
    """An attempt to send a notification."""

    at = TimeField(required=True)
    outcome = fields.String(required=True, validate=one_of(OutcomeKind))
    code = fields.String(required=True)
    http_status = fields.Integer(required=True, allow_none=True)
    took_ms = fields.Integer(required=True)
    detail = fields.String(required=True)


class Notification(Schema):
    """A message about a group to a receiver, with the attempts to send it, oldest first."""

    id = fields.Integer(required=True)
    group_id = fields.Integer(attribute="alert_group_id", required=True)
    receiver = fields.String(required=True)
    route = fields.String(required=True)
    reason = fields.String(required=True)
    state = fields.String(required=True, validate=one_of(State))
    tries = fields.Integer(required=True)
    happened_at = TimeField(required=True)
    due_at = TimeField(required=True)
    sent_at = TimeField(required=True, allow_none=True)
    covered_by = fields.Integer(attribute="covered_by_id", required=True, allow_none=True)
    attempts = fields.List(fields.Nested(Attempt), required=True)


_EVENT, _EVENT_WITH_PAYLOAD, _CHANGE, _SUMS = Event(), EventWithPayload(), Change(), Sums()
_NOTIFICATION, _SEEN = Notification(), Seen()


def dump_groups(rows: Iterable[Row], next_cursor: str | None, estimate: int | None = None) -> Json:
    """Return a page of groups.

    It has the estimated total if given.
    """
    total = {} if estimate is None else {"total_estimate": estimate}
    return {"groups": [dump_group(row) for row in rows], "next_cursor": next_cursor, **total}


def dump_occurrences(seen: occurrences.Seen, rows: Iterable[Row], next_cursor: str | None) -> Json:
    """Return a page of the groups of one key, and how often the problem was seen."""
    return {"seen": _dump(_SEEN, seen), **dump_groups(rows, next_cursor)}


def dump_event(row: Row) -> Json:
    """Return an event with its payload; null after PAYLOAD_RETENTION_DAYS."""
    return _dump(_EVENT_WITH_PAYLOAD, row)


def dump_listed_event(row: Row) -> Json:
    """Return an event without its payload."""
    return _dump(_EVENT, row)


def dump_events(rows: Iterable[Row], next_cursor: str | None) -> Json:
    """Return a page of events without their payloads."""
    return {"events": [_dump(_EVENT, row) for row in rows], "next_cursor": next_cursor}


def dump_history(rows: Iterable[Row], next_cursor: str | None) -> Json:
    """Return a page of a group's history."""
    return {"changes": [_dump(_CHANGE, row) for row in rows], "next_cursor": next_cursor}


def dump_notifications(rows: Iterable[Row], next_cursor: str | None) -> Json:
    """Return a page of notifications."""
    return {"notifications": [_dump(_NOTIFICATION, row) for row in rows], "next_cursor": next_cursor}


def dump_update_results(update_results: Iterable[UpdateResult], *, next_cursor: str | None) -> Json:
    """Return the result for each group.

    There is a ``next_cursor`` if the filter may match more groups.
    """
    results = [_dump_update_result(result) for result in update_results]
    return {"results": results, "more": next_cursor is not None, "next_cursor": next_cursor}


def _dump_update_result(result: UpdateResult) -> Json:
    refusal = result.refusal
    if refusal is None:
        return {"id": result.group_id, "status": 200, "code": None, "detail": None}
    detail = refusal.detail or refusal.title
    return {"id": result.group_id, "status": refusal.status, "code": refusal.code, "detail": detail}


def dump_stats(found: Statistics) -> Json:
    """Return the statistics of a period."""
    breakdowns = {
        f"by_{name}": [{name: _plain(value), **_dump(_SUMS, sums)} for value, sums in rows]
        for name, rows in found.by.items()
    }
    top = [{"id": group_id, "title": title, "count": count} for group_id, title, count in found.top_groups]
    period = {"since": write_time(found.period.since), "until": write_time(found.period.until)}
    return {**period, **_dump(_SUMS, found.whole), **breakdowns, "top_groups": top}


def _plain(value: str | datetime) -> str:
    return write_time(value) if isinstance(value, datetime) else value


def dump_summary(found: Summary) -> Json:
    """Return the numbers of groups by facet."""
    facets = {
        f"by_{facet}": [{facet: value, "groups": groups} for value, groups in counts]
        for facet, counts in found.by.items()
    }
    return {"groups": found.groups, "complete": found.complete, **facets}


def dump_explanation(event: Row, group: Row, sentences: Sequence[str]) -> Json:
    """Return why an event is in its group."""
    return {
        "event_id": event["id"],
        "group_id": group["id"],
        "decision": event["decision"],
        "group_key": group["group_key"],
        "key_parts": {name: event[name] for name in ("source", "project", "environment", "fingerprint")},
        "explanation": list(sentences),
    }


def dump_preview(previews: Iterable[Preview], warnings: Iterable[FieldWarning]) -> Json:
    """Return the outcomes of a previewed delivery.

    A group that it would open has no id yet.
    """
    return {
        "outcomes": [_dump_preview(preview) for preview in previews],
        "warnings": [{"field": warning.field, "problem": warning.problem} for warning in warnings],
    }


def _dump_preview(preview: Preview) -> Json:
    outcome, stored = preview.outcome, preview.stored
    if isinstance(outcome, StatusChange):
        return {"kind": "status_change", "change": outcome.change.value, "fingerprint": outcome.fingerprint}
    return {
        "kind": "alert",
        "duplicate": stored is None,
        "decision": stored.decision.value if stored else None,
        "group_id": preview.group_id,
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
    """Parse the body.

    A literal that is not JSON (``NaN``) becomes null, an integer too long for Python its text.
    """
    if payload is None:
        return None
    text = payload.decode("utf-8", "replace")
    return json.loads(text, parse_constant=lambda _: None, parse_int=_parse_int, parse_float=_parse_float)


def _parse_float(literal: str) -> float | None:
    number = float(literal)  # infinite for ``1e400``, which is valid JSON; Python would write ``Infinity``
    return number if math.isfinite(number) else None


def _parse_int(literal: str) -> int | str:
    return int(literal) if len(literal) <= _MAX_DIGITS else literal
