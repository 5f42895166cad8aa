"""The envelope: a body parsed within bounds, and what it is, proved from what is signed.

``Sentry-Hook-Resource`` is not signed, so a resource is what the body has the shape of; the header
chooses among those and must not contradict.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson

from signalcraft.alerts import Delivery
from signalcraft.errors import (
    BodyNotJson,
    BodyNotObject,
    BodyNumberTooLong,
    BodyTooDeep,
    BodyTooManyValues,
    ResourceMismatch,
    UiComponentRequest,
)
from signalcraft.sources.sentry import shapes
from signalcraft.sources.sentry.signature import RESOURCE_HEADER, Family, family_of

#: Sentry's own normalization keeps an event to a dozen levels or so.
MAX_DEPTH = 64
#: A value takes a comma or a bracket of its own, so a body with fewer of them holds fewer values.
MAX_VALUES = 1_000_000
#: What CPython converts (``sys.int_info``); a longer literal stays text, …
MAX_INT_DIGITS = 4_000
#: … up to this. Sentry sends none of over 20: its ingestion makes floats of them.
MAX_NUMBER = 10_000

UNKNOWN = "unknown"
LEGACY = "legacy"
SERVICE_HOOK = "servicehook"

#: The keys of ``data`` that prove a resource, the most telling first (2.2 to 2.10 of our paper on Sentry's webhooks).
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

#: Every resource that we know by name; others are :data:`UNKNOWN` to whoever counts.
RESOURCES = frozenset({*PROOFS, LEGACY, SERVICE_HOOK})

_NAME = re.compile(r"[a-z0-9_.-]{1,64}")
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_STRING = re.compile(rb'"[^"]*"')
_AS_BRACES = bytes.maketrans(b"[]", b"{}")
_NO_BRACKETS = bytes(set(range(256)) - set(b'{}[]"'))


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A delivery whose body is read and whose resource is proved. ``data`` is what the resource's fields stand in."""

    delivery: Delivery
    resource: str
    action: str
    body: dict[str, Any]
    data: dict[str, Any]


def open_envelope(delivery: Delivery) -> Envelope:
    """Read the body and recognise it.

    Raises:
        Refusal: as ``identify`` says.
    """
    body = parse(delivery.body)
    match family_of(delivery.headers):
        case Family.INTEGRATION:
            return _integration(delivery, body)
        case Family.UI_COMPONENT:
            raise UiComponentRequest
        case Family.SERVICE_HOOK:
            shapes.SERVICE_HOOK.check(body)
            return Envelope(delivery=delivery, resource=SERVICE_HOOK, action="triggered", body=body, data=body)
        case _:
            (shapes.LEGACY if "message" in body else shapes.LEGACY_EVENT).check(body)
            return Envelope(delivery=delivery, resource=LEGACY, action="triggered", body=body, data=body)


def _integration(delivery: Delivery, body: dict[str, Any]) -> Envelope:
    shapes.DOOR.check(body)
    action, data = body["action"], body["data"]
    resource = _proved_resource(delivery.headers.get(RESOURCE_HEADER, "").strip().lower(), action, data)
    if resource in shapes.DATA:
        shapes.DATA[resource].check(data, under="data.")
    return Envelope(
        delivery=delivery,
        resource=resource,
        action=action if _NAME.fullmatch(action) else UNKNOWN,
        body=body,
        data=data,
    )


def _proved_resource(named: str, action: str, data: Mapping[str, Any]) -> str:
    """The resource: the one that the header names if the body bears it out, the body's own if there is no header.

    A name that we do not know stays: Sentry adds resources several times a year, some with a key
    that we know (``activity_alert`` came with ``data.issue``).
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
    # The one body that bears two names: its action tells them apart, should Sentry give issue.* an activity.
    return not (resource == "issue" and action == "triggered" and "activity" in data)


def parse(raw: bytes) -> dict[str, Any]:
    """The JSON object in ``raw``.

    Raises:
        BodyNotJson, BodyNotObject, BodyNumberTooLong, BodyTooDeep, BodyTooManyValues: there is none within bounds.
    """
    if len(raw) > MAX_VALUES and raw.count(b",") + raw.count(b"[") + raw.count(b"{") > MAX_VALUES:
        raise BodyTooManyValues
    try:
        body = _loads(raw)
    except RecursionError:
        raise BodyTooDeep from None
    except ValueError:  # of which UnicodeDecodeError and JSONDecodeError are kinds
        raise BodyNotJson from None
    if not isinstance(body, dict):
        raise BodyNotObject
    return body


def _loads(raw: bytes) -> object:
    """What is in ``raw``.

    orjson takes a third of the time, and refuses some of what Python's own module takes and Sentry's encoder can write:
    numbers that no float holds, halves of surrogate pairs. What it refuses is parsed again.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        source = raw.decode()
    try:
        return json.loads(source)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer of more digits than CPython converts
        return json.loads(source, parse_int=_short_int)


def _short_int(literal: str) -> int | str:
    if len(literal) > MAX_NUMBER:
        raise BodyNumberTooLong
    return int(literal) if len(literal) <= MAX_INT_DIGITS else literal[:20] + "…"


def is_too_deep(raw: bytes) -> bool:
    """Whether the JSON in ``raw`` nests over the limit.

    Told from its brackets, which takes a fraction of a walk through the values: what is in strings goes,
    then the innermost pairs go, level by level.
    """
    # Without escapes every quote begins or ends a string.
    plain = _ESCAPE.sub(b"", raw) if b"\\" in raw else raw
    # Empty strings go first, being most. Where two adjacent quotes are not one string, the parity stays.
    nesting = _STRING.sub(b"", plain.translate(_AS_BRACES, _NO_BRACKETS).replace(b'""', b""))
    for _ in range(MAX_DEPTH):
        if not nesting:
            return False
        nesting = nesting.replace(b"{}", b"")
    return bool(nesting)
