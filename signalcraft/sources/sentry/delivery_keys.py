"""What a redelivery shares: the delivery key, made of the signed body.

Never of ``Request-ID`` or the timestamp, which are new on each attempt, nor of the resource header,
which is not signed. ``Idempotency-Key`` is not signed either, but it is all that tells two deliveries
of the same bytes apart (resolved, unresolved, resolved), and all that a second attempt at a change of an
issue shares with the first: Sentry writes the body anew each time, with the counts of that moment.
"""

import hashlib
import json
import re

from signalcraft.sources.sentry import identifiers
from signalcraft.sources.sentry.envelope import RESOURCES, UNKNOWN, Envelope
from signalcraft.sources.sentry.field_paths import Reader
from signalcraft.sources.sentry.fields import FIELDS, AlertFields
from signalcraft.sources.sentry.signature import IDEMPOTENCY_HEADER

#: Resources of which each delivery reports one event: the event and the rule name it.
OF_EVENTS = frozenset({"event_alert", "error", "legacy", "servicehook"})
#: Resources whose deliveries may have equal bytes and yet mean two things.
OF_STATE = frozenset({"issue", "metric_alert", "activity_alert"})

# A user can set a constant header of this name; Sentry's own is always of this form.
_IDEMPOTENCY_KEY = re.compile(r"[0-9a-f]{32}")


def delivery_key(envelope: Envelope) -> str:
    """The proved resource, and a digest of what names the delivery.

    A name that we do not know is the header's alone: with it in the key, a body once seen could be replayed under
    one made-up name after the other.
    """
    resource = envelope.resource if envelope.resource in RESOURCES else UNKNOWN
    return f"{resource}:{_digest(_name(envelope))}"


def _name(envelope: Envelope) -> list[str]:
    resource, action = envelope.resource, envelope.action
    if resource in OF_EVENTS and (event := identifiers.event_id(Reader(envelope.body), FIELDS[resource])):
        return [action, event, *_issue_of_occurrence(envelope), _rule(envelope, FIELDS[resource])]
    issue = identifiers.issue_id(Reader(envelope.body), FIELDS[resource]) if resource == "issue" else None
    if issue and action == "created":
        return [action, issue]
    attempt = envelope.delivery.headers.get(IDEMPOTENCY_HEADER, "")
    told_apart = resource in OF_STATE and _IDEMPOTENCY_KEY.fullmatch(attempt)
    if issue and told_apart:
        return [action, issue, attempt]
    return ["body", hashlib.sha256(envelope.delivery.body).hexdigest(), attempt if told_apart else ""]


def _issue_of_occurrence(envelope: Envelope) -> list[str]:
    """The issue of an event that occurs in several: one trace can be slow in two ways, which are two issues."""
    issue = identifiers.issue_of_occurrence(Reader(envelope.body), FIELDS[envelope.resource])
    return [issue] if issue else []


def _rule(envelope: Envelope, fields: AlertFields) -> str:
    """What tells two rules of one event apart: the rule's id where there is one, else its label as sent."""
    for path in (*fields.rule_id, *fields.rule):
        value = path.follow(envelope.body)
        if value:
            return f"{path.text}={value if isinstance(value, str) else json.dumps(value)}"
    return ""


def _digest(parts: list[str]) -> str:
    """A hash of ``parts``; none but the last can hold the separator, so they cannot run into each other."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
