"""API routes of statistics."""

from datetime import UTC, datetime

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from signalcraft.api import auth, request_schemas, response_schemas
from signalcraft.api.responses import tagged
from signalcraft.groups import hourly_counts
from signalcraft.storage.database import session

stats = Blueprint("stats", __name__, url_prefix="/api/v1")
stats.before_request(auth.authenticate)


@stats.get("/stats")
def show_stats() -> ResponseReturnValue:
    """Return the statistics of a period."""
    period = request_schemas.load_stats_query(request.args, now=datetime.now(UTC))
    with session():
        found = hourly_counts.of(auth.caller().workspace_id, period)
    return tagged(response_schemas.dump_stats(found))
