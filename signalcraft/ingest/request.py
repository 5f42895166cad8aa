"""Read a ``Delivery`` from an HTTP request: the body's raw bytes, bounded, and the headers that a source reads."""

import secrets
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, Final

from flask import Request
from werkzeug.exceptions import RequestTimeout
from werkzeug.http import parse_options_header

from signalcraft.domain.deliveries import Delivery
from signalcraft.domain.errors import BodyTooLarge, LengthRequired, UnsupportedMedia, UriTooLong

#: Legacy deliveries have a token there; to parse 60 kB of parameters took 28 ms before any signature was looked at.
_MAX_QUERY_LENGTH: Final = 1_024


_OUR_HEADERS: Final = "x-signalcraft-"


#: When the request that is served had arrived, on the monotonic clock; None outside our gunicorn worker.
_arrived_at: Final[ContextVar[float | None]] = ContextVar("arrived_at", default=None)


def set_arrival_time(at: float) -> None:
    """Set the arrival time of the request that is served next.

    It is monotonic; the request may have waited for a thread.
    """
    _arrived_at.set(at)


def seconds_waited() -> float:
    """Return how many seconds the request that is served has been complete."""
    at = _arrived_at.get()
    return 0.0 if at is None else time.monotonic() - at


def new_delivery_id() -> str:
    """Return an id for a delivery: 32 hex digits, first the time.

    Ids of one moment share a page of the index of events; each random one was on a page of its own.
    """
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def read(
    request: Request,
    *,
    kept_headers: Iterable[str],
    max_body_bytes: int,
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> Delivery:
    """Read the delivery in ``request``.

    The body is neither decoded nor parsed: its bytes are what is signed. ``kept_headers`` are lower-case; ``renamed``
    are those that come by another name. A header that came twice was joined with a comma by WSGI, and proves nothing.

    Raises:
        LengthRequired, BodyTooLarge, UnsupportedMedia, UriTooLong: it is not acceptable.
    """
    environ = request.environ  # a plain dictionary: most headers that are asked for are not there
    if len(environ.get("QUERY_STRING", "")) > _MAX_QUERY_LENGTH:
        raise UriTooLong
    body = read_body(request, max_body_bytes=max_body_bytes)
    _check_media(environ)
    sent = {name: environ.get(_variable(renamed.get(name, name))) for name in kept_headers}
    if environ.get("QUERY_STRING"):
        # A header of ours, which some senders cannot set, may be a parameter of the URL.
        ours = (name for name, value in sent.items() if value is None and name.startswith(_OUR_HEADERS))
        sent.update({name: request.args.get(name.removeprefix(_OUR_HEADERS)) for name in ours})
    return Delivery(
        headers={name: value for name, value in sent.items() if value is not None},
        body=body,
        received_at=datetime.now(UTC) - timedelta(seconds=seconds_waited()),
        url_token=request.args.get("token", "") if environ.get("QUERY_STRING") else "",
    )


@cache
def _variable(header: str) -> str:
    """Return what WSGI calls a header."""
    return f"HTTP_{header.upper().replace('-', '_')}"


def read_body(request: Request, *, max_body_bytes: int) -> bytes:
    """Read a body of known length.

    Nothing is read of one that is too large; ``web.server`` drains the connection. It is read from WSGI directly:
    Werkzeug's streams check the length again, and read in pieces.

    Raises:
        LengthRequired, BodyTooLarge: it is not acceptable.
    """
    environ = request.environ
    length = environ.get("CONTENT_LENGTH", "")
    if "HTTP_TRANSFER_ENCODING" in environ or not length.isdecimal():
        raise LengthRequired
    if len(length) > 18 or int(length) > max_body_bytes:  # Python refuses to convert thousands of digits
        raise BodyTooLarge
    try:
        body: bytes = environ["wsgi.input"].read(int(length))
    except OSError:  # the connection broke, or sent nothing for as long as web.server lets a thread wait
        raise RequestTimeout from None
    return body


def _check_media(environ: Mapping[str, Any]) -> None:
    plain = environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() in ("", "identity")
    if not plain or not _is_json(environ.get("CONTENT_TYPE", "")):
        raise UnsupportedMedia


@lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    """Return whether a body of the type is JSON in UTF-8."""
    media_type, parameters = parse_options_header(content_type)
    is_json = media_type.lower() == "application/json" or media_type.lower().endswith("+json")
    return is_json and parameters.get("charset", "utf-8").lower() in ("utf-8", "utf8")
