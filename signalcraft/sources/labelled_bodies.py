"""Open, identify and normalize deliveries whose body has a list ``alerts`` of labelled alerts."""

import hashlib
from typing import Any, Final

from signalcraft.domain import bounded_json
from signalcraft.domain.alerts import Normalization, Vocabulary
from signalcraft.domain.deliveries import Delivery, Identity
from signalcraft.domain.errors import InvalidFields, Refusal, UnexpectedShape
from signalcraft.sources import labelled_alerts
from signalcraft.sources.labelled_alerts import FIRING, RESOLVED, RESOURCE, Dialect
from signalcraft.sources.protocol import check_number

NO_ALERT: Final = "no_alert"
_PLAIN: Final = Vocabulary()


def identify(delivery: Delivery, _vocabulary: Vocabulary = _PLAIN, *, dialect: Dialect) -> Identity:
    """Return the resource, the action and the delivery key.

    Raises:
        BodyNotJson, BodyNotObject: the body is no JSON object.
        BodyNumberTooLong, BodyTooDeep, BodyTooManyValues, BodyDuplicateKey: the JSON exceeds a bound.
        InvalidFields: it is not of the version that the sender itself writes, or holds too many alerts.
    """
    body = _open(delivery.body, dialect, is_checked=False)
    check_number(body["alerts"])
    status = body.get("status")
    return Identity(
        resource=RESOURCE,
        action=status if status in (FIRING, RESOLVED) else "unknown",
        delivery_key=_delivery_key(delivery),
        ignored="" if body["alerts"] else NO_ALERT,
        is_canary=labelled_alerts.is_canary(body),
    )


def normalize(delivery: Delivery, vocabulary: Vocabulary = _PLAIN, *, dialect: Dialect) -> Normalization:
    """Return the alerts that fire, the ends of those that are over, and what cannot be read.

    Raises:
        UnexpectedShape: :func:`identify` would have refused it.
    """
    try:
        body = _open(delivery.body, dialect, is_checked=True)
    except Refusal as refusal:
        raise UnexpectedShape(refusal.title, field=next(iter(refusal.errors), "")) from refusal
    return labelled_alerts.normalize(body, delivery, dialect, vocabulary)


def _open(raw: bytes, dialect: Dialect, *, is_checked: bool) -> dict[str, Any]:
    """Parse a body; ``is_checked``: that it is within all bounds was checked when it was received.

    Raises:
        Refusal: it is no JSON object, exceeds a bound, or is not of this version.
    """
    body = bounded_json.parse(raw)
    if not is_checked:
        bounded_json.check(raw, body)
    errors = {}
    if body.get("version") != dialect.version:
        errors["version"] = [f'must be "{dialect.version}": the sender\'s own body, no payload of your own']
    if not isinstance(body.get("alerts"), list):
        errors["alerts"] = ["must be a list"]
    if errors:
        raise InvalidFields(errors=errors)
    return body


def _delivery_key(delivery: Delivery) -> str:
    """Return the key that a redelivery shares: its bytes, and the minute of receipt.

    A repeat of an alert that lasts has the same bytes as the first delivery, and comes after minutes or hours. A
    redelivery in the next minute counts as a repeat, which does no harm.
    """
    minute = delivery.received_at.strftime("%Y-%m-%dT%H:%M")
    return f"{RESOURCE}:{hashlib.sha256(delivery.body).hexdigest()}:{minute}"
