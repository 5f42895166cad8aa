"""Who sent it: the families of Sentry's requests, told by their headers, and the proof of a signature.

Sentry signs the raw body and nothing else (``build_signature`` in Sentry's
``sentry_apps/models/sentry_app.py``): lower-case hex HMAC-SHA256, keyed with the integration's
client secret. Service hooks sign the same way with a secret of their own; the legacy plugin does not
sign, so a token in its URL has to do.
"""

import hmac
from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType

from signalcraft.domain.deliveries import Delivery, Secret
from signalcraft.domain.errors import BadSignature, UiComponentRequest

RESOURCE_HEADER = "sentry-hook-resource"
IDEMPOTENCY_HEADER = "idempotency-key"


class Family(StrEnum):
    """Which of its senders Sentry used, by the header that carries the signature."""

    INTEGRATION = "sentry-hook-signature"
    SERVICE_HOOK = "x-servicehook-signature"
    UI_COMPONENT = "sentry-app-signature"
    LEGACY = ""


#: The headers this source reads, lower-case. Nothing else of a request's head needs to be kept.
HEADERS = frozenset({RESOURCE_HEADER, IDEMPOTENCY_HEADER, *(family.value for family in Family if family)})

#: The kind of secret that explains a family.
SECRET_KINDS: Mapping[Family, str] = MappingProxyType(
    {
        Family.INTEGRATION: "integration",
        Family.UI_COMPONENT: "integration",
        Family.SERVICE_HOOK: "servicehook",
        Family.LEGACY: "legacy",
    }
)

# Stands in where a workspace has no secret, so that its answer takes as long as any other.
_NOBODY = Secret(name="nobody", kind="", value=b"no secret has this value")


def family_of(headers: Mapping[str, str]) -> Family:
    """The family of a request: that of the signature it carries, or legacy where it carries none."""
    if RESOURCE_HEADER in headers or Family.INTEGRATION in headers:
        return Family.INTEGRATION
    for family in (Family.SERVICE_HOOK, Family.UI_COMPONENT):
        if family in headers:
            return family
    return Family.LEGACY


def sign(body: bytes, secret: bytes) -> str:
    """The signature that Sentry would send with ``body``."""
    return hmac.digest(secret, body, "sha256").hex()


def verify(delivery: Delivery, secrets: Iterable[Secret]) -> Secret:
    """The secret that explains ``delivery``. Every secret of the fitting kind is tried, whichever matches.

    Raises:
        BadSignature: none does, there is none, or nothing is there to be explained.
        UiComponentRequest: the signature is good, on a call of a UI component.
    """
    family = family_of(delivery.headers)
    fitting = [secret for secret in secrets if secret.kind == SECRET_KINDS[family] and secret.value]
    offered = delivery.headers.get(family, "") if family else delivery.url_token
    # Bytes, since compare_digest raises on text outside ASCII; a proxy may pass on any.
    offered_bytes = offered.encode("utf-8", "surrogatepass")
    found: Secret | None = None
    for secret in fitting or [_NOBODY]:
        expected = sign(delivery.body, secret.value).encode() if family else secret.value
        if hmac.compare_digest(expected, offered_bytes):
            found = secret
    if found is None or found is _NOBODY:
        raise BadSignature
    if family is Family.UI_COMPONENT:
        raise UiComponentRequest
    return found
