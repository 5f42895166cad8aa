"""The API's words: query strings and bodies in."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema
from werkzeug.datastructures import MultiDict

from signalcraft.api.request_fields import ChoiceField, MomentField, SortField, check_link, check_text
from signalcraft.domain.alerts import GroupStatus, Severity
from signalcraft.groups.filters import GroupFilter
from signalcraft.groups.hourly_counts import MAX_DAYS, Period
from signalcraft.groups.queries import Order
from signalcraft.groups.user_updates import MAX_BULK, UpdateFields

Args = MultiDict[str, str]

MAX_LIMIT: Final = 200
_LARGEST_ID: Final = 2**63 - 1
_DAY = timedelta(days=1)
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a query string asks for. ``scope`` names the list, whatever its page: a cursor is bound to it."""

    limit: int
    cursor: str | None
    scope: str
    wanted: GroupFilter = field(default_factory=GroupFilter)
    order: Order = field(default_factory=Order)
    total: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkEdit:
    """What to change of which groups: those of ``ids``, else those that ``wanted`` means."""

    fields: UpdateFields
    ids: Sequence[int]
    wanted: GroupFilter | None
    cursor: str | None


class NothingQuery(Schema):
    """No parameters."""


class PageQuery(Schema):
    """A page of a list."""

    limit = fields.Integer(load_default=50, validate=validate.Range(1, MAX_LIMIT))
    cursor = fields.String(load_default=None)


class FilterQuery(Schema):
    """Which groups are meant."""

    status = ChoiceField(of=tuple(GroupStatus))
    severity = ChoiceField(of=tuple(Severity))
    environment = ChoiceField()
    project = ChoiceField()
    source = ChoiceField()
    assignee = ChoiceField()
    severity_min = fields.Enum(Severity, by_value=True, load_default=None)
    current = fields.Boolean(truthy={"true", True}, falsy={"false", False}, load_default=None)
    q = fields.String(load_default="", validate=check_text)
    since = MomentField(load_default=None)
    until = MomentField(load_default=None)

    @post_load
    def _filter(self, loaded: dict[str, Any], **_: Any) -> GroupFilter:  # noqa: ANN401 - marshmallow's signature
        return GroupFilter(**loaded)


class GroupsQuery(PageQuery, FilterQuery):
    """A page of the list of groups."""

    sort = SortField(load_default=Order)
    total = fields.String(load_default="", validate=validate.OneOf(["estimate"]))

    @post_load
    def _filter(self, loaded: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: ANN401 - marshmallow's signature
        page = {name: loaded.pop(name) for name in ("limit", "cursor", "total")}
        return {**page, "order": loaded.pop("sort"), "wanted": GroupFilter(**loaded)}


class StatsQuery(Schema):
    """A period."""

    since = MomentField(load_default=None)
    until = MomentField(load_default=None)


class EditBody(Schema):
    """What to set of a group; what is not there stays."""

    status = fields.Enum(GroupStatus, by_value=True)
    snoozed_until = MomentField(allow_none=True)
    assignee_user_id = fields.String(allow_none=True, validate=check_text)
    runbook_url = fields.String(allow_none=True, validate=check_link)

    @validates_schema
    def _check_snooze(self, loaded: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - marshmallow's signature
        until = loaded.get("snoozed_until")
        if until is not None and loaded.get("status", GroupStatus.SNOOZED) is not GroupStatus.SNOOZED:
            raise ValidationError("Only with the status snoozed.", "snoozed_until")


class BulkBody(Schema):
    """What to set of many groups."""

    ids = fields.List(
        fields.Integer(strict=True, validate=validate.Range(1, _LARGEST_ID)),
        validate=validate.Length(1, MAX_BULK),
    )
    filter = fields.Nested(FilterQuery)
    cursor = fields.String()
    set = fields.Nested(EditBody, required=True)

    @validates_schema
    def _check_which(self, loaded: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - marshmallow's signature
        if ("ids" in loaded) is ("filter" in loaded):
            raise ValidationError("Either ids or filter must be given.", "ids")
        if "cursor" in loaded and "filter" not in loaded:
            raise ValidationError("Only with a filter.", "cursor")


_GROUPS_QUERY, _PAGE_QUERY, _FILTER_QUERY, _NOTHING = GroupsQuery(), PageQuery(), FilterQuery(), NothingQuery()
_EDIT, _BULK, _STATS = EditBody(), BulkBody(), StatsQuery()


def load_groups_query(args: Args, *, workspace_id: int) -> Listing:
    """What the query string of the list of groups asks for.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    return Listing(**_load(_GROUPS_QUERY, args), scope=f"groups of {workspace_id}: {_canonical(args)}")


def load_page_query(args: Args, *, scope: str) -> Listing:
    """What the query string of a list without filters asks for; ``scope`` names the list.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    return Listing(**_load(_PAGE_QUERY, args), scope=scope)


def load_filter_query(args: Args) -> GroupFilter:
    """Which groups a query string means.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    wanted: GroupFilter = _load(_FILTER_QUERY, args)
    return wanted


def load_stats_query(args: Args, *, now: datetime) -> Period:
    """The period that a query string asks about, widened to full hours: the last day where it says nothing.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    loaded = _load(_STATS, args)
    until, since = loaded["until"] or now, loaded["since"]
    for name in ("since", "until"):
        if loaded[name] is not None and not _EARLIEST <= loaded[name] <= now + MAX_DAYS * _DAY:
            raise ValidationError({name: [f"Must be a time from {_EARLIEST.year} on, and not far in the future."]})
    since = since or until - _DAY
    if since >= until:
        raise ValidationError({"since": ["Must be before until."]})
    if until - since > MAX_DAYS * _DAY:
        raise ValidationError({"since": [f"Must be at most {MAX_DAYS} days before until."]})
    return Period.covering(since, until)


def refuse_parameters(args: Args) -> None:
    """Say no to parameters where there are none.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    _load(_NOTHING, args)


def load_update(body: Mapping[str, Any], *, now: datetime) -> UpdateFields:
    """What a body sets of a group.

    Raises:
        marshmallow.ValidationError: by field.
    """
    edit: UpdateFields = _EDIT.load(body)
    _check_end(edit, now, "snoozed_until")
    return edit


def load_bulk_update(body: Mapping[str, Any], *, now: datetime) -> BulkEdit:
    """What a body sets of which groups. A group that is named twice is meant once.

    Raises:
        marshmallow.ValidationError: by field.
    """
    loaded = _BULK.load(body)
    _check_end(loaded["set"], now, "set.snoozed_until")
    return BulkEdit(
        fields=loaded["set"],
        ids=list(dict.fromkeys(loaded.get("ids", ()))),
        wanted=loaded.get("filter"),
        cursor=loaded.get("cursor"),
    )


def _check_end(edit: UpdateFields, now: datetime, name: str) -> None:
    until = edit.get("snoozed_until")
    if until is not None and until <= now:
        raise ValidationError({name: ["Must be in the future."]})


def _load(schema: Schema, args: Args) -> Any:  # noqa: ANN401 - what the schema makes of it
    """Several values of one parameter make a list; only filters take one."""
    given = {name: values if len(values) > 1 else values[0] for name, values in args.lists()}
    repeated = [name for name in given if isinstance(given[name], list) and not _is_choice(schema.fields.get(name))]
    if repeated:
        raise ValidationError({name: ["Must be given once."] for name in repeated})
    return schema.load(given)


def _is_choice(field: Any) -> bool:  # noqa: ANN401 - a field of marshmallow's, of any type
    return isinstance(field, ChoiceField) or field is None  # None: unknown, which the schema says better


def _canonical(args: Args) -> str:
    """The query without what may differ from page to page."""
    differs = {*_PAGE_QUERY.fields, "total"}
    return json.dumps(sorted((name, value) for name, value in args.items(multi=True) if name not in differs))
