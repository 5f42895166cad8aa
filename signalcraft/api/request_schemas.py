"""Request schemas: query strings and bodies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema

from signalcraft.domain.alerts import Vocabulary
from signalcraft.domain.deliveries import MAX_ID
from signalcraft.groups.hourly_counts import MAX_DAYS, Period
from signalcraft.groups.reading.filters import EventFilter, GroupFilter
from signalcraft.groups.reading.request_fields import ChoiceField, MomentField, TagField, check_text
from signalcraft.groups.reading.requests import (
    Args,
    EditBody,
    FilterQuery,
    Listing,
    PageQuery,
    canonical,
    check_snooze_end,
    load,
    with_aliases,
)
from signalcraft.groups.user_updates import MAX_BULK, UpdateFields
from signalcraft.notify.queries import NotificationFilter, State
from signalcraft.sources import DEFAULT_SOURCE, SOURCES, Source

_DAY = timedelta(days=1)
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationListing(Listing):
    """A parsed query of a list of notifications."""

    notification_filter: NotificationFilter = field(default_factory=NotificationFilter)


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkUpdate:
    """A parsed bulk update of the groups in ``ids``, or else of those that ``group_filter`` matches."""

    fields: UpdateFields
    ids: Sequence[int]
    group_filter: GroupFilter | None
    cursor: str | None


class EmptyQuery(Schema):
    """No parameters."""


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

    group_id = fields.Integer(data_key="group", load_default=None, validate=validate.Range(0, MAX_ID))


class PreviewQuery(Schema):
    """The source of a delivery."""

    source = fields.String(load_default=DEFAULT_SOURCE.NAME, validate=validate.OneOf(list(SOURCES)))


class StatsQuery(Schema):
    """A period."""

    since = MomentField(load_default=None)
    until = MomentField(load_default=None)


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


_PAGE_QUERY, _NO_PARAMETERS, _PREVIEW_QUERY = PageQuery(), EmptyQuery(), PreviewQuery()
_BULK, _STATS, _EVENTS_QUERY = BulkBody(), StatsQuery(), EventsQuery()
_NOTIFICATIONS_QUERY, _GROUP_NOTIFICATIONS_QUERY = NotificationsQuery(), GroupNotificationsQuery()


def load_events_query(args: Args, *, workspace_id: int) -> Listing:
    """Parse the query string of the list of events.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    return Listing(**load(_EVENTS_QUERY, args), scope=f"all events of {workspace_id}: {canonical(args)}")


def load_notifications_query(args: Args, *, workspace_id: int, group_id: int | None = None) -> NotificationListing:
    """Parse the query string of a list of notifications, of all groups or of one.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    loaded = load(_NOTIFICATIONS_QUERY if group_id is None else _GROUP_NOTIFICATIONS_QUERY, args)
    page = {name: loaded.pop(name) for name in ("limit", "cursor")}
    wanted = NotificationFilter(workspace_id=workspace_id, **({"group_id": group_id} | loaded))
    return NotificationListing(**page, notification_filter=wanted, scope=f"notifications: {wanted}")


def load_page_query(args: Args, *, scope: str) -> Listing:
    """Parse the query string of a list without filters.

    ``scope`` names the list.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    return Listing(**load(_PAGE_QUERY, args), scope=scope)


def load_stats_query(args: Args, *, now: datetime) -> Period:
    """Parse a period and widen it to full hours.

    The default is the last 24 hours.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    loaded = load(_STATS, args)
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


def read_source(args: Args) -> Source:
    """Return the source of a delivery to preview.

    Raises:
        marshmallow.ValidationError: there is no such source.
    """
    return SOURCES[load(_PREVIEW_QUERY, args)["source"]]


def refuse_parameters(args: Args) -> None:
    """Refuse all parameters.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    load(_NO_PARAMETERS, args)


def load_bulk_update(body: Mapping[str, Any], *, now: datetime, vocabulary: Vocabulary) -> BulkUpdate:
    """Parse the body of a bulk update.

    Repeated ids are merged.

    Raises:
        marshmallow.ValidationError: by field.
    """
    loaded = _BULK.load(body)
    check_snooze_end(loaded["set"], now, "set.snoozed_until")
    group_filter = loaded.get("filter")
    return BulkUpdate(
        fields=loaded["set"],
        ids=list(dict.fromkeys(loaded.get("ids", ()))),
        group_filter=group_filter and with_aliases(group_filter, vocabulary),
        cursor=loaded.get("cursor"),
    )
