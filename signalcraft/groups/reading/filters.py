"""Filters of groups and of events, and their SQL conditions.

An expired snooze counts as open. The stored status does not change when a snooze expires, so the time is an argument.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any, Final, cast

from peewee import ColumnBase, Expression, Field, Node, fn

from signalcraft.domain.alerts import GroupStatus, Severity
from signalcraft.sources import SOURCES
from signalcraft.storage.models import AlertEvent, AlertGroup

#: The value of an assignee filter that selects unassigned groups.
UNASSIGNED: Final = "none"

_G = AlertGroup
_E = AlertEvent
_LIKE_METACHARACTERS = re.compile(r"([\\%_])")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueFilter:
    """Values of a column to select: one of ``include`` (empty: any), and none of ``exclude``."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFilter:
    """Which groups to select.

    ``since`` (inclusive) and ``until`` (exclusive) bound ``last_seen_at``; ``q`` is a part of the title.
    """

    status: ValueFilter = field(default_factory=ValueFilter)
    severity: ValueFilter = field(default_factory=ValueFilter)
    environment: ValueFilter = field(default_factory=ValueFilter)
    project: ValueFilter = field(default_factory=ValueFilter)
    source: ValueFilter = field(default_factory=ValueFilter)
    issue_id: ValueFilter = field(default_factory=ValueFilter)
    fingerprint: ValueFilter = field(default_factory=ValueFilter)
    assignee: ValueFilter = field(default_factory=ValueFilter)
    severity_min: Severity | None = None
    current: bool | None = None
    q: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events to select.

    A ``tag`` is ``name=value``. ``since`` (inclusive) and ``until`` (exclusive) bound ``received_at``.
    """

    source_event_id: ValueFilter = field(default_factory=ValueFilter)
    delivery_id: ValueFilter = field(default_factory=ValueFilter)
    tag: ValueFilter = field(default_factory=ValueFilter)
    rule: ValueFilter = field(default_factory=ValueFilter)
    since: datetime | None = None
    until: datetime | None = None

    @property
    def names_events(self) -> bool:
        """Whether indexes find the few events that it names."""
        return bool(self.source_event_id.include or self.delivery_id.include)

    @property
    def reads_events(self) -> bool:
        """Whether events have to be read to know which match."""
        any_event = EventFilter(since=self.since, until=self.until)
        return self != any_event

    @property
    def period(self) -> Iterator[Node]:
        """The conditions on ``received_at``."""
        if self.since is not None:
            yield _E.received_at >= self.since
        if self.until is not None:
            yield _E.received_at < self.until


def event_conditions(event_filter: EventFilter) -> Iterator[Node]:
    """Yield a filter's SQL conditions on ``alert_event``; all must hold."""
    for condition, value_filter in (
        (with_source_event_id, event_filter.source_event_id),
        (from_delivery, event_filter.delivery_id),
        (_with_tag, event_filter.tag),
        (_sent_by_rule, event_filter.rule),
    ):
        if value_filter.include:
            yield condition(value_filter.include)
        if value_filter.exclude:
            yield ~condition(value_filter.exclude)
    yield from event_filter.period


def with_source_event_id(names: Iterable[str]) -> Expression:
    """Return SQL for whether the source calls the event by one of ``names``.

    The source's id of an event may be followed by a colon and more (the issue's id), which a caller need not know. The
    sources are named because the index has them before the ids.
    """
    column = _E.source_event_id
    found: Expression = _E.source.in_(list(SOURCES)) & _any_of(
        (column == name) | ((column >= f"{name}:") & (column < f"{name};"))  # in the order of "C", ";" follows ":"
        for name in names
    )
    return found


def from_delivery(delivery_ids: Iterable[str]) -> Expression:
    """Return SQL for whether the event's first delivery is one of ``delivery_ids``."""
    found: Expression = _E.delivery_id.in_(list(delivery_ids))
    return found


#: jsonb's containment ignores order: ``["a", "b"]`` would also find ``["b", "a"]``. "lax" would look into the pairs.
_HAS_PAIR: Final = "strict $[*] ? (@[0] == $name && @[1] == $value)"


def _with_tag(tags: Iterable[str]) -> Expression:
    pairs = (tag.partition("=") for tag in tags)
    return _any_of(
        fn.jsonb_path_exists(_E.tags_json, _HAS_PAIR, json.dumps({"name": name, "value": value}))
        for name, _, value in pairs
    )


def _sent_by_rule(rules: Iterable[str]) -> Expression:
    return _any_of(_E.triggered_rules.has_key(rule) for rule in rules)


def _any_of(alternatives: Iterable[ColumnBase]) -> Expression:
    found: Any = reduce(or_, alternatives)
    return cast("Expression", found)


def conditions(group_filter: GroupFilter, now: datetime) -> Iterator[Node]:
    """Yield a filter's SQL conditions on ``alert_group``; all must hold."""
    columns = (
        (_G.severity, group_filter.severity),
        (_G.environment, group_filter.environment),
        (_G.project, group_filter.project),
        (_G.source, group_filter.source),
        (_G.issue_id, group_filter.issue_id),
        (_G.fingerprint, _fingerprints_of(group_filter.issue_id)),
        (_G.fingerprint, group_filter.fingerprint),
    )
    for column, value_filter in columns:
        yield from _value_conditions(column, value_filter)
    yield from _status_conditions(group_filter.status, now)
    yield from _assignee_conditions(group_filter.assignee)
    if group_filter.severity_min is not None:
        yield _G.severity.in_(
            [severity.value for severity in Severity if severity.rank >= group_filter.severity_min.rank]
        )
    if group_filter.current is not None:
        yield _G.is_current == group_filter.current
    if group_filter.q:
        yield title_contains(_G.title, group_filter.q)
    if group_filter.since is not None:
        yield _G.last_seen_at >= group_filter.since
    if group_filter.until is not None:
        yield _G.last_seen_at < group_filter.until


def title_contains(title: "Field[str]", text: str) -> Expression:
    """Return SQL for whether ``title`` contains ``text``, ignoring case."""
    found: Expression = title ** ("%" + _LIKE_METACHARACTERS.sub(r"\\\1", text) + "%")
    return found


def _fingerprints_of(issue_ids: ValueFilter) -> ValueFilter:
    """Return the fingerprints of included issues.

    A group that has an issue has the fingerprint ``issue:<id>``, and an index over it: one over ``issue_id`` would cost
    each update of a group.
    """
    return ValueFilter(include=tuple(f"issue:{issue_id}" for issue_id in issue_ids.include))


def _value_conditions(column: "Field[Any]", value_filter: ValueFilter) -> Iterator[Node]:
    if value_filter.include:
        yield column.in_(list(value_filter.include))
    if value_filter.exclude:
        excluded = column.not_in(list(value_filter.exclude))
        yield (column.is_null() | excluded) if column.null else excluded


def _status_conditions(value_filter: ValueFilter, now: datetime) -> Iterator[Node]:
    if value_filter.include:
        yield _has_status(value_filter.include, now)
    if value_filter.exclude:
        yield ~_has_status(value_filter.exclude, now)


def _has_status(statuses: Sequence[str], now: datetime) -> Expression:
    expired = snooze_has_ended(now)
    stored: Expression = _G.status.in_(list(statuses))
    if GroupStatus.OPEN in statuses:
        stored = stored | expired
    elif GroupStatus.SNOOZED in statuses:
        stored = stored & ~expired
    return stored


def snooze_has_ended(now: datetime) -> Expression:
    """Return SQL for whether the stored status is a snooze that has ended."""
    ended: Expression = (
        (_G.status == GroupStatus.SNOOZED.value) & (_G.snoozed_until.is_null(is_null=False)) & (_G.snoozed_until <= now)
    )
    return ended


def _assignee_conditions(value_filter: ValueFilter) -> Iterator[Node]:
    """Yield the conditions on the assignee.

    An unassigned group passes an exclusion.
    """
    unassigned = _G.assignee_user_id.is_null()
    if value_filter.include:
        included = _G.assignee_user_id.in_([name for name in value_filter.include if name != UNASSIGNED])
        yield (included | unassigned) if UNASSIGNED in value_filter.include else included
    if value_filter.exclude:
        not_excluded = _G.assignee_user_id.not_in([name for name in value_filter.exclude if name != UNASSIGNED])
        yield (~unassigned & not_excluded) if UNASSIGNED in value_filter.exclude else (unassigned | not_excluded)
