"""Routes for operators: probes and metrics."""

import hmac

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue

from signalcraft import metrics
from signalcraft.api import auth
from signalcraft.domain.errors import BadToken
from signalcraft.ingest import context
from signalcraft.web import health, prometheus

operations = Blueprint("operations", __name__)


@operations.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Respond that this process is alive."""
    return jsonify(status="ok")


@operations.get("/readyz")
def readyz() -> ResponseReturnValue:
    """Return the state of each component.

    Each also has the time its probe took, what it would lose although it works, and what to do if it does not. 503 if
    a component does not work that receiving or storing alerts needs, else 200.
    """
    checked = health.check(context.current().redis, context.current().credentials)
    status = health.summary(checked)
    components = {
        name: {"state": part.state, "ms": part.ms, "loses": part.loses, "reason": part.reason}
        for name, part in checked.items()
    }
    return jsonify(status=status, **components), 503 if status == "unavailable" else 200


@operations.get("/metrics")
def show_metrics() -> ResponseReturnValue:
    """Return all metrics in Prometheus's text format."""
    token = context.current().settings.metrics_token
    if token and not hmac.compare_digest(token.encode(), auth.bearer(request).encode()):
        raise BadToken
    redis = context.current().redis
    metrics.flush(redis)
    text = prometheus.as_text(redis, health.gauges(redis, context.current().credentials))
    return Response(text, content_type="text/plain; version=0.0.4")
