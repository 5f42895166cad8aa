"""How we say no: every refusal as RFC 9457 ``application/problem+json`` with a stable ``code``.

A problem never quotes what was sent, but for the names of parameters. Its code is left in ``flask.g`` for whoever logs.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from flask import Response, g
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException

from signalcraft import metrics
from signalcraft.domain.errors import InvalidFields, RecoverableError, Refusal, Unavailable

MEDIA_TYPE: Final = "application/problem+json"

#: Codes for what Werkzeug refuses before a view is asked, where its own phrase would not do.
_CODES: Mapping[int, str] = {400: "request_malformed", 404: "not_found", 413: "body_too_large"}
#: Codes that no refusal of ours has, with the status and the title they come with.
FRAMEWORK_CODES: Mapping[str, tuple[int, str]] = {
    "request_malformed": (400, "Bad Request"),
    "method_not_allowed": (405, "Method Not Allowed"),
    "request_timeout": (408, "Request Timeout"),
    "uri_too_long": (414, "URI Too Long"),
    "expectation_failed": (417, "Expectation Failed"),
    "headers_too_large": (431, "Request Header Fields Too Large"),
    "transfer_coding_unsupported": (501, "Not Implemented"),
}


def from_refusal(refusal: Refusal) -> Response:
    """The answer that is ``refusal``."""
    problem = {"title": refusal.title, "status": refusal.status, "code": refusal.code}
    if refusal.detail:
        problem["detail"] = refusal.detail
    if refusal.errors:
        problem["errors"] = dict(refusal.errors)
    return _response(problem, refusal.headers)


def from_validation(error: ValidationError) -> Response:
    """422, with the messages by field."""
    return from_refusal(InvalidFields(errors=dict(_flatten(error.messages))))


def from_outage(_: RecoverableError) -> Response:
    """503: something that we need is away."""
    return from_refusal(Unavailable())


def from_http(error: HTTPException) -> Response:
    """What Werkzeug says no to: no such path, a method not allowed, a request that is none."""
    status = error.code or 500
    code = _CODES.get(status, error.name.lower().replace(" ", "_"))
    kept = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    return _response({"title": error.name, "status": status, "code": code}, kept)


def as_json(problem: Mapping[str, Any]) -> str:
    """A problem (title, status, code, and what else there is to say), as it is sent."""
    return json.dumps({"type": f"urn:signalcraft:problem:{problem['code']}", **problem})


def _response(problem: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    g.problem_code = problem["code"]
    metrics.count("signalcraft_rejected_total", code=str(problem["code"]))
    return Response(as_json(problem), status=problem["status"], mimetype=MEDIA_TYPE, headers=dict(headers))


def _flatten(messages: Any, path: str = "") -> Iterator[tuple[str, Sequence[str]]]:  # noqa: ANN401 - marshmallow nests lists and dictionaries
    if isinstance(messages, dict):
        for name, inner in messages.items():
            yield from _flatten(inner, f"{path}.{name}" if path else str(name))
    else:
        yield path, [str(message) for message in messages]
