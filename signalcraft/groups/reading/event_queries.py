"""Queries of events: one event, and pages of them, always within one workspace.

Call everything inside ``database.session()``.
"""

from collections.abc import Sequence
from typing import Any, Final

from peewee import Expression, ModelSelect, Node, fn

from signalcraft.domain.deliveries import MAX_ID
from signalcraft.groups.reading import pages
from signalcraft.groups.reading.filters import EventFilter, event_conditions, from_delivery, with_source_event_id
from signalcraft.groups.reading.pages import Page, Position, Row
from signalcraft.groups.reading.queries import group_in_workspace
from signalcraft.storage.models import AlertEvent

#: Events whose tags and rules one page of a list reads, so that its time is bounded.
MAX_EVENTS: Final = 5_000

_E = AlertEvent
_NODES = (_E.received_at, _E.id)
_COLUMNS: Sequence[Node] = (
    *(_E._meta.fields[name] for name in _E._meta.fields if name not in ("alert_group", "payload_json")),  # noqa: SLF001 - Peewee's public name for it
    _E.alert_group.alias("alert_group_id"),
)


def event(workspace_id: int, event_id: int) -> Row | None:
    """Return the event and its payload.

    None if it is not in the workspace.
    """
    query = _E.select(*_COLUMNS, _E.payload_json)
    return next(iter(pages.fetch(query.where((_E.workspace == workspace_id) & (_E.id == event_id)))), None)


def find_event(workspace_id: int, name: str) -> Row | None:
    """Return the event that ``name`` means, and its payload.

    ``name`` is an id of ours, the source's event id or a delivery id; of several events, the one received last is
    returned. None if there is none in the workspace.
    """
    if name.isascii() and name.isdecimal() and int(name) <= MAX_ID:
        found = event(workspace_id, int(name))
        if found is not None:
            return found
    query = _E.select(*_COLUMNS, _E.payload_json)
    query = query.where(_is_one_of(workspace_id, with_source_event_id([name]) | from_delivery([name])))
    return next(iter(pages.fetch(query.order_by(*pages.order_by(_NODES, descending=True)).limit(1))), None)


def events(workspace_id: int, event_filter: EventFilter, *, limit: int, after: Position | None) -> Page:
    """Return a page of the workspace's events, newest first.

    Payloads are not included. A page of a filter by tag or rule reads ``MAX_EVENTS`` events: it may be short or empty,
    and still have a next one.
    """
    query = _E.select().where(_E.workspace == workspace_id, *event_conditions(event_filter))
    scanned_to: Position | None = None
    if event_filter.names_events:
        query = _E.select().where(_is_one_of(workspace_id, *event_conditions(event_filter)))
    elif event_filter.reads_events:
        scanned = _E.select().where(_E.workspace == workspace_id, *event_filter.period)
        scanned_to = pages.end_of_scan(_from(scanned, after), _NODES, MAX_EVENTS, descending=True)
    if scanned_to is not None:
        query = query.where(pages.up_to(_NODES, scanned_to, descending=True))
    page = _newest_first(_from(query, after), limit)
    return Page(rows=page.rows, end=page.end or scanned_to)


def events_of_group(workspace_id: int, group_id: int, *, limit: int, after: Position | None) -> Page:
    """Return a page of a group's events, newest first.

    Payloads are not included.
    """
    query = _E.select().where(_E.alert_group == group_in_workspace(workspace_id, group_id))
    return _newest_first(_from(query, after), limit)


def _is_one_of(workspace_id: int, *conditions: Node) -> Expression:
    """Return the condition for the events that ``conditions`` find.

    PostgreSQL finds them first, by the indexes of the conditions. In one query with the order of a list, it may walk
    that instead, past every event of the workspace.
    """
    found = _E.select(_E.id).where(_E.workspace == workspace_id, *conditions)
    condition: Expression = _E.id == fn.ANY(fn.ARRAY(found))
    return condition


def _from(query: "ModelSelect[Any]", after: Position | None) -> "ModelSelect[Any]":
    return pages.starting_after(query, _NODES, after, descending=True)


def _newest_first(query: "ModelSelect[Any]", limit: int) -> Page:
    query = query.select(*_COLUMNS, _E.received_at.alias("sort_value"))
    return pages.cut(pages.fetch(query.order_by(*pages.order_by(_NODES, descending=True)).limit(limit + 1)), limit)
