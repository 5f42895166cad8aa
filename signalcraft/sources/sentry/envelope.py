"""The envelope: a parsed body, and its resource, proved from the signed part.

``Sentry-Hook-Resource`` is not signed, so the shape of the body proves the resource; the header
chooses between several proved resources and must not contradict the body.

``recall`` rebuilds a delivery without its headers: an event stores the body of its delivery, and nothing else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from signalcraft.domain.bounded_json import parse
from signalcraft.domain.deliveries import Delivery
from signalcraft.domain.errors import Refusal, ResourceMismatch, UiComponentRequest
from signalcraft.sources.sentry import schemas
from signalcraft.sources.sentry.signature import RESOURCE_HEADER, Family, family_of

UNKNOWN = "unknown"
LEGACY = "legacy"
SERVICE_HOOK = "servicehook"

#: The keys of ``data`` that prove a resource, the most specific first.
PROOFS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "event_alert": frozenset({"event"}),
        "error": frozenset({"error"}),
        "metric_alert": frozenset({"metric_alert"}),
        "activity_alert": frozenset({"issue", "activity"}),
        "issue": frozenset({"issue"}),
        "installation": frozenset({"installation"}),
        "comment": frozenset({"comment_id"}),
        "seer": frozenset({"run_id"}),
        "preprod_artifact": frozenset({"buildId"}),
        "size_analysis": frozenset({"buildId"}),
    }
)

#: Every known resource; metrics count all others as :data:`UNKNOWN`.
RESOURCES = frozenset({*PROOFS, LEGACY, SERVICE_HOOK})

_NAME = re.compile(r"[a-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A delivery with parsed body and proved resource. ``data`` holds the fields of the resource."""

    delivery: Delivery
    resource: str
    action: str
    body: dict[str, Any]
    data: dict[str, Any]


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
            schemas.SERVICE_HOOK.check(body)
            return Envelope(delivery=delivery, resource=SERVICE_HOOK, action="triggered", body=body, data=body)
        case _:
            (schemas.LEGACY if "message" in body else schemas.LEGACY_EVENT).check(body)
            return Envelope(delivery=delivery, resource=LEGACY, action="triggered", body=body, data=body)


def _integration(delivery: Delivery, body: dict[str, Any]) -> Envelope:
    schemas.INTEGRATION.check(body)
    action, data = body["action"], body["data"]
    resource = _proved_resource(delivery.headers.get(RESOURCE_HEADER, "").strip().lower(), action, data)
    if resource in schemas.DATA:
        schemas.DATA[resource].check(data, under="data.")
    return Envelope(
        delivery=delivery,
        resource=resource,
        action=action if _NAME.fullmatch(action) else UNKNOWN,
        body=body,
        data=data,
    )


def _proved_resource(named: str, action: str, data: Mapping[str, Any]) -> str:
    """Return the resource that the body proves.

    It is the one that the header names if the body proves that, else the body's own. An unknown name stays: Sentry adds
    resources several times a year, some with a known key (``activity_alert`` was added with ``data.issue``).
    """
    if named and named not in PROOFS:
        return named if _NAME.fullmatch(named) else UNKNOWN
    if named and _proves(named, action, data):
        return named
    proved = [resource for resource in PROOFS if _proves(resource, action, data)]
    if not named:
        return proved[0] if proved else UNKNOWN
    if proved:
        raise ResourceMismatch
    return named


def _proves(resource: str, action: str, data: Mapping[str, Any]) -> bool:
    if not PROOFS[resource] <= data.keys():
        return False
    # An activity alert has the keys of both resources; the action decides, should Sentry add an activity to issue.*.
    return not (resource == "issue" and action == "triggered" and "activity" in data)


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
