"""Identify and normalize deliveries, by a table of handlers by resource and action."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from signalcraft.domain import bounded_json
from signalcraft.domain.alerts import Normalization, NormalizedAlert, StatusChange, Vocabulary
from signalcraft.domain.deliveries import Delivery, Identity
from signalcraft.domain.errors import Refusal, UnexpectedShape
from signalcraft.sources.sentry import alerts, delivery_keys, identifiers, status_changes
from signalcraft.sources.sentry.envelope import LEGACY, PROOFS, SERVICE_HOOK, Envelope, open_envelope
from signalcraft.sources.sentry.field_paths import Path, Reader
from signalcraft.sources.sentry.fields import FIELDS, OTHER

#: Sentry numbers its projects from 1.
CANARY_PROJECT_ID: Final = 0
_HEADER_SAFE = re.compile(r"[A-Za-z0-9._-]{1,100}")

Handler = Callable[[Envelope, Reader, Vocabulary], Sequence[NormalizedAlert | StatusChange]]

#: Handlers by resource and action. Any other delivery is verified, counted and ignored.
DISPATCH: Final[Mapping[tuple[str, str], Handler]] = {
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

RESOURCE_UNKNOWN = "resource_unknown"
ACTION_UNKNOWN = "action_unknown"
BODY_INCOMPLETE = "body_incomplete"
NO_ALERT = "no_alert"

_PLAIN = Vocabulary()
_ALERTING = frozenset(resource for resource, _ in DISPATCH)
_KEPT = frozenset({RESOURCE_UNKNOWN, ACTION_UNKNOWN, BODY_INCOMPLETE})


def identify(delivery: Delivery, _vocabulary: Vocabulary = _PLAIN) -> Identity:
    """Return the resource, the action and the delivery key.

    Raises:
        BodyNotJson, BodyNotObject: the body is no JSON object.
        BodyNumberTooLong, BodyTooDeep, BodyTooManyValues, BodyDuplicateKey: the JSON exceeds a bound.
        InvalidFields: ``action`` or an alert's ``data`` is missing or of another type.
        ResourceMismatch: the body has the form of another resource than the header names.
        UiComponentRequest: it is a call of a UI component.
    """
    envelope = open_envelope(delivery)
    bounded_json.check(delivery.body, envelope.body)
    ignored, project = _ignored(envelope), _project(envelope)
    return Identity(
        resource=envelope.resource,
        action=envelope.action,
        delivery_key=delivery_keys.delivery_key(envelope),
        ignored=ignored,
        is_kept=ignored in _KEPT,
        is_canary=project == str(CANARY_PROJECT_ID),
        response_headers={"Sentry-Hook-Project": project} if _HEADER_SAFE.fullmatch(project) else {},
    )


def normalize(delivery: Delivery, vocabulary: Vocabulary = _PLAIN) -> Normalization:
    """Return the outcomes of ``delivery``.

    They are none, one alert, or a status change. An alert of the legacy plugin is repeated for each of its rules.

    Raises:
        UnexpectedShape: :func:`identify` would have refused it.
    """
    try:
        envelope = open_envelope(delivery)
    except Refusal as refusal:
        raise UnexpectedShape(refusal.title, field=next(iter(refusal.errors), "")) from refusal
    reader = Reader(envelope.body)
    if envelope.missing:
        reader.warn(Path(envelope.missing), "is missing or of another type; the delivery was kept raw")
        return Normalization(outcomes=(), warnings=tuple(reader.warnings))
    handler = DISPATCH.get((envelope.resource, envelope.action))
    if handler is None:
        return Normalization(outcomes=())
    outcomes = handler(envelope, reader, vocabulary)
    return Normalization(outcomes=tuple(outcomes), warnings=tuple(dict.fromkeys(reader.warnings)))


def _ignored(envelope: Envelope) -> str:
    if envelope.missing:
        return BODY_INCOMPLETE
    if envelope.resource not in _ALERTING:
        return NO_ALERT if envelope.resource in PROOFS else RESOURCE_UNKNOWN
    if (envelope.resource, envelope.action) not in DISPATCH:
        return ACTION_UNKNOWN
    if envelope.resource == "activity_alert" and status_changes.meaning_of_activity(envelope) is None:
        return ACTION_UNKNOWN if status_changes.is_about_status(envelope) else NO_ALERT
    return ""


def _project(envelope: Envelope) -> str:
    reader, fields = Reader(envelope.body), FIELDS.get(envelope.resource, OTHER)
    return identifiers.project_id(reader, fields) or identifiers.project_slug(reader, fields)
