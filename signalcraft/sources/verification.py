"""Compare what a delivery carries with the secrets of its workspace."""

import hmac
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from signalcraft.domain.deliveries import Secret
from signalcraft.sources import cleaning

#: How far a signed time may be from that of receipt.
TOLERANCE: Final = timedelta(minutes=5)
# Used if a workspace has no secret, so that its response takes as long as any other.
_PLACEHOLDER: Final = Secret(name="placeholder", kind="", value=b"no secret has this value")


def find(
    secrets: Iterable[Secret], kind: str, expected: Callable[[bytes], bytes], offered: Sequence[bytes]
) -> Secret | None:
    """Return the secret of ``kind`` for whose value one of ``offered`` is ``expected``.

    Tries all, even after a match, so that the time reveals nothing.
    """
    found: Secret | None = None
    fitting = [secret for secret in secrets if secret.kind == kind and secret.value]
    for secret in fitting or [_PLACEHOLDER]:
        value = expected(secret.value)
        for each in offered:
            if hmac.compare_digest(value, each):
                found = secret
    return None if found is _PLACEHOLDER else found


def is_recent(timestamp: str, received_at: datetime) -> bool:
    """Return whether a signed time, in seconds since 1970, is close to that of receipt."""
    if not (timestamp.isascii() and timestamp.isdigit()):
        return False
    signed_at = cleaning.time(timestamp)
    return signed_at is not None and abs(received_at - signed_at) <= TOLERANCE


def header_bytes(text: str) -> bytes:
    """Return the bytes of a header's text, which WSGI decodes as Latin-1."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
