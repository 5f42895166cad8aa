"""Open a delivery: our own body or a list of such, CloudEvents, or a body that a mapping reads.

What a header says of a body is lost when the body is stored, so each alert's part holds it too: an event in binary mode
becomes one in structured mode, a mapped body becomes ``{"mapping": <name>, "payload": <body>}``.
"""

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from signalcraft.domain import bounded_json
from signalcraft.domain.alerts import AlertPart
from signalcraft.domain.deliveries import Delivery
from signalcraft.domain.errors import BodyNotJson, InvalidFields, UnexpectedShape
from signalcraft.sources.generic import mappings
from signalcraft.sources.generic.alerts import IGNORED, Element, event_key, problem
from signalcraft.sources.generic.errors import UnknownMappingOfAlert
from signalcraft.sources.generic.mappings import Mapped

MAPPING_HEADER: Final = "x-signalcraft-mapping"
ALERT: Final = "alert"
EVENT: Final = "cloudevent"
MAPPED: Final = "mapped"
_ATTRIBUTES: Final = ("specversion", "id", "source", "type", "time", "subject")
EVENT_HEADERS: Final = frozenset(f"ce-{name}" for name in _ATTRIBUTES)
HEADERS: Final = EVENT_HEADERS | {MAPPING_HEADER}
_WRAPPER: Final = frozenset({"mapping", "payload"})
_NO_NAME: Final = "must be the name of a mapping"
_QUOTES: Final = (
    "If the body is a template, a quote, a backslash or a line break in one of its values breaks it: take the variable "
    "that the sender writes as JSON, without quotes around it, such as $NAME_JSON of Healthchecks."
)


def parse(delivery: Delivery, *, is_checked: bool) -> list[Any]:
    """Return the alerts in a body, each as it would be alone; ``is_checked``: it was when it was received.

    Raises:
        Refusal: it is no JSON object or list of such, or exceeds a bound.
        InvalidFields: the list is empty, or the mapping's name is none.
    """
    try:
        body = bounded_json.parse_any(delivery.body)
    except BodyNotJson:
        raise BodyNotJson(_QUOTES) from None
    if not is_checked:
        bounded_json.check(delivery.body, body)
    sent = body if isinstance(body, list) else [body]
    if not sent:
        raise InvalidFields(errors={"body": ["must hold an alert at least"]})
    name = delivery.headers.get(MAPPING_HEADER)
    if name is not None and not mappings.NAME.fullmatch(name):
        raise InvalidFields(errors={"mapping": [_NO_NAME]})
    # A dead letter has the headers of its delivery, and the part of one alert.
    if name is not None:
        return [each if resource(each) == MAPPED else {"mapping": name, "payload": each} for each in sent]
    if "ce-specversion" in delivery.headers and resource(body) != EVENT:
        return [{**_attributes(delivery.headers), "data": body}]
    return sent


def resource(sent: object) -> str:
    """Return what an alert of a body is: our own, an event, or mapped."""
    if not isinstance(sent, dict):
        return ALERT
    if sent.keys() == _WRAPPER:
        return MAPPED
    return EVENT if "specversion" in sent else ALERT


def part(sent: object, number: int, count: int, delivery: Delivery) -> AlertPart:
    """Return the part that is the alert ``sent``: the whole body as it came, if that says everything."""
    if count == 1 and not delivery.headers.keys() & HEADERS:
        return AlertPart(place="body", body=delivery.body)
    place = f"body[{number}]" if count > 1 else "body"
    return AlertPart(place=place, body=json.dumps(sent, separators=(",", ":")).encode())


def read(sent: object, of: AlertPart, known: Mapping[str, Mapped] | None) -> Element | None:
    """Return an alert; None: it is to be ignored. Without mappings ``known``, a mapped one is not looked at.

    Raises:
        UnexpectedShape: it cannot be read; ``field`` says where.
    """
    if not isinstance(sent, dict):
        raise UnexpectedShape("must be an object", field=of.place)
    kind = resource(sent)
    if kind == MAPPED:
        if known is None:
            return None
        element = _mapped(sent, of, known)
        if element.fields.get("status") == IGNORED:
            return None
    else:
        element = _event(sent, of) if kind == EVENT else Element(fields=sent, part=of, path=of.place)
    if found := problem(element.fields):
        name, must = found
        raise UnexpectedShape(must, field=f"{element.path}.{name}")
    return element


def _mapped(sent: Mapping[str, Any], of: AlertPart, known: Mapping[str, Mapped]) -> Element:
    name, place = sent["mapping"], f"{of.place}.mapping"
    if not isinstance(name, str) or not mappings.NAME.fullmatch(name):
        raise UnexpectedShape(_NO_NAME, field=place)
    if name not in known:
        raise UnknownMappingOfAlert(name, known, field=place)
    return Element(fields=mappings.apply(known[name], sent["payload"]), part=of, path=of.place)


def _event(sent: Mapping[str, Any], of: AlertPart) -> Element:
    if not str(sent["specversion"]).startswith("1."):
        raise UnexpectedShape("must be 1.0", field=f"{of.place}.specversion")
    for name in ("id", "source", "type"):
        if not isinstance(sent.get(name), str) or not sent[name]:
            raise UnexpectedShape("must be a text that is not empty", field=f"{of.place}.{name}")
    data = sent.get("data")
    if not isinstance(data, dict):
        raise UnexpectedShape("must be an object with the fields of an alert", field=f"{of.place}.data")
    fields = {"occurred_at": sent["time"], **data} if "time" in sent else data
    return Element(fields=fields, part=of, path=f"{of.place}.data", event_key=event_key(sent["source"], sent["id"]))


def _attributes(headers: Mapping[str, str]) -> dict[str, str]:
    # The binding to HTTP has values percent-encoded.
    return {name: unquote(headers[f"ce-{name}"]) for name in _ATTRIBUTES if f"ce-{name}" in headers}
