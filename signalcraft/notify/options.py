"""Fields of receivers' options: secrets, URLs, addresses."""

from typing import Any
from urllib.parse import urlsplit

from marshmallow import ValidationError, fields

from signalcraft.notify.contract import Secret

#: Hosts that are this machine: no connection to them leaves it.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class OneOrMore(fields.List[Any]):
    """A list; one value alone is a list of it."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **others: Any) -> list[Any]:  # noqa: ANN401 - marshmallow's signature
        return super()._deserialize(value if isinstance(value, list) else [value], attr, data, **others)


class SecretField(fields.Field[Secret]):
    """A secret, written as ``env:NAME`` in the file."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Secret:  # noqa: ANN401, ARG002 - marshmallow's signature
        if not isinstance(value, Secret):
            raise ValidationError("must be env:NAME, the name of an environment variable that holds the secret")
        return value


class UrlField(fields.Field[Secret]):
    """An https URL, or http to this machine; as text or as ``env:NAME``. Kept as a secret: a path may be one."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Secret:  # noqa: ANN401, ARG002 - marshmallow's signature
        secret = value if isinstance(value, Secret) else Secret(value if isinstance(value, str) else "")
        try:
            parts = urlsplit(secret.value)
            is_secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
            usable = is_secure and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            usable = False
        if not usable or not secret.value.isprintable() or " " in secret.value:
            raise ValidationError("must be an https:// URL (http:// to this machine alone)")
        if "@" in urlsplit(secret.value).netloc:
            raise ValidationError("must hold no user or password: they are not sent")
        return secret
