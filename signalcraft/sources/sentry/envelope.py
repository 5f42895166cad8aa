"""The envelope: a parsed body, and its resource, proved from the signed part.

``Sentry-Hook-Resource`` is not signed, so the shape of the body proves the resource; the header
chooses between several proved resources and must not contradict the body.

``recall`` rebuilds a delivery without its headers: an event stores the body of its delivery, and nothing else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from signalcraft.domain.bounded_json import parse
from signalcraft.domain.deliveries import Delivery
from signalcraft.domain.errors import Refusal
from signalcraft.sources.sentry import schemas
from signalcraft.sources.sentry.errors import ResourceMismatch, UiComponentRequest
from signalcraft.sources.sentry.signature import RESOURCE_HEADER, Family, family_of

UNKNOWN = "unknown"
LEGACY = "legacy"
SERVICE_HOOK = "servicehook"

_Types = Mapping[str, type | tuple[type, ...]]

#: The keys of ``data`` that prove a resource, and the types of a complete one; the most specific resource first.
PROOFS: Final[Mapping[str, _Types]] = {
    "event_alert": {"event": dict},
    "error": {"error": dict},
    "metric_alert": {"metric_alert": dict},
    "activity_alert": {"issue": dict, "activity": dict},
    "issue": {"issue": dict},
    "installation": {"installation": dict},
    "comment": {"comment_id": (int, str)},
    "seer": {"run_id": (int, str)},
    "preprod_artifact": {"buildId": (int, str)},
    "size_analysis": {"buildId": (int, str)},
}

#: Every known resource; metrics count all others as :data:`UNKNOWN`.
RESOURCES = frozenset({*PROOFS, LEGACY, SERVICE_HOOK})
#: Resources of an integration that make alerts or change groups: their ``data`` must be there.
_ALERTING = frozenset({"event_alert", "error", "metric_alert", "activity_alert", "issue"})
#: Keys of the legacy plugin's body that prove it. A look-alike has none of them.
_LEGACY_KEYS = frozenset({"message", "culprit", "triggering_rules"})

_NAME = re.compile(r"[a-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A delivery with parsed body and proved resource.

    ``data`` holds the fields of the resource. ``missing`` is the path of the resource's own object (or id) if that is
    missing or of another type: such a delivery has no meaning.
    """

    delivery: Delivery
    resource: str
    action: str
    body: dict[str, Any]
    data: dict[str, Any]
    missing: str = ""


def open_envelope(delivery: Delivery) -> Envelope:
    """Parse the body and prove its resource.

    Raises:
        Refusal: as in ``identify``.
    """
    body = parse(delivery.body)
    match family_of(delivery.headers):
        case Family.INTEGRATION:
            return _integration(delivery, body)
        case Family.UI_COMPONENT:
            raise UiComponentRequest
        case Family.SERVICE_HOOK:
            is_complete = isinstance(body.get("event"), dict) or isinstance(body.get("group"), dict)
            return _flat(delivery, SERVICE_HOOK, body, missing="" if is_complete else "event")
        case _:
            if not _LEGACY_KEYS & body.keys():
                schemas.LEGACY.check(body)
            return _flat(delivery, LEGACY, body)


def _flat(delivery: Delivery, resource: str, body: dict[str, Any], missing: str = "") -> Envelope:
    return Envelope(delivery=delivery, resource=resource, action="triggered", body=body, data=body, missing=missing)


def _integration(delivery: Delivery, body: dict[str, Any]) -> Envelope:
    named = delivery.headers.get(RESOURCE_HEADER, "").strip().lower()
    # A 4xx is a failed delivery at Sentry, so it is kept for what nobody can use.
    (schemas.INTEGRATION_ALERT if not named or named in _ALERTING else schemas.INTEGRATION).check(body)
    action, data = body["action"], body.get("data")
    if not isinstance(data, dict):
        data = {}
    resource = _proved_resource(named, action, data)
    return Envelope(
        delivery=delivery,
        resource=resource,
        action=action if _NAME.fullmatch(action) else UNKNOWN,
        body=body,
        data=data,
        missing=_missing(resource, data),
    )


def _missing(resource: str, data: Mapping[str, Any]) -> str:
    for key, expected in PROOFS.get(resource, {}).items():
        if not isinstance(data.get(key), expected):
            return f"data.{key}"
    return ""


def _proved_resource(named: str, action: str, data: Mapping[str, Any]) -> str:
    """Return the resource that the body proves.

    It is the one that the header names if the body proves that, else the body's own. An unknown name stays: Sentry adds
    resources several times a year, some with a known key (``activity_alert`` was added with ``data.issue``).
    """
    if named and named not in PROOFS:
        # The names of the other families prove nothing: anyone could replay a captured body under them.
        return named if _NAME.fullmatch(named) and named not in RESOURCES else UNKNOWN
    if named and _proves(named, action, data):
        return named
    proved = [resource for resource in PROOFS if _proves(resource, action, data)]
    if not named:
        return proved[0] if proved else UNKNOWN
    if proved:
        raise ResourceMismatch
    return named


def _proves(resource: str, action: str, data: Mapping[str, Any]) -> bool:
    # An activity alert has the key of an issue too; the action decides, should Sentry add an activity to issue.*.
    return PROOFS[resource].keys() <= data.keys() and not (resource == "issue" and action == "triggered")


def recall(body: bytes, received_at: datetime) -> Delivery:
    """Rebuild the delivery of ``body``.

    It has an empty header that marks its family, and cannot be verified again.
    """
    return Delivery(headers={family: "" for family in [_family_of(body)] if family}, body=body, received_at=received_at)


def _family_of(raw: bytes) -> Family:
    try:
        body = parse(raw)
    except Refusal:
        return Family.LEGACY
    if "action" in body and "data" in body:
        return Family.INTEGRATION
    return Family.SERVICE_HOOK if isinstance(body.get("project"), dict) and "group" in body else Family.LEGACY
