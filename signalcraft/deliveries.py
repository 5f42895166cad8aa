"""An HTTP request into a ``Delivery``: the body's bytes as they came, bounded, and the headers that a source reads."""

import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from flask import Request
from werkzeug.exceptions import RequestTimeout

from signalcraft.alerts import Delivery
from signalcraft.errors import BodyTooLarge, LengthRequired, UnsupportedMedia


class _Arrival(threading.local):
    """When the request that this thread has was there, on the monotonic clock; None where nobody noted it."""

    at: float | None = None


_arrival = _Arrival()


def note_arrival(at: float) -> None:
    """The request that this thread serves now was all there ``at`` that moment (monotonic); it may have waited."""
    _arrival.at = at


def seconds_waited() -> float:
    """How long the request of this thread has been there."""
    return 0.0 if _arrival.at is None else time.monotonic() - _arrival.at


def read(request: Request, *, kept_headers: Iterable[str], max_body_bytes: int) -> Delivery:
    """The delivery in ``request``. The body is neither decoded nor parsed: its bytes are what is signed.

    ``kept_headers`` are lower-case. A header that came twice was joined with a comma by WSGI, and proves nothing.

    Raises:
        LengthRequired, BodyTooLarge, UnsupportedMedia: it is none that we take.
    """
    body = _read_body(request, max_body_bytes)
    _check_media(request)
    sent = {name: request.environ.get(f"HTTP_{name.upper().replace('-', '_')}") for name in kept_headers}
    return Delivery(
        headers={name: value for name, value in sent.items() if value is not None},
        body=body,
        received_at=datetime.now(UTC) - timedelta(seconds=seconds_waited()),
        url_token=request.args.get("token", ""),
    )


def _read_body(request: Request, max_body_bytes: int) -> bytes:
    """A body without a length is not taken: Werkzeug would cut it at the limit and say nothing.

    Of one that is too large nothing is read; who is still sending it is listened to by ``arrivals``.
    """
    length = request.headers.get("Content-Length", "")
    if "Transfer-Encoding" in request.headers or not length.isdecimal():
        raise LengthRequired
    if len(length) > 18 or int(length) > max_body_bytes:  # Python refuses to convert thousands of digits
        raise BodyTooLarge
    try:
        return request.get_data(cache=False)
    except OSError:  # the connection broke, or had nothing more to say for longer than arrivals lets a thread wait
        raise RequestTimeout from None


def _check_media(request: Request) -> None:
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    plain = request.headers.get("Content-Encoding", "identity").strip().lower() in ("", "identity")
    if request.mimetype != "application/json" or charset not in ("utf-8", "utf8") or not plain:
        raise UnsupportedMedia
