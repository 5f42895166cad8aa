"""Requests about groups, as query strings, forms and JSON name them: a page of a list, filters, an update."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema
from werkzeug.datastructures import MultiDict

from signalcraft.domain.alerts import GroupStatus, Severity, Vocabulary
from signalcraft.groups.reading.filters import EventFilter, GroupFilter, ValueFilter
from signalcraft.groups.reading.queries import Order
from signalcraft.groups.reading.request_fields import (
    ChoiceField,
    MomentField,
    SortField,
    check_link,
    check_note,
    check_text,
)
from signalcraft.groups.user_updates import UpdateFields
from signalcraft.sources import cleaning

Args = MultiDict[str, str]

MAX_LIMIT: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A parsed list query. ``scope`` names the list without its page: a cursor is bound to it."""

    limit: int
    cursor: str | None
    scope: str
    group_filter: GroupFilter = field(default_factory=GroupFilter)
    event_filter: EventFilter = field(default_factory=EventFilter)
    order: Order = field(default_factory=Order)
    total: str = ""


class PageQuery(Schema):
    """A page of a list."""

    limit = fields.Integer(load_default=50, validate=validate.Range(1, MAX_LIMIT))
    cursor = fields.String(load_default=None)


class FilterQuery(Schema):
    """Filters of groups."""

    status = ChoiceField(of=tuple(GroupStatus))
    severity = ChoiceField(of=tuple(Severity))
    environment = ChoiceField()
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


class EditBody(Schema):
    """An update of a group; absent fields stay unchanged."""

    status = fields.Enum(GroupStatus, by_value=True)
    snoozed_until = MomentField(allow_none=True)
    assignee_user_id = fields.String(allow_none=True, validate=check_text)
    runbook_url = fields.String(allow_none=True, validate=check_link)
    note = fields.String(allow_none=True, validate=check_note, post_load=str.strip)

    @validates_schema
    def _check_snooze(self, loaded: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - marshmallow's signature
        until = loaded.get("snoozed_until")
        if until is not None and loaded.get("status", GroupStatus.SNOOZED) is not GroupStatus.SNOOZED:
            raise ValidationError("Only with the status snoozed.", "snoozed_until")

    @validates_schema
    def _check_note(self, loaded: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - marshmallow's signature
        if loaded.get("note") and len(loaded) == 1:
            raise ValidationError("Only with a change of another field.", "note")


_FILTER_QUERY, _GROUPS_QUERY, _UPDATE = FilterQuery(), GroupsQuery(), EditBody()
#: Parameters that say which page of a list is meant, not which list.
PAGE_PARAMETERS: Final = frozenset({*PageQuery().fields, "total"})


def load_groups_query(args: Args, *, workspace_id: int, vocabulary: Vocabulary) -> Listing:
    """Parse the query string of the list of groups.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    loaded = load(_GROUPS_QUERY, args)
    loaded["group_filter"] = with_aliases(loaded["group_filter"], vocabulary)
    return Listing(**loaded, scope=f"groups of {workspace_id}: {canonical(args)}")


def load_filter_query(args: Args, vocabulary: Vocabulary) -> GroupFilter:
    """Parse a query string of filters.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    return with_aliases(load(_FILTER_QUERY, args), vocabulary)


def with_aliases(group_filter: GroupFilter, vocabulary: Vocabulary) -> GroupFilter:
    """Return ``group_filter`` with the environments that its aliases mean.

    The name itself is looked for too: groups that came before an alias was set still have it.
    """

    def with_canonical(names: Sequence[str]) -> Sequence[str]:
        known = (cleaning.canonical_environment(cleaning.environment(name) or name, vocabulary)[0] for name in names)
        return tuple(dict.fromkeys((*names, *known)))

    environment = group_filter.environment
    return replace(
        group_filter,
        environment=ValueFilter(
            include=with_canonical(environment.include), exclude=with_canonical(environment.exclude)
        ),
    )


def load_update(body: Mapping[str, Any], *, now: datetime) -> UpdateFields:
    """Parse the body of a group update.

    Raises:
        marshmallow.ValidationError: by field.
    """
    update: UpdateFields = _UPDATE.load(body)
    check_snooze_end(update, now, "snoozed_until")
    return update


def check_snooze_end(update: UpdateFields, now: datetime, name: str) -> None:
    """Check that a snooze ends in the future.

    Raises:
        marshmallow.ValidationError: it does not; by ``name``.
    """
    until = update.get("snoozed_until")
    if until is not None and until <= now:
        raise ValidationError({name: ["Must be in the future."]})


def load(schema: Schema, args: Args) -> Any:  # noqa: ANN401 - the schema says what
    """Parse ``args`` with ``schema``.

    Repeated parameters become a list, which only filters accept.

    Raises:
        marshmallow.ValidationError: by parameter.
    """
    given = {name: values if len(values) > 1 else values[0] for name, values in args.lists()}
    repeated = [name for name in given if isinstance(given[name], list) and not _is_choice(schema.fields.get(name))]
    if repeated:
        raise ValidationError({name: ["Must be given once."] for name in repeated})
    return schema.load(given)


def _is_choice(field: Any) -> bool:  # noqa: ANN401 - a field of marshmallow's, of any type
    return isinstance(field, ChoiceField) or field is None  # None: unknown, the schema reports it better


def canonical(args: Args) -> str:
    """Return the query without the parameters of a page.

    Those may differ from page to page.
    """
    return json.dumps(sorted((name, value) for name, value in args.items(multi=True) if name not in PAGE_PARAMETERS))
