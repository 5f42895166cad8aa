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
from signalcraft.sources.sentry.envelope import RESOURCES, UNKNOWN, Envelope
from signalcraft.sources.sentry.field_paths import Reader
from signalcraft.sources.sentry.fields import FIELDS, AlertFields
from signalcraft.sources.sentry.signature import IDEMPOTENCY_HEADER

#: Resources whose deliveries report one event each: event and rule identify the delivery.
OF_EVENTS = frozenset({"event_alert", "error", "legacy", "servicehook"})
#: Resources whose deliveries may have equal bytes and still be two different deliveries.
OF_STATE = frozenset({"issue", "metric_alert", "activity_alert"})

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
    if resource in OF_EVENTS and (event := identifiers.event_id(Reader(envelope.body), FIELDS[resource])):
        return [action, event, *_issue_of_occurrence(envelope), _rule(envelope, FIELDS[resource])]
    issue = identifiers.issue_id(Reader(envelope.body), FIELDS[resource]) if resource == "issue" else None
    if issue and action == "created":
        return [action, issue]
    attempt = envelope.delivery.headers.get(IDEMPOTENCY_HEADER, "")
    is_distinct = resource in OF_STATE and _IDEMPOTENCY_KEY.fullmatch(attempt)
    if issue and is_distinct:
        return [action, issue, attempt]
    return ["body", hashlib.sha256(envelope.delivery.body).hexdigest(), attempt if is_distinct else ""]


def _issue_of_occurrence(envelope: Envelope) -> list[str]:
    # An event with an occurrence can belong to several issues: one trace can be slow in two ways.
    issue = identifiers.issue_of_occurrence(Reader(envelope.body), FIELDS[envelope.resource])
    return [issue] if issue else []


def _rule(envelope: Envelope, fields: AlertFields) -> str:
    for path in (*fields.rule_id, *fields.rule):
        value = path.follow(envelope.body)
        if value:
            return f"{path.text}={value if isinstance(value, str) else json.dumps(value)}"
    return ""


def _digest(parts: list[str]) -> str:
    # Only the last part can contain the separator, so the encoding is unambiguous.
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
