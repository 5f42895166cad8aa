"""The command line's side of HTTP: post a delivery, read the API."""

import http.client
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from signalcraft.domain.errors import SignalCraftError

_TIMEOUT_SECONDS = 10.0


class ServerUnreachable(SignalCraftError):  # noqa: N818 - reads as DatabaseUnavailable does
    """Nobody answers at a URL, or it is none."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a server said; ``body`` is an empty mapping where it was not a JSON object."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether the server took what it was sent: a redirect is no success."""
        return 200 <= self.status < 300

    @property
    def said(self) -> str:
        """The status, and what the body calls it: a status of the interface, or the code of a refusal."""
        return f"{self.status} {self.body.get('status' if self.accepted else 'code', '')}".strip()


def post(url: str, body: bytes, headers: Mapping[str, str]) -> Response:
    """POST ``body`` as it is.

    Raises:
        ServerUnreachable: there is no answer.
    """
    return _call("POST", url, body, headers)


def get(url: str, *, token: str = "") -> Response:
    """GET ``url``, with ``token`` as the bearer token if there is one.

    Raises:
        ServerUnreachable: there is no answer.
    """
    return _call("GET", url, b"", {"Authorization": f"Bearer {token}"} if token else {})


def _call(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Response:
    try:
        with closing(_connection(url)) as connection:
            parts = urlsplit(url)
            target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
            connection.request(method, target, body or None, dict(headers))
            response = connection.getresponse()
            return Response(response.status, as_object(response.read()))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ServerUnreachable(f"No answer from {url.partition('?')[0]}: {error}.") from error


def _connection(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    kinds: dict[str, type[http.client.HTTPConnection]] = {
        "http": http.client.HTTPConnection,
        "https": http.client.HTTPSConnection,
    }
    if parts.scheme not in kinds or not parts.hostname:
        raise ValueError("it must begin with http:// or https://")
    return kinds[parts.scheme](parts.hostname, parts.port, timeout=_TIMEOUT_SECONDS)


def as_object(text: bytes) -> Mapping[str, Any]:
    """The JSON object in ``text``, or an empty one."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
