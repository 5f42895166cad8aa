"""Signature verification, and the families of Sentry's requests, recognised by their headers.

Sentry signs the raw body and nothing else (``build_signature`` in Sentry's
``sentry_apps/models/sentry_app.py``): lower-case hex HMAC-SHA256, keyed with the integration's
client secret. Service hooks sign the same way with their own secret; the legacy plugin does not
sign, so a token in its URL replaces the signature.
"""

import hmac
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

from signalcraft.domain.deliveries import Delivery, Secret
from signalcraft.domain.errors import BadSignature, Refusal
from signalcraft.sources import verification
from signalcraft.sources.sentry.errors import UiComponentRequest

RESOURCE_HEADER = "sentry-hook-resource"
IDEMPOTENCY_HEADER = "idempotency-key"


class Family(StrEnum):
    """Kinds of requests that Sentry sends, by the header that carries the signature."""

    INTEGRATION = "sentry-hook-signature"
    SERVICE_HOOK = "x-servicehook-signature"
    UI_COMPONENT = "sentry-app-signature"
    LEGACY = ""


#: The headers that this source reads, lower-case. No other header needs to be stored.
HEADERS = frozenset({RESOURCE_HEADER, IDEMPOTENCY_HEADER, *(family.value for family in Family if family)})

#: The kind of secret that verifies a family.
SECRET_KINDS: Final[Mapping[Family, str]] = {
    Family.INTEGRATION: "integration",
    Family.UI_COMPONENT: "integration",
    Family.SERVICE_HOOK: "servicehook",
    Family.LEGACY: "legacy",
}


def family_of(headers: Mapping[str, str]) -> Family:
    """Return the family of a request by its signature header.

    A request without one is legacy.
    """
    if RESOURCE_HEADER in headers or Family.INTEGRATION in headers:
        return Family.INTEGRATION
    for family in (Family.SERVICE_HOOK, Family.UI_COMPONENT):
        if family in headers:
            return family
    return Family.LEGACY


def misdirected(headers: Mapping[str, str]) -> Refusal | None:
    """Name a request of a UI component, which calls other paths than the webhook's."""
    return UiComponentRequest() if family_of(headers) is Family.UI_COMPONENT else None


def sign(body: bytes, secret: bytes) -> str:
    """Return the signature that Sentry would send with ``body``."""
    return hmac.digest(secret, body, "sha256").hex()


def verify(delivery: Delivery, secrets: Iterable[Secret]) -> Secret:
    """Return the secret that verifies ``delivery``.

    Tries every secret of the right kind, even after a match, so that the time reveals nothing.

    Raises:
        BadSignature: no secret verifies it, there is no secret, or no signature.
        UiComponentRequest: the signature is valid, on a call of a UI component.
    """
    family = family_of(delivery.headers)
    offered = delivery.headers.get(family, "") if family else delivery.url_token
    found = verification.find(
        secrets,
        SECRET_KINDS[family],
        lambda value: sign(delivery.body, value).encode() if family else value,
        # Bytes, since compare_digest raises on text outside ASCII, and a header may hold any text.
        [offered.encode("utf-8", "surrogatepass")],
    )
    if found is None:
        raise BadSignature
    if family is Family.UI_COMPONENT:
        raise UiComponentRequest
    return found
