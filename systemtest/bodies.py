"""Deliveries as Sentry makes them: compact ASCII JSON, and an HMAC over exactly those bytes."""

import hashlib
import hmac
import json
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

_ORGANIZATION = "acme"
_PROJECT = 4509877862268928
_INSTALLATION = "7a485448-a9e2-4c85-8a3c-4f44175783c9"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One error of one issue. It may come in several deliveries, and counts once."""

    event_id: str
    issue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A delivery: what Sentry posts."""

    alert: Alert
    resource: str
    body: bytes
    signature: str

    def headers(self) -> dict[str, str]:
        """Return the headers of one attempt: Request-ID and timestamp are new each time."""
        return {
            "Content-Type": "application/json",
            "Request-ID": uuid.uuid4().hex,
            "Sentry-Hook-Resource": self.resource,
            "Sentry-Hook-Timestamp": str(int(time.time())),
            "Sentry-Hook-Signature": self.signature,
        }


def by_rule(alert: Alert, rule: str, secret: str) -> Sent:
    """Return the delivery of ``alert`` that an alert rule sends: ``event_alert.triggered``."""
    return _signed(alert, "event_alert", "triggered", {"event": _event(alert), "triggered_rule": rule}, secret)


def by_subscription(alert: Alert, secret: str) -> Sent:
    """Return the delivery of the same alert that a subscription to errors sends: ``error.created``."""
    return _signed(alert, "error", "created", {"error": _event(alert)}, secret)


def _signed(alert: Alert, resource: str, action: str, data: dict[str, object], secret: str) -> Sent:
    envelope = {
        "action": action,
        "installation": {"uuid": _INSTALLATION},
        "data": data,
        "actor": {"type": "application", "id": "sentry", "name": "Sentry"},
    }
    body = json.dumps(envelope, separators=(",", ":")).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return Sent(alert=alert, resource=resource, body=body, signature=signature)


def _event(alert: Alert) -> dict[str, object]:
    now = datetime.now(UTC)
    site = f"https://sentry.io/organizations/{_ORGANIZATION}/issues/{alert.issue}"
    api = f"https://sentry.io/api/0/projects/{_ORGANIZATION}/checkout/events/{alert.event_id}/"
    return {
        "event_id": alert.event_id,
        "project": _PROJECT,
        "platform": "python",
        "message": "",
        "datetime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "tags": [["environment", "production"], ["level", "error"], ["server_name", "web-1"]],
        "culprit": "shop.cart in add",
        "environment": "production",
        "exception": {"values": [{"type": "KeyError", "value": "'sku'"}]},
        "fingerprint": ["{{ default }}"],
        "hashes": [hashlib.md5(alert.issue.encode(), usedforsecurity=False).hexdigest()],
        "level": "error",
        "metadata": {"type": "KeyError", "value": "'sku'", "filename": "shop/cart.py"},
        "timestamp": now.timestamp(),
        "title": f"KeyError: 'sku' of issue {alert.issue}",
        "type": "error",
        "url": api,
        "web_url": f"{site}/events/{alert.event_id}/",
        "issue_url": f"https://sentry.io/api/0/organizations/{_ORGANIZATION}/issues/{alert.issue}/",
        "issue_id": alert.issue,
    }
