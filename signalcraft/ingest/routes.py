"""Webhook routes: read the request, call ``receive``, render the result."""

import time
from http import HTTPStatus
from typing import Final

import orjson
import structlog
from flask import Blueprint, Response, g, request
from flask.typing import ResponseReturnValue

from signalcraft import metrics
from signalcraft.domain.deliveries import DeliveryStatus, Identity, ReceiveResult
from signalcraft.ingest import context, receive
from signalcraft.ingest import request as ingest_request
from signalcraft.sources import SOURCES

log = structlog.get_logger(__name__)

WORKSPACE_HEADER: Final = "X-SignalCraft-Workspace"

webhooks = Blueprint("webhooks", __name__)


@webhooks.before_request
def start_delivery() -> None:
    """Assign a delivery id and start the timer.

    It includes the time spent waiting for a thread.
    """
    g.delivery_id = ingest_request.new_delivery_id()
    g.started_at = time.perf_counter() - ingest_request.seconds_waited()


@webhooks.post(f"/webhooks/<any({','.join(SOURCES)}):source>", endpoint="take_in")
@webhooks.post(f"/webhooks/<any({','.join(SOURCES)}):source>/<workspace>", endpoint="take_in")
def receive_delivery(source: str, workspace: str = "") -> ResponseReturnValue:
    """Receive a delivery.

    The path names the workspace, else a header that a sender can be configured to send, else DEFAULT_WORKSPACE.
    The endpoint's name is the public ``operationId``.
    """
    sender = SOURCES[source]
    ingest = context.current()
    settings = ingest.settings
    workspace = workspace or request.headers.get(WORKSPACE_HEADER, "").strip() or settings.default_workspace
    delivery = ingest_request.read(
        request,
        kept_headers=sender.HEADERS,
        renamed=settings.renamed_headers(sender),
        max_body_bytes=settings.max_body_bytes,
    )
    result = receive.receive(delivery, sender, delivery_id=g.delivery_id, workspace=workspace, context=ingest)
    g.receive_result, g.workspace = result, workspace
    return Response(
        orjson.dumps(_dump(result)),
        202 if result.status is DeliveryStatus.ACCEPTED else 200,
        result.identity.response_headers,
        content_type="application/json",
    )


@webhooks.after_request
def log_delivery(response: Response) -> Response:
    """Log and count each delivery, also a refused one.

    Of an unverified delivery, nothing that it contains is logged or counted.
    """
    result: ReceiveResult | None = g.get("receive_result")
    identity = result.identity if result else None
    answer = result.status.value if result else g.get("problem_code", "none")
    source = (request.view_args or {}).get("source", "")
    seconds = time.perf_counter() - g.started_at
    metrics.count("signalcraft_webhooks_total", source=source, resource=_resource_label(identity), answer=answer)
    metrics.observe("signalcraft_ack_seconds", seconds)
    length = request.content_length
    metrics.observe("signalcraft_webhook_bytes", length or 0)
    # an error, since a 5xx may lose the delivery
    write = log.error if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR else log.info
    write(
        "delivery answered",
        stage="receive",
        delivery_id=result.delivery_id if result else g.delivery_id,
        workspace=g.workspace if result else None,
        source=source,
        resource=identity.resource if identity else None,
        action=identity.action if identity else None,
        answer=answer,
        reason=(result.reason or None) if result else None,
        status=response.status_code,
        duration_ms=round(seconds * 1000, 2),
        bytes=length,
        address=request.remote_addr,
    )
    return response


def _resource_label(identity: Identity | None) -> str:
    """Return the resource, or ``canary``.

    Our own canary must not hide that a source stopped sending.
    """
    if identity is None:
        return "unknown"
    return "canary" if identity.is_canary else identity.resource


def _dump(result: ReceiveResult) -> dict[str, str]:
    if result.status is DeliveryStatus.IGNORED:
        return {"status": result.status.value, "reason": result.reason}
    return {"status": result.status.value, "delivery_id": result.delivery_id}
