"""What the API asks of PostgreSQL: one group, one event, and pages of them.

Everything is asked within one workspace. Pages are cut by key, not by offset, so they stay whole while rows arrive,
and nothing is counted. A snooze past its end reads as open, in filters too; nobody writes that down, so the time is
an argument. Call everything inside ``models.session()``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from peewee import Case, ColumnBase, Expression, Field, ModelSelect, Node, Tuple

from signalcraft.alerts import GroupStatus, Severity
from signalcraft.models import AlertEvent, AlertGroup

Row = dict[str, Any]

#: What an assignee filter calls nobody.
NOBODY: Final = "none"

_G = AlertGroup
_E = AlertEvent
_LIKE_METACHARACTERS = re.compile(r"([\\%_])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which values of a column to keep: one of ``include`` (empty: any), and none of ``exclude``."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFilter:
    """Which groups to list. ``since`` and ``until`` bound ``last_seen_at``: from, and before; ``q`` is in the title."""

    status: Choice = field(default_factory=Choice)
    severity: Choice = field(default_factory=Choice)
    environment: Choice = field(default_factory=Choice)
    project: Choice = field(default_factory=Choice)
    source: Choice = field(default_factory=Choice)
    assignee: Choice = field(default_factory=Choice)
    severity_min: Severity | None = None
    current: bool | None = None
    q: str = ""
    since: datetime | None = None
    until: datetime | None = None


class SortKey(StrEnum):
    """What groups can be sorted by."""

    LAST_SEEN = "last_seen"
    FIRST_SEEN = "first_seen"
    COUNT = "count"
    SEVERITY = "severity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A sort key and its direction; equal ones go by id in the same direction."""

    key: SortKey = SortKey.LAST_SEEN
    descending: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a page ended: the sort key's value and the id of its last row."""

    value: datetime | int
    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows, and where the next page begins; None where there is none."""

    rows: Sequence[Row]
    end: Position | None


_SEVERITY_RANK = Case(_G.severity, [(severity.value, severity.rank) for severity in Severity])
_SORT_NODES: Mapping[SortKey, ColumnBase] = {
    SortKey.LAST_SEEN: _G.last_seen_at,
    SortKey.FIRST_SEEN: _G.first_seen_at,
    SortKey.COUNT: _G.count,
    SortKey.SEVERITY: _SEVERITY_RANK,
}
_GROUP_COLUMNS: Sequence[Node] = (
    *(_G._meta.fields[name] for name in _G._meta.fields if name != "previous_group"),  # noqa: SLF001 - Peewee's public name for it
    _G.previous_group.alias("previous_group_id"),
)
_EVENT_COLUMNS: Sequence[Node] = (
    *(_E._meta.fields[name] for name in _E._meta.fields if name not in ("alert_group", "payload_json")),  # noqa: SLF001 - likewise
    _E.alert_group.alias("alert_group_id"),
)


def group(workspace_id: int, group_id: int, *, now: datetime) -> Row | None:
    """The group, if the workspace has it."""
    query = _G.select(*_GROUP_COLUMNS).where((_G.workspace == workspace_id) & (_G.id == group_id))
    return next((_as_seen(row, now) for row in _rows(query)), None)


def event(workspace_id: int, event_id: int) -> Row | None:
    """The event with its payload, if the workspace has it."""
    query = _E.select(*_EVENT_COLUMNS, _E.payload_json)
    return next(iter(_rows(query.where((_E.workspace == workspace_id) & (_E.id == event_id)))), None)


def groups(
    workspace_id: int,
    wanted: GroupFilter,
    order: Order,
    *,
    limit: int,
    after: Position | None,
    now: datetime,
) -> Page:
    """A page of the workspace's groups, current or not."""
    key = _SORT_NODES[order.key]
    query = _G.select(*_GROUP_COLUMNS, key.alias("sort_value")).where(_G.workspace == workspace_id)
    for condition in _conditions(wanted, now):
        query = query.where(condition)
    if after is not None:
        query = query.where(_beyond((key, _G.id), after, descending=order.descending))
    query = query.order_by(*(node.desc() if order.descending else node.asc() for node in (key, _G.id)))
    page = _cut(_rows(query.limit(limit + 1)), limit)
    return Page(rows=[_as_seen(row, now) for row in page.rows], end=page.end)


def events(workspace_id: int, group_id: int, *, limit: int, after: Position | None) -> Page:
    """A page of a group's events, newest first, without payloads."""
    query = _E.select(*_EVENT_COLUMNS, _E.received_at.alias("sort_value"))
    query = query.where((_E.workspace == workspace_id) & (_E.alert_group == group_id))
    if after is not None:
        query = query.where(_beyond((_E.received_at, _E.id), after, descending=True))
    query = query.order_by(_E.received_at.desc(), _E.id.desc())
    return _cut(_rows(query.limit(limit + 1)), limit)


def _rows(query: "ModelSelect[Any]") -> list[Row]:
    rows: Any = query.dicts()
    return list(rows)


def _cut(rows: list[Row], limit: int) -> Page:
    """A page out of rows of which one more was asked for, to see whether there is a next page."""
    if len(rows) <= limit:
        return Page(rows=rows, end=None)
    last = rows[limit - 1]
    return Page(rows=rows[:limit], end=Position(value=last["sort_value"], id=last["id"]))


def _beyond(nodes: tuple[Node, Node], after: Position, *, descending: bool) -> Expression:
    """Compared as rows, which an index over both columns answers without a sort."""
    here, there = Tuple(*nodes), Tuple(after.value, after.id)
    beyond: Expression = here < there if descending else here > there
    return beyond


def _as_seen(row: Row, now: datetime) -> Row:
    if row["status"] == GroupStatus.SNOOZED and row["snoozed_until"] is not None and row["snoozed_until"] <= now:
        return {**row, "status": GroupStatus.OPEN.value, "snoozed_until": None}
    return row


def _conditions(wanted: GroupFilter, now: datetime) -> Iterator[Node]:
    columns = ((_G.severity, wanted.severity), (_G.environment, wanted.environment), (_G.project, wanted.project))
    for column, choice in (*columns, (_G.source, wanted.source)):
        yield from _chosen(column, choice)
    yield from _chosen_status(wanted.status, now)
    yield from _chosen_assignee(wanted.assignee)
    if wanted.severity_min is not None:
        yield _G.severity.in_([severity.value for severity in Severity if severity.rank >= wanted.severity_min.rank])
    if wanted.current is not None:
        yield _G.is_current == wanted.current
    if wanted.q:
        yield _G.title ** ("%" + _LIKE_METACHARACTERS.sub(r"\\\1", wanted.q) + "%")
    if wanted.since is not None:
        yield _G.last_seen_at >= wanted.since
    if wanted.until is not None:
        yield _G.last_seen_at < wanted.until


def _chosen(column: "Field[str]", choice: Choice) -> Iterator[Node]:
    if choice.include:
        yield column.in_(list(choice.include))
    if choice.exclude:
        yield column.not_in(list(choice.exclude))


def _chosen_status(choice: Choice, now: datetime) -> Iterator[Node]:
    if choice.include:
        yield _has_status(choice.include, now)
    if choice.exclude:
        yield ~_has_status(choice.exclude, now)


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


def _chosen_assignee(choice: Choice) -> Iterator[Node]:
    """Not being one of some people is also said of a group that nobody has."""
    nobody = _G.assignee_user_id.is_null()
    if choice.include:
        among = _G.assignee_user_id.in_([name for name in choice.include if name != NOBODY])
        yield (among | nobody) if NOBODY in choice.include else among
    if choice.exclude:
        outside = _G.assignee_user_id.not_in([name for name in choice.exclude if name != NOBODY])
        yield (~nobody & outside) if NOBODY in choice.exclude else (nobody | outside)
