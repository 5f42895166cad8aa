"""The kind ``pagerduty``: one incident for each group, by PagerDuty's Events API v2.

A digest is an incident of its own, which ends with the last of its groups. ``dedup_key`` is the group's or the
digest's, so that an event that arrives twice changes nothing: trigger, acknowledge and resolve are
idempotent (https://developer.pagerduty.com/docs/events-api-v2-overview).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import orjson
from marshmallow import Schema

from signalcraft.notify.contract import Message, Mode, Outcome, OutcomeKind, Receiver, Secret
from signalcraft.notify.options import SecretField, UrlField
from signalcraft.notify.receivers.http import HttpClient
from signalcraft.sources import cleaning

EVENTS_URL: Final = "https://events.pagerduty.com/v2/enqueue"
_SUMMARY_LIMIT: Final = 1_024
_ACTIONS: Final[Mapping[str, str]] = {
    "open": "trigger",
    "ack": "acknowledge",
    "snoozed": "acknowledge",
    "resolved": "resolve",
}
_SEVERITIES: Final[Mapping[str, str]] = {
    "critical": "critical",
    "high": "error",
    "med": "warning",
    "low": "info",
    "info": "info",
}


class _Options(Schema):
    routing_key = SecretField(required=True)
    url = UrlField(load_default=Secret(EVENTS_URL))


class PagerDutyReceiver(Receiver):
    """Triggers, acknowledges and resolves incidents."""

    kind: ClassVar[str] = "pagerduty"
    mode: ClassVar[Mode] = Mode.CARD
    options: ClassVar[type[Schema]] = _Options
    pace: float = 0.5

    def __init__(self, name: str, routing_key: Secret, url: Secret) -> None:
        """Create the receiver ``name``."""
        self.name = name
        self._routing_key = routing_key
        self._url = url
        self._client = HttpClient(url, routing_key)

    def send(self, message: Message) -> Outcome:
        """Send one event."""
        dedup_key = message.external_id or _dedup_key(message)
        event = render(message) | {"routing_key": self._routing_key.value, "dedup_key": dedup_key}
        outcome = self._client.post(self._url, orjson.dumps(event))
        if outcome.kind is not OutcomeKind.SENT:
            return outcome
        return Outcome(kind=OutcomeKind.SENT, code=outcome.code, http_status=outcome.http_status, external_id=dedup_key)


def _dedup_key(message: Message) -> str:
    """Return the key of a group's incident; a part of the group key keeps two deployments apart."""
    if message.group is None or message.is_test:
        return f"signalcraft-{message.notification_id}"
    return f"signalcraft-{message.group['id']}-{message.group['group_key'][-12:]}"


def render(message: Message) -> dict[str, Any]:
    """Return the event of ``message``, without its keys."""
    group = message.group or {}
    worst = message.digest.worst[0] if message.digest and message.digest.worst else group
    status = message.digest.status if message.digest else group.get("status", "open")
    action = "trigger" if message.is_test else _ACTIONS[status]
    links = [{"href": href, "text": text} for href, text in ((message.url, "SignalCraft"), (message.link, "Source"))]
    payload = {
        "summary": cleaning.line(message.title, _SUMMARY_LIMIT) or message.reason,
        "source": group.get("project", "signalcraft"),
        "severity": _SEVERITIES[worst.get("severity", "critical")],
        "timestamp": group.get("first_seen_at", message.attempted_at.isoformat()),
        "component": group.get("project", "signalcraft"),
        "group": group.get("environment", ""),
        "custom_details": {"Summary": message.text, **dict(message.facts)},
    }
    return {
        "event_action": action,
        "client": "SignalCraft",
        "payload": payload,
        "links": [link for link in links if link["href"]],
    }
