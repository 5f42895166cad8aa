"""API routes of events."""

from datetime import UTC, datetime
from typing import Final

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from signalcraft import sources
from signalcraft.api import auth, context, request_schemas, response_schemas
from signalcraft.api.group_routes import GROUP, find_group
from signalcraft.api.responses import next_cursor, position_after, streamed, tagged
from signalcraft.domain import explanations
from signalcraft.domain.deliveries import MAX_ID
from signalcraft.domain.errors import NotFound
from signalcraft.groups import preview
from signalcraft.groups.reading import event_queries, queries
from signalcraft.groups.reading.pages import Page, Position
from signalcraft.groups.reading.request_fields import is_name
from signalcraft.ingest import request as ingest_request
from signalcraft.storage.database import session

_EVENT: Final = f"/events/<int(max={MAX_ID}):event_id>"

events = Blueprint("events", __name__, url_prefix="/api/v1")
events.before_request(auth.authenticate)


@events.get("/events")
def find_events() -> ResponseReturnValue:
    """Return a page of the workspace's events."""
    workspace_id = auth.caller().workspace_id
    listing = request_schemas.load_events_query(request.args, workspace_id=workspace_id)
    after = position_after(listing)
    with session():
        page = event_queries.events(workspace_id, listing.event_filter, limit=listing.limit, after=after)
    return tagged(response_schemas.dump_events(page.rows, next_cursor(page, listing)))


@events.get(f"{GROUP}/events")
def list_events(group_id: int) -> ResponseReturnValue:
    """Return a page of a group's events."""
    workspace_id = auth.caller().workspace_id
    listing = request_schemas.load_page_query(request.args, scope=f"events of {workspace_id}, {group_id}")
    after = position_after(listing)
    with session():
        find_group(group_id)
        page = event_queries.events_of_group(workspace_id, group_id, limit=listing.limit, after=after)
    return tagged(response_schemas.dump_events(page.rows, next_cursor(page, listing)))


@events.get(f"{GROUP}/events/export")
def export_events(group_id: int) -> ResponseReturnValue:
    """Stream all events of a group as NDJSON, newest first."""
    request_schemas.refuse_parameters(request.args)
    workspace_id = auth.caller().workspace_id
    with session():
        find_group(group_id)

    def page(after: Position | None) -> Page:
        return event_queries.events_of_group(workspace_id, group_id, limit=queries.EXPORT_PAGE, after=after)

    return streamed(page, response_schemas.dump_listed_event)


@events.get(_EVENT)
def show_event(event_id: int) -> ResponseReturnValue:
    """Return an event with its payload."""
    request_schemas.refuse_parameters(request.args)
    with session():
        row = event_queries.event(auth.caller().workspace_id, event_id)
    if row is None:
        raise NotFound
    return tagged(response_schemas.dump_event(row))


@events.get("/events/<event>/explain")
def explain_event(event: str) -> ResponseReturnValue:
    """Explain in sentences why an event is in its group.

    ``event`` is an id of ours, the source's event id, or a delivery id.
    """
    request_schemas.refuse_parameters(request.args)
    workspace_id = auth.caller().workspace_id
    with session():
        found = event_queries.find_event(workspace_id, event) if is_name(event) else None
        group = found and queries.group(workspace_id, found["alert_group_id"], now=datetime.now(UTC))
    if not found or not group:
        raise NotFound
    window = context.current().settings.grouping_policy.window
    sentences = explanations.explain(found, group, window, sources.fingerprints(found["source"]))
    return jsonify(response_schemas.dump_explanation(found, group, sentences))


@events.post("/preview")
def preview_delivery() -> ResponseReturnValue:
    """Preview the outcome of a delivery.

    The request has the delivery's body and headers. Its signature is not verified.
    """
    source = request_schemas.read_source(request.args)
    max_body_bytes = context.current().settings.max_body_bytes
    found, warnings = preview.preview(
        ingest_request.read(request, kept_headers=source.HEADERS, max_body_bytes=max_body_bytes),
        source,
        auth.caller().workspace_id,
        policy=context.current().settings.grouping_policy,
        vocabulary=context.current().settings.vocabulary,
    )
    return jsonify(response_schemas.dump_preview(found, warnings))
