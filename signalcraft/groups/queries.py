"""What the API asks of PostgreSQL: one group, one event, and pages of them.

Everything is asked within one workspace. Pages are cut by key, not by offset, so they stay whole while rows arrive,
and nothing is counted. A snooze past its end reads as open, in filters too; nobody writes that down, so the time is
an argument. Call everything inside ``models.session()``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from peewee import SQL, Case, ColumnBase, Expression, ModelSelect, Node, Tuple

from signalcraft.domain.alerts import GroupStatus, Severity
from signalcraft.groups.filters import GroupFilter, conditions, title_contains
from signalcraft.storage.database import database
from signalcraft.storage.models import AlertEvent, AlertGroup, GroupChange

Row = dict[str, Any]

#: Titles that are looked at for one page of a search, so that it takes as long whatever there is.
MAX_TITLES: Final = 10_000

#: Rows that an export holds in memory at once.
EXPORT_PAGE: Final = 500

_G = AlertGroup
_E = AlertEvent
_C = GroupChange


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


#: Written out: only so does PostgreSQL know the expression of its index.
_SEVERITY_RANK = Case(_G.severity, [(SQL(f"'{severity.value}'"), SQL(str(severity.rank))) for severity in Severity])
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
_CHANGE_COLUMNS: Sequence[Node] = (
    _C.id,
    _C.changed_at,
    _C.actor,
    _C.changed_by,
    _C.field,
    _C.from_value,
    _C.to_value,
)


def group(workspace_id: int, group_id: int, *, now: datetime) -> Row | None:
    """The group, if the workspace has it."""
    query = _G.select(*_GROUP_COLUMNS).where((_G.workspace == workspace_id) & (_G.id == group_id))
    return next((_effective_status(row, now) for row in _rows(query)), None)


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
    """A page of the workspace's groups, current or not.

    With words to look for, in the order of when groups were last seen, a page is what ``MOST_TITLES`` titles have: it
    may be short, or empty, and there is a next one all the same.
    """
    key = _SORT_NODES[order.key]
    query = _G.select(*_GROUP_COLUMNS, key.alias("sort_value")).where(_G.workspace == workspace_id)
    titles_end: Position | None = None
    if wanted.q and order.key is SortKey.LAST_SEEN:
        titles_end = _end_of_titles(workspace_id, order, after)
        found = _named(workspace_id, wanted.q, order, after, titles_end)
        wanted = replace(wanted, q="")
        found = found.alias("found") if any(conditions(wanted, now)) else found.limit(limit + 1).alias("found")
        query, key = query.join(found, on=(found.c.id == _G.id)), found.c.last_seen_at
    elif after is not None:
        query = query.where(_after((key, _G.id), after, descending=order.descending))
    for condition in conditions(wanted, now):
        query = query.where(condition)
    page = _page(_rows(query.order_by(*_sorted((key, _G.id), order)).limit(limit + 1)), limit)
    return Page(rows=[_effective_status(row, now) for row in page.rows], end=page.end or titles_end)


def _named(
    workspace_id: int, words: str, order: Order, after: Position | None, until: Position | None
) -> "ModelSelect[Any]":
    """Ids and times of the groups with ``words`` in their title, in order, beyond ``after`` and up to ``until``.

    The index of the listing holds the titles, and no group need be read: 10,000 of them take 5 ms, where reading as
    many groups for their titles took 30.
    """
    titled = _G.alias("titled")
    nodes = (titled.last_seen_at, titled.id)
    found = titled.select(*nodes).where((titled.workspace == workspace_id) & title_contains(titled.title, words))
    if after is not None:
        found = found.where(_after(nodes, after, descending=order.descending))
    if until is not None:  # not as what is not beyond it: only a comparison is a place to stop in an index
        here, there = Tuple(*nodes), Tuple(until.value, until.id)
        found = found.where(here >= there if order.descending else here <= there)
    return found.order_by(*_sorted(nodes, order))


def _end_of_titles(workspace_id: int, order: Order, after: Position | None) -> Position | None:
    """Where the titles end that one page looks at; None where there are no more."""
    nodes = (_G.last_seen_at, _G.id)
    query = _G.select(*nodes).where(_G.workspace == workspace_id)
    if after is not None:
        query = query.where(_after(nodes, after, descending=order.descending))
    found = _rows(query.order_by(*_sorted(nodes, order)).offset(MAX_TITLES - 1).limit(2))
    return Position(value=found[0]["last_seen_at"], id=found[0]["id"]) if len(found) > 1 else None


def _sorted(nodes: tuple[ColumnBase, ...], order: Order) -> list[Node]:
    return [node.desc() if order.descending else node.asc() for node in nodes]


def estimate(workspace_id: int, wanted: GroupFilter, *, now: datetime) -> int:
    """About how many groups there are, as PostgreSQL's planner thinks: nothing is counted."""
    query = _G.select(_G.id).where(_G.workspace == workspace_id)
    for condition in conditions(wanted, now):
        query = query.where(condition)
    sql, parameters = query.sql()
    ((plans,),) = database.execute_sql(f"EXPLAIN (FORMAT JSON) {sql}", parameters).fetchall()
    return int(plans[0]["Plan"]["Plan Rows"])


def newest(workspace_id: int, wanted: GroupFilter, *, limit: int, after: Position | None, now: datetime) -> Page:
    """The ids alone of the groups that were seen last, a page of any size."""
    nodes = (_G.last_seen_at, _G.id)
    query = _G.select(_G.id, _G.last_seen_at.alias("sort_value"))
    query = query.where(_G.workspace == workspace_id, *conditions(wanted, now))
    if after is not None:
        query = query.where(_after(nodes, after, descending=True))
    return _page(_rows(query.order_by(*_sorted(nodes, Order())).limit(limit + 1)), limit)


def groups_by_id(workspace_id: int, wanted: GroupFilter, *, after: Position | None, now: datetime) -> Page:
    """A page of an export: the one order in which no group moves while it lasts."""
    query = _G.select(*_GROUP_COLUMNS, _G.id.alias("sort_value")).where(_G.workspace == workspace_id)
    for condition in conditions(wanted, now):
        query = query.where(condition)
    if after is not None:
        query = query.where(_G.id > after.id)
    page = _page(_rows(query.order_by(_G.id).limit(EXPORT_PAGE + 1)), EXPORT_PAGE)
    return Page(rows=[_effective_status(row, now) for row in page.rows], end=page.end)


def events(workspace_id: int, group_id: int, *, limit: int, after: Position | None) -> Page:
    """A page of a group's events, newest first, without payloads."""
    query = _E.select(*_EVENT_COLUMNS, _E.received_at.alias("sort_value"))
    query = query.where(_E.alert_group == _own_group(workspace_id, group_id))
    if after is not None:
        query = query.where(_after((_E.received_at, _E.id), after, descending=True))
    query = query.order_by(_E.received_at.desc(), _E.id.desc())
    return _page(_rows(query.limit(limit + 1)), limit)


def history(workspace_id: int, group_id: int, *, limit: int, after: Position | None) -> Page:
    """A page of what was changed of a group, newest first: a row for each field."""
    query = _C.select(*_CHANGE_COLUMNS, _C.id.alias("sort_value"))
    query = query.where(_C.alert_group == _own_group(workspace_id, group_id))
    if after is not None:
        query = query.where(_C.id < after.id)
    return _page(_rows(query.order_by(_C.id.desc()).limit(limit + 1)), limit)


def _own_group(workspace_id: int, group_id: int) -> "ModelSelect[Any]":
    """The id of the group, if the workspace has it.

    The workspace is asked for here and not in the rows: with it PostgreSQL read all rows of a large group, and sorted
    them, where the index of the group has them in order.
    """
    return _G.select(_G.id).where((_G.workspace == workspace_id) & (_G.id == group_id))


def _rows(query: "ModelSelect[Any]") -> list[Row]:
    rows: Any = query.dicts()
    return list(rows)


def _page(rows: list[Row], limit: int) -> Page:
    """A page out of rows of which one more was asked for, to see whether there is a next page."""
    if len(rows) <= limit:
        return Page(rows=rows, end=None)
    last = rows[limit - 1]
    return Page(rows=rows[:limit], end=Position(value=last["sort_value"], id=last["id"]))


def _after(nodes: tuple[Node, Node], after: Position, *, descending: bool) -> Expression:
    """Compared as rows, which an index over both columns answers without a sort."""
    here, there = Tuple(*nodes), Tuple(after.value, after.id)
    beyond: Expression = here < there if descending else here > there
    return beyond


def _effective_status(row: Row, now: datetime) -> Row:
    if row["status"] == GroupStatus.SNOOZED and row["snoozed_until"] is not None and row["snoozed_until"] <= now:
        return {**row, "status": GroupStatus.OPEN.value, "snoozed_until": None}
    return row
