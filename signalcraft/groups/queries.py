"""Queries of the API: one group, one event, and pages of them, always within one workspace.

Pages use keyset pagination, not offsets, so they stay complete while rows arrive, and nothing is counted. An expired
snooze counts as open, in filters too. The stored status does not change when a snooze expires, so the time is an
argument. Call everything inside ``database.session()``.
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

#: Titles that one page of a search reads, so that its time is bounded.
MAX_TITLES: Final = 10_000

#: Rows of an export in memory at a time.
EXPORT_PAGE: Final = 500

_G = AlertGroup
_E = AlertEvent
_C = GroupChange


class SortKey(StrEnum):
    """Sort keys of groups."""

    LAST_SEEN = "last_seen"
    FIRST_SEEN = "first_seen"
    COUNT = "count"
    SEVERITY = "severity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A sort key and its direction; ties are sorted by id in the same direction."""

    key: SortKey = SortKey.LAST_SEEN
    descending: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a page ended: the sort key's value and the id of its last row."""

    value: datetime | int
    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows, and the position where the next page begins, None on the last page."""

    rows: Sequence[Row]
    end: Position | None


#: With literals, not parameters: otherwise PostgreSQL does not match the expression to its index.
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
    """Return the group, None if not in the workspace."""
    query = _G.select(*_GROUP_COLUMNS).where((_G.workspace == workspace_id) & (_G.id == group_id))
    return next((_effective_status(row, now) for row in _rows(query)), None)


def event(workspace_id: int, event_id: int) -> Row | None:
    """Return the event and its payload.

    None if it is not in the workspace.
    """
    query = _E.select(*_EVENT_COLUMNS, _E.payload_json)
    return next(iter(_rows(query.where((_E.workspace == workspace_id) & (_E.id == event_id)))), None)


def groups(
    workspace_id: int,
    group_filter: GroupFilter,
    order: Order,
    *,
    limit: int,
    after: Position | None,
    now: datetime,
) -> Page:
    """Return a page of the workspace's groups, current or not.

    A search by title, sorted by ``last_seen``, reads ``MAX_TITLES`` titles per page: a page may be short or empty, and
    still have a next one.
    """
    key = _SORT_NODES[order.key]
    query = _G.select(*_GROUP_COLUMNS, key.alias("sort_value")).where(_G.workspace == workspace_id)
    titles_end: Position | None = None
    if group_filter.q and order.key is SortKey.LAST_SEEN:
        titles_end = _end_of_titles(workspace_id, order, after)
        found = _groups_with_title(workspace_id, group_filter.q, order, after, titles_end)
        group_filter = replace(group_filter, q="")
        found = found.alias("found") if any(conditions(group_filter, now)) else found.limit(limit + 1).alias("found")
        query, key = query.join(found, on=(found.c.id == _G.id)), found.c.last_seen_at
    elif after is not None:
        query = query.where(_after((key, _G.id), after, descending=order.descending))
    for condition in conditions(group_filter, now):
        query = query.where(condition)
    page = _page(_rows(query.order_by(*_order_by((key, _G.id), order)).limit(limit + 1)), limit)
    return Page(rows=[_effective_status(row, now) for row in page.rows], end=page.end or titles_end)


def _groups_with_title(
    workspace_id: int, text: str, order: Order, after: Position | None, until: Position | None
) -> "ModelSelect[Any]":
    """Select ids and times of groups whose titles contain ``text``.

    ``after`` (exclusive) and ``until`` (inclusive) bound the range. The listing index includes the titles, so this is
    an index-only scan: 10,000 titles take 5 ms; reading as many groups took 30 ms.
    """
    titled = _G.alias("titled")
    nodes = (titled.last_seen_at, titled.id)
    found = titled.select(*nodes).where((titled.workspace == workspace_id) & title_contains(titled.title, text))
    if after is not None:
        found = found.where(_after(nodes, after, descending=order.descending))
    if until is not None:  # a row comparison, not a negation of _after: only that stops an index scan
        row, bound = Tuple(*nodes), Tuple(until.value, until.id)
        found = found.where(row >= bound if order.descending else row <= bound)
    return found.order_by(*_order_by(nodes, order))


def _end_of_titles(workspace_id: int, order: Order, after: Position | None) -> Position | None:
    """Return the position of the last title a page reads.

    None if no titles follow.
    """
    nodes = (_G.last_seen_at, _G.id)
    query = _G.select(*nodes).where(_G.workspace == workspace_id)
    if after is not None:
        query = query.where(_after(nodes, after, descending=order.descending))
    found = _rows(query.order_by(*_order_by(nodes, order)).offset(MAX_TITLES - 1).limit(2))
    return Position(value=found[0]["last_seen_at"], id=found[0]["id"]) if len(found) > 1 else None


def _order_by(nodes: tuple[ColumnBase, ...], order: Order) -> list[Node]:
    return [node.desc() if order.descending else node.asc() for node in nodes]


def estimate(workspace_id: int, group_filter: GroupFilter, *, now: datetime) -> int:
    """Return the planner's estimate of the number of groups."""
    query = _G.select(_G.id).where(_G.workspace == workspace_id)
    for condition in conditions(group_filter, now):
        query = query.where(condition)
    sql, parameters = query.sql()
    ((plans,),) = database.execute_sql(f"EXPLAIN (FORMAT JSON) {sql}", parameters).fetchall()
    return int(plans[0]["Plan"]["Plan Rows"])


def newest(workspace_id: int, group_filter: GroupFilter, *, limit: int, after: Position | None, now: datetime) -> Page:
    """Return a page of ids, last seen groups first."""
    nodes = (_G.last_seen_at, _G.id)
    query = _G.select(_G.id, _G.last_seen_at.alias("sort_value"))
    query = query.where(_G.workspace == workspace_id, *conditions(group_filter, now))
    if after is not None:
        query = query.where(_after(nodes, after, descending=True))
    return _page(_rows(query.order_by(*_order_by(nodes, Order())).limit(limit + 1)), limit)


def groups_by_id(workspace_id: int, group_filter: GroupFilter, *, after: Position | None, now: datetime) -> Page:
    """Return a page of an export, by id.

    In this order no group changes its position during an export.
    """
    query = _G.select(*_GROUP_COLUMNS, _G.id.alias("sort_value")).where(_G.workspace == workspace_id)
    for condition in conditions(group_filter, now):
        query = query.where(condition)
    if after is not None:
        query = query.where(_G.id > after.id)
    page = _page(_rows(query.order_by(_G.id).limit(EXPORT_PAGE + 1)), EXPORT_PAGE)
    return Page(rows=[_effective_status(row, now) for row in page.rows], end=page.end)


def events(workspace_id: int, group_id: int, *, limit: int, after: Position | None) -> Page:
    """Return a page of a group's events, newest first.

    Payloads are not included.
    """
    query = _E.select(*_EVENT_COLUMNS, _E.received_at.alias("sort_value"))
    query = query.where(_E.alert_group == _group_in_workspace(workspace_id, group_id))
    if after is not None:
        query = query.where(_after((_E.received_at, _E.id), after, descending=True))
    query = query.order_by(_E.received_at.desc(), _E.id.desc())
    return _page(_rows(query.limit(limit + 1)), limit)


def history(workspace_id: int, group_id: int, *, limit: int, after: Position | None) -> Page:
    """Return a page of a group's audit log, newest first.

    There is one row per changed field.
    """
    query = _C.select(*_CHANGE_COLUMNS, _C.id.alias("sort_value"))
    query = query.where(_C.alert_group == _group_in_workspace(workspace_id, group_id))
    if after is not None:
        query = query.where(_C.id < after.id)
    return _page(_rows(query.order_by(_C.id.desc()).limit(limit + 1)), limit)


def _group_in_workspace(workspace_id: int, group_id: int) -> "ModelSelect[Any]":
    """Select the id of a group in the workspace.

    The workspace is compared here and not in the rows: with that condition PostgreSQL read and sorted all rows of a
    large group, although the group's index has them in order.
    """
    return _G.select(_G.id).where((_G.workspace == workspace_id) & (_G.id == group_id))


def _rows(query: "ModelSelect[Any]") -> list[Row]:
    rows: Any = query.dicts()
    return list(rows)


def _page(rows: list[Row], limit: int) -> Page:
    """Cut ``limit + 1`` rows to a page.

    The extra row shows that there is a next page.
    """
    if len(rows) <= limit:
        return Page(rows=rows, end=None)
    last = rows[limit - 1]
    return Page(rows=rows[:limit], end=Position(value=last["sort_value"], id=last["id"]))


def _after(nodes: tuple[Node, Node], after: Position, *, descending: bool) -> Expression:
    """Return a row comparison.

    An index over both columns serves it without a sort.
    """
    row, bound = Tuple(*nodes), Tuple(after.value, after.id)
    condition: Expression = row < bound if descending else row > bound
    return condition


def _effective_status(row: Row, now: datetime) -> Row:
    if row["status"] == GroupStatus.SNOOZED and row["snoozed_until"] is not None and row["snoozed_until"] <= now:
        return {**row, "status": GroupStatus.OPEN.value, "snoozed_until": None}
    return row
