"""The API's words: query strings in, JSON out."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate
from werkzeug.datastructures import MultiDict

from signalcraft.alerts import Decision, FieldWarning, GroupStatus, Severity, StatusChange
from signalcraft.intake import Answer, Receipt
from signalcraft.previews import Preview
from signalcraft.retrieval import Choice, GroupFilter, Order, SortKey

Args = MultiDict[str, str]
Row = dict[str, Any]
Json = dict[str, Any]

MAX_LIMIT = 200
_MAX_SEARCH = 200
_MAX_VALUES = 50
#: CPython converts integers of up to 4300 digits (https://docs.python.org/3/library/stdtypes.html#int-max-str-digits).
_MAX_DIGITS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a query string asks for. ``scope`` names the list, whatever its page: a cursor is bound to it."""

    limit: int
    cursor: str
    scope: str
    wanted: GroupFilter = field(default_factory=GroupFilter)
    order: Order = field(default_factory=Order)


class _Choice(fields.Field[Choice]):
    """A filter: several values are alternatives, ``!`` before one excludes it."""

    def __init__(self, *, of: Sequence[str] | None = None) -> None:
        super().__init__(load_default=Choice)
        self._of = of

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> Choice:  # noqa: ANN401, ARG002 - marshmallow's signature
        texts = [value] if isinstance(value, str) else value
        if len(texts) > _MAX_VALUES:
            raise ValidationError(f"At most {_MAX_VALUES} values.")
        named = [text.removeprefix("!") for text in texts]
        if any(not _is_plain(name) for name in named):
            raise ValidationError("A value is empty, too long or holds control characters.")
        if self._of is not None and not set(named) <= set(self._of):
            raise ValidationError(f"Must be one of: {', '.join(self._of)}.")
        return Choice(
            include=tuple(text for text in texts if not text.startswith("!")),
            exclude=tuple(text[1:] for text in texts if text.startswith("!")),
        )


class _Sort(fields.Field[Order]):
    """``last_seen`` for ascending, ``-last_seen`` for descending."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **_: Any) -> Order:  # noqa: ANN401, ARG002 - marshmallow's signature
        name = str(value).removeprefix("-")
        if name not in tuple(SortKey):
            raise ValidationError(f"Must be one of: {', '.join(SortKey)}, or one of them after a minus sign.")
        return Order(key=SortKey(name), descending=str(value).startswith("-"))


class _Moment(fields.AwareDateTime):
    """A time with its offset, turned into UTC."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **options: Any) -> datetime:  # noqa: ANN401 - marshmallow's signature
        try:
            return super()._deserialize(value, attr, data, **options).astimezone(UTC)
        except OverflowError as error:  # the year 1 or 9999, at an offset beyond it
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE) from error


class _Time(fields.Field[datetime]):
    """RFC 3339, UTC, always with microseconds and ``Z``: one length, so that text sorts as time does."""

    def _serialize(self, value: datetime | None, attr: str | None, obj: Any, **_: Any) -> str | None:  # noqa: ANN401, ARG002 - marshmallow's signature
        if value is None:
            return None
        return value.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _is_plain(text: str) -> bool:
    return 0 < len(text) <= _MAX_SEARCH and text.isprintable()


def _check_search(text: str) -> None:
    if not _is_plain(text):
        raise ValidationError(f"Must be 1 to {_MAX_SEARCH} printable characters.")


class _PageQuery(Schema):
    limit = fields.Integer(load_default=50, validate=validate.Range(1, MAX_LIMIT))
    cursor = fields.String(load_default="")


class _GroupsQuery(_PageQuery):
    status = _Choice(of=tuple(GroupStatus))
    severity = _Choice(of=tuple(Severity))
    environment = _Choice()
    project = _Choice()
    source = _Choice()
    assignee = _Choice()
    severity_min = fields.Enum(Severity, by_value=True, load_default=None)
    current = fields.Boolean(truthy={"true"}, falsy={"false"}, load_default=None)
    q = fields.String(load_default="", validate=_check_search)
    since = _Moment(load_default=None)
    until = _Moment(load_default=None)
    sort = _Sort(load_default=Order)

    @post_load
    def _filter(self, loaded: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: ANN401 - marshmallow's signature
        page = {name: loaded.pop(name) for name in ("limit", "cursor")}
        return {**page, "order": loaded.pop("sort"), "wanted": GroupFilter(**loaded)}


class _Group(Schema):
    id = fields.Integer()
    group_key = fields.String()
    source = fields.String()
    project = fields.String()
    environment = fields.String()
    severity = fields.String()
    status = fields.String()
    title = fields.String()
    count = fields.Integer()
    first_seen_at = _Time()
    last_seen_at = _Time()
    fingerprint = fields.String()
    issue_id = fields.String()
    link = fields.String()
    assignee_user_id = fields.String()
    runbook_url = fields.String()
    snoozed_until = _Time()
    previous_group_id = fields.Integer()


class _Event(Schema):
    id = fields.Integer()
    alert_group_id = fields.Integer()
    source = fields.String()
    source_event_id = fields.String()
    delivery_id = fields.String()
    project = fields.String()
    environment = fields.String()
    severity = fields.String()
    fingerprint = fields.String()
    issue_id = fields.String()
    title = fields.String()
    message = fields.String()
    tags = fields.Raw(attribute="tags_json")
    triggered_rules = fields.Raw()
    link = fields.String()
    occurred_at = _Time()
    received_at = _Time()
    decision = fields.String()


class _EventWithPayload(_Event):
    payload = fields.Function(lambda row: _parse(row["payload_json"]))


_GROUP, _EVENT, _EVENT_WITH_PAYLOAD = _Group(), _Event(), _EventWithPayload()
_GROUPS_QUERY, _PAGE_QUERY = _GroupsQuery(), _PageQuery()


def load_groups_query(args: Args, *, workspace_id: int) -> Listing:
    """What the query string of the list of groups asks for.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    return Listing(**_load(_GROUPS_QUERY, args), scope=f"groups of {workspace_id}: {_canonical(args)}")


def load_events_query(args: Args, *, workspace_id: int, group_id: int) -> Listing:
    """What the query string of the list of a group's events asks for.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    return Listing(**_load(_PAGE_QUERY, args), scope=f"events of {workspace_id}, {group_id}")


def _load(schema: Schema, args: Args) -> Mapping[str, Any]:
    """Several values of one parameter make a list; only filters take one."""
    given = {name: values if len(values) > 1 else values[0] for name, values in args.lists()}
    repeated = [name for name in given if isinstance(given[name], list) and not _is_choice(schema.fields.get(name))]
    if repeated:
        raise ValidationError({name: ["Must be given once."] for name in repeated})
    loaded: Mapping[str, Any] = schema.load(given)
    return loaded


def _is_choice(field: Any) -> bool:  # noqa: ANN401 - a field of marshmallow's, of any type
    return isinstance(field, _Choice) or field is None  # None: unknown, which the schema says better


def _canonical(args: Args) -> str:
    """The query without what differs from page to page."""
    return json.dumps(
        sorted((name, value) for name, value in args.items(multi=True) if name not in _PageQuery().fields)
    )


def dump_group(row: Row) -> Json:
    """A group."""
    return _dump(_GROUP, row)


def dump_groups(rows: Iterable[Row], next_cursor: str | None) -> Json:
    """A page of groups."""
    return {"groups": [_dump(_GROUP, row) for row in rows], "next_cursor": next_cursor}


def dump_event(row: Row) -> Json:
    """An event with what was sent: null once PAYLOAD_RETENTION_DAYS are over."""
    return _dump(_EVENT_WITH_PAYLOAD, row)


def dump_events(rows: Iterable[Row], next_cursor: str | None) -> Json:
    """A page of events, without what was sent."""
    return {"events": [_dump(_EVENT, row) for row in rows], "next_cursor": next_cursor}


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
    outcome, home = preview.outcome, preview.home
    if isinstance(outcome, StatusChange):
        return {"kind": "status_change", "change": outcome.change.value, "fingerprint": outcome.fingerprint}
    joins = home is not None and home.decision is Decision.JOINED
    return {
        "kind": "alert",
        "duplicate": home is None,
        "decision": home.decision.value if home else None,
        "group_id": home.group_id if home and joins else None,
        "group_key": preview.group_key,
        "key_parts": {name: getattr(outcome, name) for name in ("source", "project", "environment", "fingerprint")},
        "source_event_id": outcome.source_event_id,
        "severity": outcome.severity.value,
        "title": outcome.title,
        "link": outcome.link,
    }


def dump_receipt(receipt: Receipt) -> Json:
    """What the sender of a delivery is told."""
    if receipt.answer is Answer.IGNORED:
        return {"status": receipt.answer.value, "reason": receipt.reason}
    return {"status": receipt.answer.value, "delivery_id": receipt.delivery_id}


def _dump(schema: Schema, row: Row) -> Json:
    dumped: Json = schema.dump(row)
    return dumped


def _parse(payload: str | None) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The body as JSON; what JSON does not know (``NaN``) is null, and a number too long for Python its text."""
    if payload is None:
        return None
    return json.loads(payload, parse_constant=lambda _: None, parse_int=_parse_int)


def _parse_int(literal: str) -> int | str:
    return int(literal) if len(literal) <= _MAX_DIGITS else literal
