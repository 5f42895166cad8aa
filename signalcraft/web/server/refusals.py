"""Responses to what never becomes a request: the application does not see it."""

from dataclasses import dataclass
from typing import Final

from gunicorn.http.errors import ExpectationFailed, LimitRequestHeaders, ParseException, UnsupportedTransferCoding

from signalcraft.domain.errors import Refusal, Unavailable
from signalcraft.ingest.durable_enqueue import RETRY_AFTER_SECONDS
from signalcraft.web import problem_details


@dataclass(frozen=True, slots=True)
class ConnectionRefusal:
    """A response of RFC 9457 to what never becomes a request."""

    status: int
    code: str
    title: str
    retry_after: int = 0

    def as_bytes(self) -> bytes:
        """Return the whole response, head and body."""
        retry = f"Retry-After: {self.retry_after}\r\n" if self.retry_after else ""
        body = problem_details.as_json({"title": self.title, "status": self.status, "code": self.code}).encode()
        head = (
            f"HTTP/1.1 {self.status} {self.title}\r\nContent-Type: {problem_details.MEDIA_TYPE}\r\n"
            f"{retry}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def _refusal(code: str) -> ConnectionRefusal:
    status, title = problem_details.FRAMEWORK_CODES[code]
    return ConnectionRefusal(status, code, title)


HEAD_TOO_LARGE: Final = _refusal("headers_too_large")
_MALFORMED: Final = _refusal("request_malformed")
FAULT: Final = ConnectionRefusal(Refusal.status, Refusal.code, Refusal.title)
UNAVAILABLE: Final = ConnectionRefusal(Unavailable.status, Unavailable.code, Unavailable.title, RETRY_AFTER_SECONDS)
_REFUSALS: Final = (
    (LimitRequestHeaders, HEAD_TOO_LARGE),
    (UnsupportedTransferCoding, _refusal("transfer_coding_unsupported")),
    (ExpectationFailed, _refusal("expectation_failed")),
)


def of(error: ParseException) -> ConnectionRefusal:
    """Return the response to what gunicorn could not parse."""
    return next((one for kind, one in _REFUSALS if isinstance(error, kind)), _MALFORMED)
