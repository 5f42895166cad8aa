"""The routes of the API that read: each asks one question and renders the answer. They decide nothing."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Final

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue

from signalcraft import gate, inputs, schemas, versions
from signalcraft.domain import explanations
from signalcraft.domain.errors import NotFound
from signalcraft.groups import hourly_counts, preview, queries
from signalcraft.groups.queries import Page, Position
from signalcraft.ingest import request as ingest_request
from signalcraft.inputs import Listing
from signalcraft.parts import parts
from signalcraft.sources import sentry
from signalcraft.storage.database import session

Fetch = Callable[[Position | None], Page]
Dump = Callable[[schemas.Row], schemas.Json]

NDJSON: Final = "application/x-ndjson"
LARGEST_ID: Final = 2**63 - 1
_GROUP: Final = f"/groups/<int(max={LARGEST_ID}):group_id>"
_EVENT: Final = f"/events/<int(max={LARGEST_ID}):event_id>"

reading = Blueprint("reading", __name__, url_prefix="/api/v1")
reading.before_request(gate.authenticate)


@reading.get("/groups")
def list_groups() -> ResponseReturnValue:
    """A page of groups."""
    workspace_id = gate.caller().workspace_id
    listing = inputs.load_groups_query(request.args, workspace_id=workspace_id)
    after = _after(listing)
    now = datetime.now(UTC)
    with session():
        page = queries.groups(workspace_id, listing.wanted, listing.order, limit=listing.limit, after=after, now=now)
        estimate = queries.estimate(workspace_id, listing.wanted, now=now) if listing.total else None
    return _tagged(schemas.dump_groups(page.rows, _next_cursor(page, listing), estimate))


@reading.get(_GROUP)
def show_group(group_id: int) -> ResponseReturnValue:
    """A group."""
    inputs.refuse_parameters(request.args)
    with session():
        row = _group(group_id)
    return _tagged(schemas.dump_group(row), row["version"])


@reading.get(f"{_GROUP}/events")
def list_events(group_id: int) -> ResponseReturnValue:
    """A page of a group's events."""
    workspace_id = gate.caller().workspace_id
    listing = inputs.load_page_query(request.args, scope=f"events of {workspace_id}, {group_id}")
    after = _after(listing)
    with session():
        _group(group_id)
        page = queries.events(workspace_id, group_id, limit=listing.limit, after=after)
    return _tagged(schemas.dump_events(page.rows, _next_cursor(page, listing)))


@reading.get(f"{_GROUP}/history")
def list_history(group_id: int) -> ResponseReturnValue:
    """A page of what was changed of a group, and by whom."""
    workspace_id = gate.caller().workspace_id
    listing = inputs.load_page_query(request.args, scope=f"history of {workspace_id}, {group_id}")
    after = _after(listing)
    with session():
        _group(group_id)
        page = queries.changes(workspace_id, group_id, limit=listing.limit, after=after)
    return _tagged(schemas.dump_history(page.rows, _next_cursor(page, listing)))


@reading.get("/groups/export")
def export_groups() -> ResponseReturnValue:
    """All groups that the filters mean, a line of JSON each, oldest first."""
    workspace_id, wanted = gate.caller().workspace_id, inputs.load_filter_query(request.args)

    def page(after: Position | None) -> Page:
        return queries.groups_by_id(workspace_id, wanted, after=after, now=datetime.now(UTC))

    return _streamed(page, schemas.dump_group)


@reading.get(f"{_GROUP}/events/export")
def export_events(group_id: int) -> ResponseReturnValue:
    """All events of a group, a line of JSON each, newest first."""
    inputs.refuse_parameters(request.args)
    workspace_id = gate.caller().workspace_id
    with session():
        _group(group_id)

    def page(after: Position | None) -> Page:
        return queries.events(workspace_id, group_id, limit=queries.EXPORT_PAGE, after=after)

    return _streamed(page, schemas.dump_listed_event)


@reading.get(_EVENT)
def show_event(event_id: int) -> ResponseReturnValue:
    """An event with what was sent."""
    inputs.refuse_parameters(request.args)
    with session():
        row = queries.event(gate.caller().workspace_id, event_id)
    if row is None:
        raise NotFound
    return _tagged(schemas.dump_event(row))


@reading.get(f"{_EVENT}/explain")
def explain_event(event_id: int) -> ResponseReturnValue:
    """Why an event is where it is, in words."""
    inputs.refuse_parameters(request.args)
    workspace_id = gate.caller().workspace_id
    with session():
        event = queries.event(workspace_id, event_id)
        group = event and queries.group(workspace_id, event["alert_group_id"], now=datetime.now(UTC))
    if not event or not group:
        raise NotFound
    sentences = explanations.explain(event, group, parts().policy.window)
    return jsonify(schemas.dump_explanation(event, group, sentences))


@reading.get("/stats")
def show_stats() -> ResponseReturnValue:
    """What came in during a period, and what became of it."""
    period = inputs.load_stats_query(request.args, now=datetime.now(UTC))
    with session():
        found = hourly_counts.of(gate.caller().workspace_id, period)
    return _tagged(schemas.dump_stats(found))


@reading.post("/preview")
def preview_delivery() -> ResponseReturnValue:
    """Where a delivery (body and Sentry's headers) would land, were it sent now. Its signature is not looked at."""
    inputs.refuse_parameters(request.args)
    max_body_bytes = parts().settings.max_body_bytes
    found, warnings = preview.preview(
        ingest_request.read(request, kept_headers=sentry.HEADERS, max_body_bytes=max_body_bytes),
        gate.caller().workspace_id,
        policy=parts().policy,
        vocabulary=parts().vocabulary,
    )
    return jsonify(schemas.dump_preview(found, warnings))


def _group(group_id: int) -> schemas.Row:
    row = queries.group(gate.caller().workspace_id, group_id, now=datetime.now(UTC))
    if row is None:
        raise NotFound
    return row


def _after(listing: Listing) -> Position | None:
    return parts().cursors.read(listing.cursor, scope=listing.scope) if listing.cursor is not None else None


def _next_cursor(page: Page, listing: Listing) -> str | None:
    return parts().cursors.write(page.end, scope=listing.scope) if page.end else None


def _tagged(answer: schemas.Json, version: int | None = None) -> Response:
    """The answer with its ETag; 304 to a poller that has it. ``If-Match`` is for changes, and means nothing here."""
    response = jsonify(answer)
    response.set_etag(versions.tag(response.get_data(), version))
    response.make_conditional({name: value for name, value in request.environ.items() if name != "HTTP_IF_MATCH"})
    response.headers["Cache-Control"] = "private, no-cache"  # kept, and asked about each time
    return response


def _streamed(fetch: Fetch, dump: Dump) -> Response:
    """A line for each row, page by page. The first page is there before the answer begins, so that it can be a 503."""
    with session():
        first = fetch(None)
    pages = chain([first], _following(fetch, first.end))
    lines = ("".join(f"{json.dumps(dump(row))}\n" for row in page.rows) for page in pages)
    return Response(lines, mimetype=NDJSON)


def _following(fetch: Fetch, after: Position | None) -> Iterator[Page]:
    while after is not None:
        with session():
            page = fetch(after)
        yield page
        after = page.end
