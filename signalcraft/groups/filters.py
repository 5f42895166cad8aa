"""Filters for lists, exports and bulk updates of groups, and their SQL conditions.

An expired snooze counts as open. The stored status does not change when a snooze expires, so the time is an argument.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from peewee import Expression, Field, Node

from signalcraft.domain.alerts import GroupStatus, Severity
from signalcraft.storage.models import AlertGroup

#: The value of an assignee filter that selects unassigned groups.
UNASSIGNED: Final = "none"

_G = AlertGroup
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
    assignee: ValueFilter = field(default_factory=ValueFilter)
    severity_min: Severity | None = None
    current: bool | None = None
    q: str = ""
    since: datetime | None = None
    until: datetime | None = None


def conditions(group_filter: GroupFilter, now: datetime) -> Iterator[Node]:
    """Yield a filter's SQL conditions on ``alert_group``; all must hold."""
    columns = (
        (_G.severity, group_filter.severity),
        (_G.environment, group_filter.environment),
        (_G.project, group_filter.project),
    )
    for column, value_filter in (*columns, (_G.source, group_filter.source)):
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


def _value_conditions(column: "Field[str]", value_filter: ValueFilter) -> Iterator[Node]:
    if value_filter.include:
        yield column.in_(list(value_filter.include))
    if value_filter.exclude:
        yield column.not_in(list(value_filter.exclude))


def _status_conditions(value_filter: ValueFilter, now: datetime) -> Iterator[Node]:
    if value_filter.include:
        yield _has_status(value_filter.include, now)
    if value_filter.exclude:
        yield ~_has_status(value_filter.exclude, now)


def _has_status(statuses: Sequence[str], now: datetime) -> Expression:
    expired = (
        (_G.status == GroupStatus.SNOOZED.value) & (_G.snoozed_until.is_null(is_null=False)) & (_G.snoozed_until <= now)
    )
    stored: Expression = _G.status.in_(list(statuses))
    if GroupStatus.OPEN in statuses:
        stored = stored | expired
    elif GroupStatus.SNOOZED in statuses:
        stored = stored & ~expired
    return stored


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
