"""Post to a receiver over HTTP, and read its answer as an outcome. Shared by the kinds that speak HTTP."""

import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from signalcraft.notify.contract import DETAIL_LIMIT, Outcome, OutcomeKind, Secret
from signalcraft.notify.receivers.deadline import Deadline

_CONNECT_SECONDS: Final = 3.0
_TOTAL_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 2.0
_ANSWER_BYTES: Final = 64 * 1024
_CHUNK_BYTES: Final = 8 * 1024

_HEADERS: Final[Mapping[str, str]] = {"Content-Type": "application/json", "User-Agent": "SignalCraft"}

#: The receiver's configuration is wrong: no message will be accepted until somebody mends it.
_BROKEN: Final = frozenset({401, 403, 404, 405, 410})
_TRY_AGAIN: Final = frozenset({408, 425})

#: A call that did not get to send anything: it is safe to try again.
_NOT_SENT: Final = (
    (NameResolutionError, "dns"),
    (NewConnectionError, "connect"),  # before the timeout, which it derives from
    (ConnectTimeoutError, "connect_timeout"),
    (SSLError, "tls"),
)
#: A call whose message may have arrived.
_MAY_HAVE_ARRIVED: Final = ((ReadTimeoutError, "timeout"), (ProtocolError, "connection_lost"))

Judge = Callable[[int, bytes], Outcome | None]


#: A part of a URL or a key that may be the secret in it.
_SECRET_WORD: Final = re.compile(r"[\w-]{8,}")


class HttpClient:
    """Posts to one receiver, over connections that are kept."""

    def __init__(self, *secrets: Secret, total_seconds: float = _TOTAL_SECONDS) -> None:
        """Create a client. Nothing is retried or redirected: the notifier decides.

        ``secrets`` are taken out of what the receiver answers, the URL's too: many servers repeat it.
        """
        self._secret_words = {word for secret in secrets for word in _SECRET_WORD.findall(_without_host(secret.value))}
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, total=total_seconds)
        self._pool = urllib3.PoolManager(num_pools=4, maxsize=1, timeout=timeout, retries=False)
        self._deadline = Deadline(total_seconds + _ANSWER_SECONDS / 2)

    def post(
        self, url: Secret, body: bytes, headers: Mapping[str, str] = _HEADERS, *, judge: Judge | None = None
    ) -> Outcome:
        """Post ``body``, which is JSON, once and return the outcome.

        ``judge`` may decide by status and answer, for receivers that say in the answer what went wrong; ``None`` from
        it leaves the decision to the status.
        """
        return self._deadline.run(lambda: self._post(url, body, headers, judge))

    def _post(self, url: Secret, body: bytes, headers: Mapping[str, str], judge: Judge | None) -> Outcome:
        try:
            response = self._pool.request(
                "POST", url.value, body=body, headers={**_HEADERS, **headers}, redirect=False, preload_content=False
            )
        except HTTPError as error:
            return _of_error(error)
        except (OSError, ValueError):
            return Outcome(kind=OutcomeKind.RETRY, code="connect")
        with response:
            answer = _read(response)
        found = judge(response.status, answer) if judge else None
        outcome = found or by_status(response.status, answer, response.headers.get("Retry-After"))
        return replace(outcome, detail=self._without_secrets(outcome.detail))

    def _without_secrets(self, text: str) -> str:
        for word in self._secret_words:
            text = text.replace(word, str(Secret(word)))
        return text[:DETAIL_LIMIT]


def _without_host(text: str) -> str:
    """Return ``text`` without the host, if it is a URL."""
    return text.replace(urlsplit(text).netloc.rpartition("@")[2], "", 1)


def _read(response: urllib3.BaseHTTPResponse) -> bytes:
    """Read the answer up to a size and a time; what is longer, later or broken off is left unread.

    The status has decided by now: the receiver has the message, or does not want it.
    """
    answer, until = b"", time.monotonic() + _ANSWER_SECONDS
    with suppress(HTTPError, OSError):
        while len(answer) < _ANSWER_BYTES and time.monotonic() < until:
            chunk = response.read1(_CHUNK_BYTES)
            if not chunk:
                break
            answer += chunk
    return answer[:_ANSWER_BYTES]


def by_status(status: int, answer: bytes, retry_after: str | None = None) -> Outcome:
    """Return the outcome that an HTTP status means."""
    code, detail = f"http_{status}", answer.decode("utf-8", "replace")
    wait = parse_retry_after(retry_after)
    if 200 <= status < 300:
        return Outcome(kind=OutcomeKind.SENT, code=code, http_status=status)
    if status == 429 or (status == 503 and wait is not None):
        return Outcome(kind=OutcomeKind.RATE_LIMITED, code=code, http_status=status, retry_after=wait, detail=detail)
    if status in _BROKEN or 300 <= status < 400:
        kind = OutcomeKind.BROKEN
    elif 400 <= status < 500 and status not in _TRY_AGAIN:
        kind = OutcomeKind.REFUSED
    else:
        kind = OutcomeKind.RETRY
    return Outcome(kind=kind, code=code, http_status=status, detail=detail)


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110, 10.2.3); None if it is none."""
    if not value:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value.strip()[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)


def _of_error(error: HTTPError) -> Outcome:
    """Return the outcome of a call without an answer. The error's text may hold the URL: only our code is kept."""
    for kinds, outcome in ((_NOT_SENT, OutcomeKind.RETRY), (_MAY_HAVE_ARRIVED, OutcomeKind.UNKNOWN)):
        for kind, code in kinds:
            if isinstance(error, kind):
                return Outcome(kind=outcome, code=code)
    return Outcome(kind=OutcomeKind.RETRY, code="connect")
