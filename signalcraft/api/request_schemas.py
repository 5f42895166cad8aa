"""Request schemas: query strings and bodies."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema
from werkzeug.datastructures import MultiDict

from signalcraft.api.request_fields import (
    ChoiceField,
    EnvironmentField,
    MomentField,
    SortField,
    TagField,
    check_link,
    check_text,
)
from signalcraft.domain.alerts import GroupStatus, Severity
from signalcraft.domain.deliveries import MAX_ID
from signalcraft.groups.filters import EventFilter, GroupFilter
from signalcraft.groups.hourly_counts import MAX_DAYS, Period
from signalcraft.groups.queries import Order
from signalcraft.groups.user_updates import MAX_BULK, UpdateFields
from signalcraft.notify.queries import NotificationFilter, State

Args = MultiDict[str, str]

MAX_LIMIT: Final = 200
_DAY = timedelta(days=1)
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A parsed list query. ``scope`` names the list without its page: a cursor is bound to it."""

    limit: int
    cursor: str | None
    scope: str
    group_filter: GroupFilter = field(default_factory=GroupFilter)
    event_filter: EventFilter = field(default_factory=EventFilter)
    notification_filter: NotificationFilter = field(default_factory=NotificationFilter)
    order: Order = field(default_factory=Order)
    total: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkUpdate:
    """A parsed bulk update of the groups in ``ids``, or else of those that ``group_filter`` matches."""

    fields: UpdateFields
    ids: Sequence[int]
    group_filter: GroupFilter | None
    cursor: str | None


class EmptyQuery(Schema):
    """No parameters."""


class PageQuery(Schema):
    """A page of a list."""

    limit = fields.Integer(load_default=50, validate=validate.Range(1, MAX_LIMIT))
    cursor = fields.String(load_default=None)


class FilterQuery(Schema):
    """Filters of groups."""

    status = ChoiceField(of=tuple(GroupStatus))
    severity = ChoiceField(of=tuple(Severity))
    environment = EnvironmentField()
    project = ChoiceField()
    source = ChoiceField()
    issue_id = ChoiceField()
    fingerprint = ChoiceField()
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
    """A filtered, sorted page of groups."""

    sort = SortField(load_default=Order)
    total = fields.String(load_default="", validate=validate.OneOf(["estimate"]))

    @post_load
    def _filter(self, loaded: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: ANN401 - marshmallow's signature
        page = {name: loaded.pop(name) for name in ("limit", "cursor", "total")}
        return {**page, "order": loaded.pop("sort"), "group_filter": GroupFilter(**loaded)}


class EventsQuery(PageQuery):
    """A filtered page of events."""

    source_event_id = ChoiceField()
    delivery_id = ChoiceField()
    tag = TagField()
    rule = ChoiceField()
    since = MomentField(load_default=None)
    until = MomentField(load_default=None)

    @post_load
    def _filter(self, loaded: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: ANN401 - marshmallow's signature
        page = {name: loaded.pop(name) for name in ("limit", "cursor")}
        return {**page, "event_filter": EventFilter(**loaded)}


class GroupNotificationsQuery(PageQuery):
    """A filtered page of the notifications about a group."""

    receiver = fields.String(load_default=None, validate=check_text)
    state = fields.Enum(State, by_value=True, load_default=None)


class NotificationsQuery(GroupNotificationsQuery):
    """A filtered page of notifications."""

    group_id = fields.Integer(load_default=None, validate=validate.Range(0, MAX_ID))


class StatsQuery(Schema):
    """A period."""

    since = MomentField(load_default=None)
    until = MomentField(load_default=None)


class EditBody(Schema):
    """An update of a group; absent fields stay unchanged."""

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
    """An update of many groups."""

    ids = fields.List(
        fields.Integer(strict=True, validate=validate.Range(1, MAX_ID)),
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
        if loaded.get("filter") == GroupFilter():
            raise ValidationError("Must have a condition: without one it would change every group.", "filter")


_GROUPS_QUERY, _PAGE_QUERY, _FILTER_QUERY, _NO_PARAMETERS = GroupsQuery(), PageQuery(), FilterQuery(), EmptyQuery()
_UPDATE, _BULK, _STATS, _EVENTS_QUERY = EditBody(), BulkBody(), StatsQuery(), EventsQuery()
_NOTIFICATIONS_QUERY, _GROUP_NOTIFICATIONS_QUERY = NotificationsQuery(), GroupNotificationsQuery()


def load_groups_query(args: Args, *, workspace_id: int) -> Listing:
    """Parse the query string of the list of groups.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    return Listing(**_load(_GROUPS_QUERY, args), scope=f"groups of {workspace_id}: {_canonical(args)}")


def load_events_query(args: Args, *, workspace_id: int) -> Listing:
    """Parse the query string of the list of events.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    return Listing(**_load(_EVENTS_QUERY, args), scope=f"all events of {workspace_id}: {_canonical(args)}")


def load_notifications_query(args: Args, *, workspace_id: int, group_id: int | None = None) -> Listing:
    """Parse the query string of a list of notifications, of all groups or of one.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    loaded = _load(_NOTIFICATIONS_QUERY if group_id is None else _GROUP_NOTIFICATIONS_QUERY, args)
    page = {name: loaded.pop(name) for name in ("limit", "cursor")}
    wanted = NotificationFilter(workspace_id=workspace_id, **({"group_id": group_id} | loaded))
    return Listing(**page, notification_filter=wanted, scope=f"notifications: {wanted}")


def load_page_query(args: Args, *, scope: str) -> Listing:
    """Parse the query string of a list without filters.

    ``scope`` names the list.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    return Listing(**_load(_PAGE_QUERY, args), scope=scope)


def load_filter_query(args: Args) -> GroupFilter:
    """Parse a query string of filters.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    group_filter: GroupFilter = _load(_FILTER_QUERY, args)
    return group_filter


def load_stats_query(args: Args, *, now: datetime) -> Period:
    """Parse a period and widen it to full hours.

    The default is the last 24 hours.

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
    """Refuse all parameters.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    _load(_NO_PARAMETERS, args)


def load_update(body: Mapping[str, Any], *, now: datetime) -> UpdateFields:
    """Parse the body of a group update.

    Raises:
        marshmallow.ValidationError: by field.
    """
    update: UpdateFields = _UPDATE.load(body)
    _check_snooze_end(update, now, "snoozed_until")
    return update


def load_bulk_update(body: Mapping[str, Any], *, now: datetime) -> BulkUpdate:
    """Parse the body of a bulk update.

    Repeated ids are merged.

    Raises:
        marshmallow.ValidationError: by field.
    """
    loaded = _BULK.load(body)
    _check_snooze_end(loaded["set"], now, "set.snoozed_until")
    return BulkUpdate(
        fields=loaded["set"],
        ids=list(dict.fromkeys(loaded.get("ids", ()))),
        group_filter=loaded.get("filter"),
        cursor=loaded.get("cursor"),
    )


def _check_snooze_end(update: UpdateFields, now: datetime, name: str) -> None:
    until = update.get("snoozed_until")
    if until is not None and until <= now:
        raise ValidationError({name: ["Must be in the future."]})


def _load(schema: Schema, args: Args) -> Any:  # noqa: ANN401 - the schema says what
    """Parse ``args`` with ``schema``.

    Repeated parameters become a list, which only filters accept.
    """
    given = {name: values if len(values) > 1 else values[0] for name, values in args.lists()}
    repeated = [name for name in given if isinstance(given[name], list) and not _is_choice(schema.fields.get(name))]
    if repeated:
        raise ValidationError({name: ["Must be given once."] for name in repeated})
    return schema.load(given)


def _is_choice(field: Any) -> bool:  # noqa: ANN401 - a field of marshmallow's, of any type
    return isinstance(field, ChoiceField) or field is None  # None: unknown, the schema reports it better


def _canonical(args: Args) -> str:
    """Return the query without the parameters of a page.

    Those may differ from page to page.
    """
    page_parameters = {*_PAGE_QUERY.fields, "total"}
    return json.dumps(sorted((name, value) for name, value in args.items(multi=True) if name not in page_parameters))
