"""Sentry: who signed it, what it is, what it means.

The three questions of a :class:`signalcraft.sources.Source`, and the table that answers the third. What
is true of Sentry is in the modules beside: ``signature`` (families of requests), ``envelope`` (the
resource proved), ``shapes`` (what must be there), ``fields`` (where each field is read),
``events`` and ``changes`` (alerts and changes of state), ``keys``, ``fingerprint``, ``links``.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from signalcraft.domain import bounded_json
from signalcraft.domain.alerts import Normalization, NormalizedAlert, StatusChange, Vocabulary
from signalcraft.domain.deliveries import Delivery, Identity
from signalcraft.domain.errors import Refusal, UnexpectedShape
from signalcraft.sources.sentry import alerts, delivery_keys, identifiers, status_changes
from signalcraft.sources.sentry.envelope import LEGACY, PROOFS, SERVICE_HOOK, Envelope, open_envelope
from signalcraft.sources.sentry.envelope import RESOURCES as RESOURCES
from signalcraft.sources.sentry.envelope import recall as recall
from signalcraft.sources.sentry.field_paths import Reader
from signalcraft.sources.sentry.fields import FIELDS, OTHER
from signalcraft.sources.sentry.signature import HEADERS as HEADERS
from signalcraft.sources.sentry.signature import verify as verify

Handler = Callable[[Envelope, Reader, Vocabulary], Sequence[NormalizedAlert | StatusChange]]

#: What becomes of a delivery, by resource and action. Whatever is not here is verified, counted and ignored.
DISPATCH: Mapping[tuple[str, str], Handler] = MappingProxyType(
    {
        ("event_alert", "triggered"): alerts.of_event,
        ("error", "created"): alerts.of_event,
        ("issue", "created"): alerts.of_new_issue,
        **{("issue", action): status_changes.of_issue for action in status_changes.ISSUE_ACTIONS},
        ("metric_alert", "critical"): alerts.of_metric,
        ("metric_alert", "warning"): alerts.of_metric,
        ("metric_alert", "open"): alerts.of_metric,
        ("metric_alert", "resolved"): status_changes.of_metric,
        ("activity_alert", "triggered"): status_changes.of_activity,
        (SERVICE_HOOK, "triggered"): alerts.of_event,
        (LEGACY, "triggered"): alerts.of_legacy,
    }
)

RESOURCE_UNKNOWN = "resource_unknown"
ACTION_UNKNOWN = "action_unknown"
NO_ALERT = "no_alert"

_PLAIN = Vocabulary()
_ALERTING = frozenset(resource for resource, _ in DISPATCH)


def identify(delivery: Delivery) -> Identity:
    """What ``delivery`` is, and the key that a redelivery of it shares.

    Raises:
        BodyNotJson, BodyNotObject: there is nothing to read.
        BodyNumberTooLong, BodyTooDeep, BodyTooManyValues, BodyDuplicateKey: it is JSON made to hurt.
        InvalidFields: ``action``, ``data`` or the resource's own object is missing or of another type.
        ResourceMismatch: the header names a resource that the body is not.
        UiComponentRequest: it is a call of a UI component.
    """
    envelope = open_envelope(delivery)
    bounded_json.check(delivery.body, envelope.body)
    ignored = _ignored(envelope)
    return Identity(
        resource=envelope.resource,
        action=envelope.action,
        delivery_key=delivery_keys.delivery_key(envelope),
        ignored=ignored,
        is_unknown=ignored in {RESOURCE_UNKNOWN, ACTION_UNKNOWN},
        project=_project(envelope),
    )


def normalize(delivery: Delivery, vocabulary: Vocabulary = _PLAIN) -> Normalization:
    """What ``delivery`` means: nothing, one alert (or copies of it, one for each rule), or a change of state.

    Raises:
        MissingIdentity, MissingTitle: something without which there is no alert is missing.
        UnexpectedShape: :func:`identify` would have refused it.
    """
    try:
        envelope = open_envelope(delivery)
    except Refusal as refusal:
        raise UnexpectedShape(refusal.title, field=next(iter(refusal.errors), "")) from refusal
    handler = DISPATCH.get((envelope.resource, envelope.action))
    if handler is None:
        return Normalization(outcomes=())
    reader = Reader(envelope.body)
    outcomes = handler(envelope, reader, vocabulary)
    return Normalization(outcomes=tuple(outcomes), warnings=tuple(dict.fromkeys(reader.warnings)))


def _ignored(envelope: Envelope) -> str:
    """Why nothing will come of a delivery; empty where something will."""
    if envelope.resource not in _ALERTING:
        return NO_ALERT if envelope.resource in PROOFS else RESOURCE_UNKNOWN
    if (envelope.resource, envelope.action) not in DISPATCH:
        return ACTION_UNKNOWN
    if envelope.resource == "activity_alert" and status_changes.meaning_of_activity(envelope) is None:
        return ACTION_UNKNOWN if status_changes.is_about_status(envelope) else NO_ALERT
    return ""


def _project(envelope: Envelope) -> str:
    """The project's number, else its slug, as the body has it."""
    reader, fields = Reader(envelope.body), FIELDS.get(envelope.resource, OTHER)
    return identifiers.project_id(reader, fields) or identifiers.project_slug(reader, fields)
