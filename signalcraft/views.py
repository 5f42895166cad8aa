"""The routes: each reads the request, asks one question and renders the answer. They decide nothing."""

import hmac
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import structlog
from flask import Blueprint, Response, current_app, g, jsonify, request
from flask.typing import ResponseReturnValue

from signalcraft import deliveries, explanations, health, metrics, models, pipeline, previews, retrieval, schemas
from signalcraft.alerts import Vocabulary
from signalcraft.cursors import Cursors
from signalcraft.directory import Caller
from signalcraft.errors import BadToken, NotFound
from signalcraft.intake import Answer, Intake, Receipt
from signalcraft.rates import Rate
from signalcraft.retrieval import Page
from signalcraft.settings import Settings
from signalcraft.sources import sentry
from signalcraft.store import Policy

log = structlog.get_logger(__name__)

EXTENSION: Final = "signalcraft"
WORKSPACE_HEADER: Final = "X-SignalCraft-Workspace"
_LARGEST_ID: Final = 2**63 - 1
_HEADER_SAFE = re.compile(r"[A-Za-z0-9._-]{1,100}")

webhooks = Blueprint("webhooks", __name__)
api = Blueprint("api", __name__, url_prefix="/api/v1")
operations = Blueprint("operations", __name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What ``create_app`` put together and the routes use."""

    settings: Settings
    desk: Intake
    policy: Policy
    vocabulary: Vocabulary
    api_rate: Rate
    cursors: Cursors


def _parts() -> Parts:
    parts: Parts = current_app.extensions[EXTENSION]
    return parts


@webhooks.before_request
def begin_delivery() -> None:
    """Name the delivery, and look at the clock."""
    g.delivery_id = uuid4().hex
    g.began = time.perf_counter()


@webhooks.post("/webhooks/sentry")
@webhooks.post("/webhooks/sentry/<workspace>")
def take_in(workspace: str = "") -> ResponseReturnValue:
    """Take a delivery in. The path names the workspace, else a header that Sentry can be told to send, else nobody."""
    settings = _parts().settings
    g.workspace = workspace or request.headers.get(WORKSPACE_HEADER, "").strip() or settings.default_workspace
    delivery = deliveries.read(request, kept_headers=sentry.HEADERS, max_body_bytes=settings.max_body_bytes)
    receipt = pipeline.receive(delivery, delivery_id=g.delivery_id, workspace=g.workspace, desk=_parts().desk)
    g.receipt = receipt
    response = jsonify(schemas.dump_receipt(receipt))
    response.status_code = 202 if receipt.answer is Answer.ACCEPTED else 200
    if _HEADER_SAFE.fullmatch(receipt.identity.project):
        response.headers["Sentry-Hook-Project"] = receipt.identity.project
    return response


@webhooks.after_request
def note_delivery(response: Response) -> Response:
    """One line and one count for each delivery, also one that was refused. Of an unverified one, nothing it says."""
    receipt: Receipt | None = g.get("receipt")
    identity = receipt.identity if receipt else None
    answer = receipt.answer.value if receipt else g.get("problem_code", "none")
    seconds = time.perf_counter() - g.began
    metrics.count("signalcraft_webhooks_total", resource=identity.resource if identity else "unknown", answer=answer)
    metrics.observe("signalcraft_ack_seconds", seconds)
    metrics.observe("signalcraft_webhook_bytes", request.content_length or 0)
    log.info(
        "delivery answered",
        stage="receive",
        delivery_id=receipt.delivery_id if receipt else g.delivery_id,
        workspace=g.workspace if receipt else None,
        source=_parts().desk.source,
        resource=identity.resource if identity else None,
        action=identity.action if identity else None,
        answer=answer,
        status=response.status_code,
        duration_ms=round(seconds * 1000, 2),
        bytes=request.content_length,
        address=request.remote_addr,
    )
    return response


@api.before_request
def authenticate() -> None:
    """Let those in whose token we know, as often as RATELIMIT_API says."""
    g.caller = _caller()
    _parts().api_rate.hit(f"{g.caller.workspace_id}:{g.caller.token}")


def _caller() -> Caller:
    given = request.authorization
    directory = _parts().desk.directory
    if given is None or given.type != "bearer" or not given.token:
        raise BadToken
    caller = directory.caller(given.token)
    if caller is None and directory.refresh():
        caller = directory.caller(given.token)
    if caller is None:
        raise BadToken
    return caller


@api.get("/groups")
def list_groups() -> ResponseReturnValue:
    """A page of groups."""
    caller: Caller = g.caller
    listing = schemas.load_groups_query(request.args, workspace_id=caller.workspace_id)
    after = _parts().cursors.read(listing.cursor, scope=listing.scope) if listing.cursor else None
    with models.session():
        page = retrieval.groups(
            caller.workspace_id,
            listing.wanted,
            listing.order,
            limit=listing.limit,
            after=after,
            now=datetime.now(UTC),
        )
    return jsonify(schemas.dump_groups(page.rows, _next_cursor(page, listing)))


@api.get(f"/groups/<int(max={_LARGEST_ID}):group_id>")
def show_group(group_id: int) -> ResponseReturnValue:
    """A group."""
    with models.session():
        row = retrieval.group(g.caller.workspace_id, group_id, now=datetime.now(UTC))
    if row is None:
        raise NotFound
    return jsonify(schemas.dump_group(row))


@api.get(f"/groups/<int(max={_LARGEST_ID}):group_id>/events")
def list_events(group_id: int) -> ResponseReturnValue:
    """A page of a group's events."""
    workspace_id = g.caller.workspace_id
    listing = schemas.load_events_query(request.args, workspace_id=workspace_id, group_id=group_id)
    after = _parts().cursors.read(listing.cursor, scope=listing.scope) if listing.cursor else None
    with models.session():
        if retrieval.group(workspace_id, group_id, now=datetime.now(UTC)) is None:
            raise NotFound
        page = retrieval.events(workspace_id, group_id, limit=listing.limit, after=after)
    return jsonify(schemas.dump_events(page.rows, _next_cursor(page, listing)))


@api.get(f"/events/<int(max={_LARGEST_ID}):event_id>")
def show_event(event_id: int) -> ResponseReturnValue:
    """An event with what was sent."""
    with models.session():
        row = retrieval.event(g.caller.workspace_id, event_id)
    if row is None:
        raise NotFound
    return jsonify(schemas.dump_event(row))


@api.get(f"/events/<int(max={_LARGEST_ID}):event_id>/explain")
def explain_event(event_id: int) -> ResponseReturnValue:
    """Why an event is where it is, in words."""
    workspace_id = g.caller.workspace_id
    with models.session():
        event = retrieval.event(workspace_id, event_id)
        group = event and retrieval.group(workspace_id, event["alert_group_id"], now=datetime.now(UTC))
    if not event or not group:
        raise NotFound
    sentences = explanations.explain(event, group, _parts().policy.window)
    return jsonify(schemas.dump_explanation(event, group, sentences))


@api.post("/preview")
def preview_delivery() -> ResponseReturnValue:
    """Where a delivery (body and Sentry's headers) would land, were it sent now. Its signature is not looked at."""
    parts = _parts()
    delivery = deliveries.read(
        request,
        kept_headers=sentry.HEADERS,
        max_body_bytes=parts.settings.max_body_bytes,
    )
    found, warnings = previews.preview(
        delivery,
        g.caller.workspace_id,
        policy=parts.policy,
        vocabulary=parts.vocabulary,
    )
    return jsonify(schemas.dump_preview(found, warnings))


def _next_cursor(page: Page, listing: schemas.Listing) -> str | None:
    return _parts().cursors.write(page.end, scope=listing.scope) if page.end else None


@operations.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Whether this process answers at all."""
    return jsonify(status="ok")


@operations.get("/readyz")
def readyz() -> ResponseReturnValue:
    """Whether what we need is there."""
    states = health.check(_parts().desk.redis)
    ready = all(state is health.State.OK for state in states.values())
    return jsonify(status="ok" if ready else "unavailable", **states), 200 if ready else 503


@operations.get("/metrics")
def show_metrics() -> ResponseReturnValue:
    """All that is counted, in Prometheus's text format."""
    token, given = _parts().settings.metrics_token, request.authorization
    offered = given.token if given is not None and given.type == "bearer" and given.token else ""
    if token and not hmac.compare_digest(token.encode(), offered.encode()):
        raise BadToken
    redis = _parts().desk.redis
    metrics.flush(redis)
    return Response(metrics.exposition(redis, health.gauges(redis)), content_type="text/plain; version=0.0.4")
