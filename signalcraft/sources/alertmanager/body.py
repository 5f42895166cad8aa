"""The body of a delivery, and its key."""

import hashlib
from typing import Any, Final

from signalcraft.domain import bounded_json
from signalcraft.domain.deliveries import Delivery
from signalcraft.domain.errors import InvalidFields
from signalcraft.sources import labelled_alerts

VERSION: Final = "4"


def open_body(raw: bytes, *, is_checked: bool) -> dict[str, Any]:
    """Parse a body; ``is_checked``: that it is within all bounds was checked when it was received.

    Raises:
        Refusal: it is no JSON object, exceeds a bound, or is not of this version.
    """
    body = bounded_json.parse(raw)
    if not is_checked:
        bounded_json.check(raw, body)
    errors = {}
    if body.get("version") != VERSION:
        errors["version"] = [f'must be "{VERSION}": the body of Alertmanager itself, no payload of your own']
    if not isinstance(body.get("alerts"), list):
        errors["alerts"] = ["must be a list"]
    if errors:
        raise InvalidFields(errors=errors)
    return body


def delivery_key(delivery: Delivery) -> str:
    """Return the key that a redelivery shares: its bytes, and the minute of receipt.

    A repeat of an alert that lasts has the same bytes as the first delivery, and comes after minutes or hours. A
    redelivery in the next minute counts as a repeat, which does no harm.
    """
    minute = delivery.received_at.strftime("%Y-%m-%dT%H:%M")
    return f"{labelled_alerts.RESOURCE}:{hashlib.sha256(delivery.body).hexdigest()}:{minute}"
