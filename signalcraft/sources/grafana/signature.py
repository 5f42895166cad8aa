"""Verify a delivery: by its signature, or by the token in the header Authorization.

Grafana signs since version 12: lower-case hex HMAC-SHA256 of the body, or of ``<timestamp>:<body>`` where it was given
a name for a header with the timestamp. Both names are chosen where it is configured.
"""

import hmac
from collections.abc import Iterable, Sequence
from typing import Final

from signalcraft.domain.deliveries import Delivery, Secret
from signalcraft.domain.errors import BadSignature
from signalcraft.sources import authorization, verification
from signalcraft.sources.diagnosis import Candidate, Diagnosis, Verdict, of_signer
from signalcraft.sources.protocol import SourceSetting, header_name

TITLE: Final = "Grafana"
BEARER: Final = "bearer"
SIGNED: Final = "hmac"
SIGNATURE_HEADER: Final = "x-grafana-alerting-signature"
TIMESTAMP_HEADER: Final = "x-grafana-alerting-timestamp"
HEADERS: Final = frozenset({authorization.HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER})
HEADER_SETTINGS: Final = (
    SourceSetting(
        variable="GRAFANA_HMAC_HEADER",
        values="the name of a header",
        parse=header_name,
        purpose="Header with the signature: HMAC Signature ▸ Header in Grafana's contact point.",
        default="X-Grafana-Alerting-Signature",
        header=SIGNATURE_HEADER,
    ),
    SourceSetting(
        variable="GRAFANA_HMAC_TIMESTAMP_HEADER",
        values="the name of a header",
        parse=header_name,
        purpose="Header with the signed time: HMAC Signature ▸ Timestamp Header in Grafana's contact point.",
        default="X-Grafana-Alerting-Timestamp",
        header=TIMESTAMP_HEADER,
    ),
)


def sign(body: bytes, secret: bytes, timestamp: str = "") -> str:
    """Return the signature that Grafana would send with ``body``."""
    signed = verification.header_bytes(timestamp) + b":" + body if timestamp else body
    return hmac.digest(secret, signed, "sha256").hex()


def verify(delivery: Delivery, secrets: Iterable[Secret]) -> Secret:
    """Return the secret that signed ``delivery``; that which it carries, if it is not signed.

    Raises:
        BadSignature: none did, or it was signed more than five minutes before or after it was received.
        BadCredentials: it is not signed, and carries none.
    """
    signature = delivery.headers.get(SIGNATURE_HEADER)
    if signature is None:
        return authorization.verify(delivery, secrets, BEARER)
    timestamp = delivery.headers.get(TIMESTAMP_HEADER, "")
    found = verification.find(
        secrets,
        SIGNED,
        lambda value: sign(delivery.body, value, timestamp).encode(),
        [verification.header_bytes(signature)],
    )
    if found is None or (timestamp and not verification.is_recent(timestamp, delivery.received_at)):
        raise BadSignature
    return found


def diagnose(body: bytes, signature: str, candidates: Sequence[Candidate]) -> Diagnosis:
    """Find which secret made ``signature``, its digits or a whole header line, of ``body`` alone."""
    offered = signature.rpartition(":")[2].strip()
    if not offered:
        return authorization.explain(TITLE)
    made = [each for each in candidates if sign(body, each.secret.value) == offered]
    match = next((each for each in made if each.secret.kind == SIGNED), None)
    if made and match is None:
        return Diagnosis(
            verdict=Verdict.OTHER_FAMILY,
            says=f"{made[0]} signed it, and is of the kind {made[0].secret.kind}; a signature needs {SIGNED}.",
            advice=f"Set it as GRAFANA_HMAC_SECRET, or add it: `secret add --source grafana --kind {SIGNED}`.",
        )
    return of_signer(
        match,
        TITLE,
        "Compare the secret in its contact point with `secret list`. If that names a timestamp header, the signature "
        "is of the time too, which cannot be checked here. A proxy must not change the body.",
    )
