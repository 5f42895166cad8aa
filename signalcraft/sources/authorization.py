"""Verify senders that do not sign: they carry a token in the header Authorization, as Bearer or as Basic's password."""

import base64
import binascii
from collections.abc import Iterable

from signalcraft.domain.deliveries import Delivery, Secret
from signalcraft.domain.errors import BadSignature
from signalcraft.sources import verification
from signalcraft.sources.diagnosis import Diagnosis, Verdict

#: It is read to verify a delivery, and never stored with it.
HEADER = "authorization"


class BadCredentials(BadSignature):
    """As a wrong signature, of a sender that does not sign."""

    title = "The Authorization header has no live secret of this workspace, as bearer token or as password."
    challenge = 'Bearer realm="webhooks", Basic realm="webhooks"'


def verify(delivery: Delivery, secrets: Iterable[Secret], kind: str) -> Secret:
    """Return the secret of ``kind`` that ``delivery`` carries.

    Raises:
        BadCredentials: it carries none of them.
    """
    offered = _offered(delivery.headers.get(HEADER, ""))
    found = verification.find(secrets, kind, lambda value: value, [offered])
    if found is None:
        raise BadCredentials
    return found


def explain(title: str) -> Diagnosis:
    """Return the diagnosis of any delivery of a sender that does not sign."""
    return Diagnosis(
        verdict=Verdict.UNSIGNED,
        says=f"{title} does not sign: each delivery carries a secret in the header Authorization.",
        advice="Compare the token or password in its configuration with the secret that `secret list` shows as live.",
    )


def _offered(header: str) -> bytes:
    """Return the token, or the password, in ``header``; empty if there is none. The user's name is of no matter."""
    scheme, _, value = header.strip().partition(" ")
    if scheme.lower() == "bearer":
        return verification.header_bytes(value.strip())
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(verification.header_bytes(value.strip()), validate=True).partition(b":")[2]
    except binascii.Error:
        return b""
