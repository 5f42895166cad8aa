"""Pages of rows by keyset pagination: they stay complete while rows arrive, and nothing is counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from peewee import ColumnBase, Expression, ModelSelect, Node, Select, Tuple

Row = dict[str, Any]
#: The sort key, and the id as the tie-breaker.
Nodes = tuple[ColumnBase, ColumnBase]


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


def fetch(query: "Select | ModelSelect[Any]") -> list[Row]:
    """Return the rows of ``query`` as dictionaries."""
    rows: Any = query.dicts()
    return list(rows)


def cut(rows: list[Row], limit: int) -> Page:
    """Cut ``limit + 1`` rows to a page.

    The extra row shows that there is a next page. Each row has its sort key as ``sort_value``.
    """
    if len(rows) <= limit:
        return Page(rows=rows, end=None)
    last = rows[limit - 1]
    return Page(rows=rows[:limit], end=Position(value=last["sort_value"], id=last["id"]))


def order_by(nodes: Nodes, *, descending: bool) -> list[Node]:
    """Return the order of a list, for its ORDER BY."""
    return [node.desc() if descending else node.asc() for node in nodes]


def starting_after(
    query: "ModelSelect[Any]", nodes: Nodes, position: Position | None, *, descending: bool
) -> "ModelSelect[Any]":
    """Return the part of ``query`` after ``position``; all of it without one.

    An index over both columns serves the row comparison without a sort.
    """
    if position is None:
        return query
    row, bound = Tuple(*nodes), Tuple(position.value, position.id)
    return query.where(row < bound if descending else row > bound)


def up_to(nodes: Nodes, position: Position, *, descending: bool) -> Expression:
    """Return the condition for rows before ``position``, and its own.

    It is a row comparison, as in ``starting_after``, and no negation of that: only that stops an index scan.
    """
    row, bound = Tuple(*nodes), Tuple(position.value, position.id)
    condition: Expression = row >= bound if descending else row <= bound
    return condition


def end_of_scan(query: "ModelSelect[Any]", nodes: Nodes, rows: int, *, descending: bool) -> Position | None:
    """Return the position of the last of the ``rows`` that a page may read.

    ``query`` selects what a page reads, from its beginning. None if no rows follow.
    """
    positions = query.select(nodes[0].alias("sort_value"), nodes[1])
    found = fetch(positions.order_by(*order_by(nodes, descending=descending)).offset(rows - 1).limit(2))
    return Position(value=found[0]["sort_value"], id=found[0]["id"]) if len(found) > 1 else None
