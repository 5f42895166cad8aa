"""Verify a delivery: by its Standard Webhooks signature, else the header Authorization, else the token in its URL.

The signature is that of https://www.standardwebhooks.com: base64 of HMAC-SHA256 over ``<id>.<timestamp>.<body>``; the
header may hold several, for several keys. A key is base64 after ``whsec_``; without that, its text is the key.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable, Sequence
from typing import Final

from signalcraft.domain.deliveries import Delivery, Secret
from signalcraft.domain.errors import BadSignature
from signalcraft.sources import authorization, verification
from signalcraft.sources.diagnosis import Candidate, Diagnosis, Verdict

BEARER: Final = "bearer"
SIGNED: Final = "signature"
URL: Final = "url"
ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"
HEADERS: Final = frozenset({authorization.HEADER, ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER})
_VERSION: Final = "v1"
_PREFIX: Final = b"whsec_"


def sign(body: bytes, secret: bytes, *, message_id: str, timestamp: str) -> str:
    """Return the signature of a message."""
    signed = b".".join([verification.header_bytes(message_id), verification.header_bytes(timestamp), body])
    return base64.b64encode(hmac.digest(_key(secret), signed, "sha256")).decode()


def verify(delivery: Delivery, secrets: Iterable[Secret]) -> Secret:
    """Return the secret that signed ``delivery``; that which it carries, if it is not signed.

    Raises:
        BadSignature: none did, or it was signed more than five minutes before or after it was received.
        BadCredentials: it is not signed, and carries none.
    """
    if SIGNATURE_HEADER in delivery.headers:
        return _signer(delivery, secrets)
    if authorization.HEADER in delivery.headers:
        return authorization.verify(delivery, secrets, BEARER)
    found = verification.find(secrets, URL, lambda value: value, [delivery.url_token.encode("utf-8", "surrogatepass")])
    if found is None:
        raise authorization.BadCredentials
    return found


def _signer(delivery: Delivery, secrets: Iterable[Secret]) -> Secret:
    headers = delivery.headers
    message_id, timestamp = headers.get(ID_HEADER, ""), headers.get(TIMESTAMP_HEADER, "")
    versioned = [each.partition(",") for each in headers[SIGNATURE_HEADER].split(" ")]
    found = verification.find(
        secrets,
        SIGNED,
        lambda value: sign(delivery.body, value, message_id=message_id, timestamp=timestamp).encode(),
        [verification.header_bytes(signature) for version, _, signature in versioned if version == _VERSION] or [b""],
    )
    if found is None or not message_id or not verification.is_recent(timestamp, delivery.received_at):
        raise BadSignature
    return found


def diagnose(_body: bytes, signature: str, _candidates: Sequence[Candidate]) -> Diagnosis:
    """Say what a signature is made of: it cannot be checked without the other two headers."""
    if not signature.strip():
        return authorization.explain("A sender without the header webhook-signature")
    return Diagnosis(
        verdict=Verdict.UNEXPLAINED,
        says="The signature is of the headers webhook-id and webhook-timestamp too, so a body alone proves nothing.",
        advice="Compare the secret of the sender with `secret list`, and both clocks: five minutes is the limit.",
    )


def _key(secret: bytes) -> bytes:
    if secret.startswith(_PREFIX):
        try:
            # It may lack its padding. An empty key would let anybody sign.
            return base64.b64decode(secret.removeprefix(_PREFIX) + b"==") or secret
        except binascii.Error:
            return secret
    return secret
