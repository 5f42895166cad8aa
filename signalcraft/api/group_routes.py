"""API routes of groups: list, show, history, export, update. A token needs the write scope to update."""

from datetime import UTC, datetime
from typing import Any, Final

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from signalcraft.api import auth, context, request_schemas, response_schemas, responses
from signalcraft.api.responses import next_cursor, position_after, streamed, tagged
from signalcraft.domain import bounded_json
from signalcraft.domain.alerts import Vocabulary
from signalcraft.domain.deliveries import MAX_ID
from signalcraft.domain.errors import NotFound
from signalcraft.groups import user_updates
from signalcraft.groups.reading import group_schema, occurrences, queries, requests, summary
from signalcraft.groups.reading.pages import Page, Position
from signalcraft.groups.user_updates import GroupUpdate
from signalcraft.ingest import request as ingest_request
from signalcraft.storage.database import session

GROUP: Final = f"/groups/<int(max={MAX_ID}):group_id>"

groups = Blueprint("groups", __name__, url_prefix="/api/v1")
groups.before_request(auth.authenticate)


@groups.get("/groups")
def list_groups() -> ResponseReturnValue:
    """Return a page of groups."""
    workspace_id = auth.caller().workspace_id
    listing = requests.load_groups_query(request.args, workspace_id=workspace_id, vocabulary=_vocabulary())
    after = position_after(listing)
    now = datetime.now(UTC)
    with session():
        page = queries.groups(
            workspace_id, listing.group_filter, listing.order, limit=listing.limit, after=after, now=now
        )
        estimate = queries.estimate(workspace_id, listing.group_filter, now=now) if listing.total else None
    return tagged(response_schemas.dump_groups(page.rows, next_cursor(page, listing), estimate))


@groups.get("/groups/summary")
def summarize_groups() -> ResponseReturnValue:
    """Return how many groups match, by status and other facets."""
    group_filter = requests.load_filter_query(request.args, _vocabulary())
    with session():
        found = summary.summarize(auth.caller().workspace_id, group_filter, now=datetime.now(UTC))
    return tagged(response_schemas.dump_summary(found))


@groups.get(GROUP)
def show_group(group_id: int) -> ResponseReturnValue:
    """Return a group."""
    request_schemas.refuse_parameters(request.args)
    with session():
        row = find_group(group_id)
    return tagged(group_schema.dump_group(row), row["version"])


@groups.get(f"{GROUP}/history")
def list_history(group_id: int) -> ResponseReturnValue:
    """Return a page of a group's history."""
    workspace_id = auth.caller().workspace_id
    listing = request_schemas.load_page_query(request.args, scope=f"history of {workspace_id}, {group_id}")
    after = position_after(listing)
    with session():
        find_group(group_id)
        page = queries.history(workspace_id, group_id, limit=listing.limit, after=after)
    return tagged(response_schemas.dump_history(page.rows, next_cursor(page, listing)))


@groups.get(f"{GROUP}/occurrences")
def list_occurrences(group_id: int) -> ResponseReturnValue:
    """Return a page of the groups of the same key, and how often the problem was seen."""
    workspace_id, now = auth.caller().workspace_id, datetime.now(UTC)
    listing = request_schemas.load_page_query(request.args, scope=f"occurrences of {workspace_id}, {group_id}")
    after = position_after(listing)
    with session():
        find_group(group_id)
        page = occurrences.occurrences(workspace_id, group_id, limit=listing.limit, after=after, now=now)
        seen = occurrences.seen(workspace_id, group_id, now=now)
    return tagged(response_schemas.dump_occurrences(seen, page.rows, next_cursor(page, listing)))


@groups.get("/groups/export")
def export_groups() -> ResponseReturnValue:
    """Stream groups that match as NDJSON, oldest first.

    All groups that match the filters are included.
    """
    workspace_id, group_filter = auth.caller().workspace_id, requests.load_filter_query(request.args, _vocabulary())

    def page(after: Position | None) -> Page:
        return queries.groups_by_id(workspace_id, group_filter, after=after, now=datetime.now(UTC))

    return streamed(page, group_schema.dump_group)


def find_group(group_id: int) -> group_schema.Row:
    """Return the row of a group in the caller's workspace.

    Raises:
        NotFound: the workspace has no such group.
    """
    row = queries.group(auth.caller().workspace_id, group_id, now=datetime.now(UTC))
    if row is None:
        raise NotFound
    return row


@groups.patch(GROUP)
def change_group(group_id: int) -> ResponseReturnValue:
    """Update a group and return it.

    With If-Match, update only that version.
    """
    caller, now = auth.require_write_scope(), datetime.now(UTC)
    request_schemas.refuse_parameters(request.args)
    update = GroupUpdate(fields=requests.load_update(_body(), now=now), by=caller.token, at=now)
    with session():
        user_updates.update_group(
            caller.workspace_id, group_id, update, versions=responses.parse_if_match(request.headers.get("If-Match"))
        )
        row = queries.group(caller.workspace_id, group_id, now=now)
    context.current().wake_notifier()
    if row is None:
        raise NotFound
    response = jsonify(group_schema.dump_group(row))
    response.set_etag(responses.etag(response.get_data(), row["version"]))
    return response


@groups.post("/groups/bulk")
def change_groups() -> ResponseReturnValue:
    """Update many groups in one transaction.

    The response has the result of each.
    """
    caller, now = auth.require_write_scope(), datetime.now(UTC)
    request_schemas.refuse_parameters(request.args)
    bulk = request_schemas.load_bulk_update(_body(), now=now, vocabulary=_vocabulary())
    update = GroupUpdate(fields=bulk.fields, by=caller.token, at=now)
    with session():
        ids, end = bulk.ids, None
        scope = f"bulk of {caller.workspace_id}: {bulk.group_filter}"
        if bulk.group_filter is not None:
            after = context.current().cursors.read(bulk.cursor, scope=scope)
            found = queries.newest(
                caller.workspace_id, bulk.group_filter, limit=user_updates.MAX_BULK, after=after, now=now
            )
            ids, end = [row["id"] for row in found.rows], found.end
        results = user_updates.update_groups(caller.workspace_id, ids, update, group_filter=bulk.group_filter)
    context.current().wake_notifier()
    following = context.current().cursors.write(end, scope=scope)
    return jsonify(response_schemas.dump_update_results(results, next_cursor=following))


def _vocabulary() -> Vocabulary:
    return context.current().settings.vocabulary


def _body() -> dict[str, Any]:
    max_body_bytes = context.current().settings.max_body_bytes
    raw = ingest_request.read(request, kept_headers=(), max_body_bytes=max_body_bytes).body
    body = bounded_json.parse(raw)
    bounded_json.check(raw, body)
    return body
