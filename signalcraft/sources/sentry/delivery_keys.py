"""The delivery key, equal for every redelivery, derived from the signed body.

It never uses ``Request-ID`` or the timestamp, which are new on each attempt, nor the resource header,
which is not signed. ``Idempotency-Key`` is not signed either, but only this header distinguishes two deliveries
of the same bytes (resolved, unresolved, resolved), and it is the only common part of two attempts to send a change
of an issue: Sentry writes the body again for each attempt, with the current counts.
"""

import hashlib
import json
import re

from signalcraft.sources.sentry import identifiers
from signalcraft.sources.sentry.envelope import LEGACY, RESOURCES, UNKNOWN, Envelope
from signalcraft.sources.sentry.field_paths import Reader
from signalcraft.sources.sentry.fields import FIELDS, AlertFields
from signalcraft.sources.sentry.signature import IDEMPOTENCY_HEADER

#: Resources whose deliveries report one event each: event and rule identify the delivery.
OF_EVENTS = frozenset({"event_alert", "error", "legacy", "servicehook"})
#: Resources whose deliveries may have equal bytes and still be two different deliveries.
OF_STATE = frozenset({"issue", "metric_alert", "activity_alert"})

#: What names a project. It is taken as sent: to find the slug in a URL would take a seventh of the whole time.
_PROJECT = {
    resource: tuple(dict.fromkeys((*fields.project, *fields.project_id[:1], *fields.urls[:1])))
    for resource, fields in FIELDS.items()
}

# A user can set a constant header of this name; Sentry's own is always of this form.
_IDEMPOTENCY_KEY = re.compile(r"[0-9a-f]{32}")


def delivery_key(envelope: Envelope) -> str:
    """Return the key that identifies the delivery.

    It consists of the proved resource and a digest. An unknown resource name comes only from the unsigned header: if
    the key included it, one captured body could be replayed under any number of made-up names.
    """
    resource = envelope.resource if envelope.resource in RESOURCES else UNKNOWN
    return f"{resource}:{_digest(_identity(envelope))}"


def _identity(envelope: Envelope) -> list[str]:
    resource, action = envelope.resource, envelope.action
    if resource not in FIELDS:
        return _of_bytes(envelope, "")
    reader, fields = Reader(envelope.body), FIELDS[resource]
    if resource in OF_EVENTS and (event := identifiers.event_id(reader, fields)):
        return [action, *_owners(reader, resource), event, _rule(envelope, fields)]
    if resource == LEGACY and identifiers.names_nothing(reader, fields):
        return _of_bytes(envelope, envelope.delivery.received_at.isoformat())
    attempt = _attempt(envelope)
    if resource == "issue" and (action == "created" or attempt) and identifiers.issue_id(reader, fields):
        return [action, *_owners(reader, resource), "" if action == "created" else attempt]
    return _of_bytes(envelope, attempt)


def _owners(reader: Reader, resource: str) -> list[str]:
    # Ids of events are unique within a project only.
    named = [repr(path.follow(reader.body)) for path in _PROJECT[resource]]
    return [*named, identifiers.issue_id(reader, FIELDS[resource]) or ""]


def _attempt(envelope: Envelope) -> str:
    sent = envelope.delivery.headers.get(IDEMPOTENCY_HEADER, "")
    return sent if envelope.resource in OF_STATE and _IDEMPOTENCY_KEY.fullmatch(sent) else ""


def _of_bytes(envelope: Envelope, distinction: str) -> list[str]:
    return ["body", hashlib.sha256(envelope.delivery.body).hexdigest(), distinction]


def _rule(envelope: Envelope, fields: AlertFields) -> str:
    for path in (*fields.rule_id, *fields.rule):
        value = path.follow(envelope.body)
        if value:
            return f"{path.text}={value if isinstance(value, str) else json.dumps(value)}"
    return ""


def _digest(parts: list[str]) -> str:
    # Only the last part can contain the separator, so the encoding is unambiguous.
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
