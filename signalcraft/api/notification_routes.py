"""API routes of notifications: who was told of a group, and how each attempt went."""

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from signalcraft.api import auth, request_schemas, response_schemas
from signalcraft.api.group_routes import GROUP, find_group
from signalcraft.api.request_schemas import NotificationListing
from signalcraft.api.responses import next_cursor, position_after, tagged
from signalcraft.notify import queries
from signalcraft.storage.database import session

notifications = Blueprint("notifications", __name__, url_prefix="/api/v1")
notifications.before_request(auth.authenticate)


@notifications.get("/notifications")
def find_notifications() -> ResponseReturnValue:
    """Return a page of the notifications about the workspace's groups, newest first."""
    return _page(request_schemas.load_notifications_query(request.args, workspace_id=auth.caller().workspace_id))


@notifications.get(f"{GROUP}/notifications")
def list_notifications(group_id: int) -> ResponseReturnValue:
    """Return a page of the notifications about a group, newest first."""
    listing = request_schemas.load_notifications_query(
        request.args, workspace_id=auth.caller().workspace_id, group_id=group_id
    )
    with session():
        find_group(group_id)
    return _page(listing)


def _page(listing: NotificationListing) -> ResponseReturnValue:
    after = position_after(listing)
    with session():
        page = queries.notifications(listing.notification_filter, limit=listing.limit, after=after)
    return tagged(response_schemas.dump_notifications(page.rows, next_cursor(page, listing)))
