"""API routes of events."""

from datetime import UTC, datetime
from typing import Final

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from signalcraft.api import auth, context, request_schemas, response_schemas
from signalcraft.api.group_routes import GROUP, find_group
from signalcraft.api.responses import next_cursor, position_after, streamed, tagged
from signalcraft.domain import explanations
from signalcraft.domain.deliveries import MAX_ID
from signalcraft.domain.errors import NotFound
from signalcraft.groups import preview, queries
from signalcraft.groups.queries import Page, Position
from signalcraft.ingest import request as ingest_request
from signalcraft.sources import sentry
from signalcraft.storage.database import session

_EVENT: Final = f"/events/<int(max={MAX_ID}):event_id>"

events = Blueprint("events", __name__, url_prefix="/api/v1")
events.before_request(auth.authenticate)


@events.get(f"{GROUP}/events")
def list_events(group_id: int) -> ResponseReturnValue:
    """Return a page of a group's events."""
    workspace_id = auth.caller().workspace_id
    listing = request_schemas.load_page_query(request.args, scope=f"events of {workspace_id}, {group_id}")
    after = position_after(listing)
    with session():
        find_group(group_id)
        page = queries.events(workspace_id, group_id, limit=listing.limit, after=after)
    return tagged(response_schemas.dump_events(page.rows, next_cursor(page, listing)))


@events.get(f"{GROUP}/events/export")
def export_events(group_id: int) -> ResponseReturnValue:
    """Stream all events of a group as NDJSON, newest first."""
    request_schemas.refuse_parameters(request.args)
    workspace_id = auth.caller().workspace_id
    with session():
        find_group(group_id)

    def page(after: Position | None) -> Page:
        return queries.events(workspace_id, group_id, limit=queries.EXPORT_PAGE, after=after)

    return streamed(page, response_schemas.dump_listed_event)


@events.get(_EVENT)
def show_event(event_id: int) -> ResponseReturnValue:
    """Return an event with its payload."""
    request_schemas.refuse_parameters(request.args)
    with session():
        row = queries.event(auth.caller().workspace_id, event_id)
    if row is None:
        raise NotFound
    return tagged(response_schemas.dump_event(row))


@events.get(f"{_EVENT}/explain")
def explain_event(event_id: int) -> ResponseReturnValue:
    """Explain in sentences why an event is in its group."""
    request_schemas.refuse_parameters(request.args)
    workspace_id = auth.caller().workspace_id
    with session():
        event = queries.event(workspace_id, event_id)
        group = event and queries.group(workspace_id, event["alert_group_id"], now=datetime.now(UTC))
    if not event or not group:
        raise NotFound
    sentences = explanations.explain(event, group, context.current().settings.grouping_policy.window)
    return jsonify(response_schemas.dump_explanation(event, group, sentences))


@events.post("/preview")
def preview_delivery() -> ResponseReturnValue:
    """Preview the outcome of a delivery.

    The request has the delivery's body and Sentry's headers. Its signature is not verified.
    """
    request_schemas.refuse_parameters(request.args)
    max_body_bytes = context.current().settings.max_body_bytes
    found, warnings = preview.preview(
        ingest_request.read(request, kept_headers=sentry.HEADERS, max_body_bytes=max_body_bytes),
        auth.caller().workspace_id,
        policy=context.current().settings.grouping_policy,
        vocabulary=context.current().settings.vocabulary,
    )
    return jsonify(response_schemas.dump_preview(found, warnings))
