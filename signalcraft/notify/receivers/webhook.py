"""The kind ``webhook``: one signed POST for each event, by Standard Webhooks (standardwebhooks.com).

``webhook-id`` is the same in every attempt: the receiver's idempotency key. ``webhook-timestamp`` is that of the
attempt. The signature is HMAC-SHA256 over ``id.timestamp.body``, one for each live secret.
"""

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import orjson
from marshmallow import Schema, ValidationError, fields

from signalcraft.groups.reading.group_schema import write_time
from signalcraft.notify.contract import Message, Outcome, Receiver, Secret
from signalcraft.notify.options import UrlField
from signalcraft.notify.receivers.http import HttpClient

_PREFIX: Final = "whsec_"
_KEY_BYTES: Final = range(24, 65)


class _SigningSecrets(fields.Field[tuple[Secret, ...]]):
    """One secret or several, comma-separated: ``whsec_`` and 24 to 64 bytes in base64. Each signs, for rotation."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> tuple[Secret, ...]:  # noqa: ANN401, ARG002 - marshmallow's signature
        text = value.value if isinstance(value, Secret) else value if isinstance(value, str) else ""
        secrets = tuple(Secret(part.strip()) for part in text.split(",") if part.strip())
        if not secrets or any(len(_key(secret)) not in _KEY_BYTES for secret in secrets):
            raise ValidationError("must be whsec_ and 24 to 64 bytes in base64, or env:NAME")
        return secrets


def _key(secret: Secret) -> bytes:
    if not secret.value.startswith(_PREFIX):
        return b""
    try:
        return base64.b64decode(secret.value.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        return b""


class _Options(Schema):
    url = UrlField(required=True)
    secrets = _SigningSecrets(required=True, data_key="secret")


class WebhookReceiver(Receiver):
    """Posts JSON, signed."""

    kind: ClassVar[str] = "webhook"
    options: ClassVar[type[Schema]] = _Options

    def __init__(self, name: str, url: Secret, secrets: Sequence[Secret]) -> None:
        """Create the receiver ``name``; each of ``secrets`` signs."""
        self.name = name
        self._url = url
        self._keys = [_key(secret) for secret in secrets]
        self._client = HttpClient(url, *secrets)

    def send(self, message: Message) -> Outcome:
        """Post ``message`` once."""
        body = render(message)
        return self._client.post(self._url, body, self.sign(message, body))

    def sign(self, message: Message, body: bytes) -> dict[str, str]:
        """Return the headers of Standard Webhooks for ``body``."""
        timestamp = str(int(message.attempted_at.timestamp()))
        signed = b".".join((message.notification_id.encode(), timestamp.encode(), body))
        digests = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in self._keys)
        return {
            "webhook-id": message.notification_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": " ".join(f"v1,{digest}" for digest in digests),
        }


def render(message: Message) -> bytes:
    """Return the JSON body of ``message``."""
    data: dict[str, Any] = {
        "notification_id": message.notification_id,
        "reason": message.reason,
        "title": message.title,
        "group": message.group,
        "url": message.url,
    }
    if message.digest is not None:
        data["digest"] = {
            "opened": message.digest.opened,
            "resolved": message.digest.resolved,
            "since": write_time(message.digest.since),
            "groups": message.digest.worst,
            "group_ids": message.digest.ids,
        }
    subject = "group" if message.group is not None else "groups" if message.digest is not None else "signalcraft"
    body = {"type": f"{subject}.{message.reason}", "timestamp": write_time(message.attempted_at), "data": data}
    return orjson.dumps(body)
