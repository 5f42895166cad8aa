"""HTTP client of the command line: post a delivery, read the API."""

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
    """No server responds at the URL, or the URL is invalid."""


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response; ``body`` is an empty mapping if it is not a JSON object."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Return whether the status is 2xx.

        A redirect is no success.
        """
        return 200 <= self.status < 300

    @property
    def summary(self) -> str:
        """Return the HTTP status with ``status`` or ``code``.

        A success has a ``status``, a problem a ``code``.
        """
        return f"{self.status} {self.body.get('status' if self.accepted else 'code', '')}".strip()


def post(url: str, body: bytes, headers: Mapping[str, str], *, timeout: float = _TIMEOUT_SECONDS) -> Response:
    """POST ``body`` unchanged.

    Raises:
        ServerUnreachable: no server responds.
    """
    return _call("POST", url, body, headers, timeout)


def get(url: str, *, token: str = "") -> Response:
    """Send a GET request to ``url``.

    ``token`` is sent as bearer token unless it is empty.

    Raises:
        ServerUnreachable: no server responds.
    """
    return _call("GET", url, b"", {"Authorization": f"Bearer {token}"} if token else {}, _TIMEOUT_SECONDS)


def _call(method: str, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Response:
    try:
        with closing(_connection(url, timeout)) as connection:
            parts = urlsplit(url)
            target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
            connection.request(method, target, body or None, dict(headers))
            response = connection.getresponse()
            return Response(response.status, as_object(response.read()))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ServerUnreachable(f"No response from {url.partition('?')[0]}: {error}.") from error


def _connection(url: str, timeout: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    kinds: dict[str, type[http.client.HTTPConnection]] = {
        "http": http.client.HTTPConnection,
        "https": http.client.HTTPSConnection,
    }
    if parts.scheme not in kinds or not parts.hostname:
        raise ValueError("it must begin with http:// or https://")
    return kinds[parts.scheme](parts.hostname, parts.port, timeout=timeout)


def as_object(text: bytes) -> Mapping[str, Any]:
    """Return the JSON object in ``text``, or an empty mapping."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
