"""Refusals as RFC 9457 ``application/problem+json`` with a stable ``code``.

A problem never quotes the request, except for names of parameters. Its code is stored in ``flask.g`` for the log lines.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from flask import Response, g
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException

from signalcraft import metrics
from signalcraft.domain.errors import InvalidFields, RecoverableError, Refusal, ThreadsExhausted, Unavailable

MEDIA_TYPE: Final = "application/problem+json"

#: Codes of refusals by Werkzeug whose reason phrase is not a suitable code.
_CODES: Mapping[int, str] = {400: "request_malformed", 404: "not_found", 413: "body_too_large"}
#: Codes of refusals by Werkzeug or gunicorn that have no class of ours, with status and title.
FRAMEWORK_CODES: Mapping[str, tuple[int, str]] = {
    "request_malformed": (400, "Bad Request"),
    "method_not_allowed": (405, "Method Not Allowed"),
    "request_timeout": (408, "Request Timeout"),
    "expectation_failed": (417, "Expectation Failed"),
    "headers_too_large": (431, "Request Header Fields Too Large"),
    "transfer_coding_unsupported": (501, "Not Implemented"),
}


def from_refusal(refusal: Refusal) -> Response:
    """Return ``refusal`` as a problem response."""
    problem = {"title": refusal.title, "status": refusal.status, "code": refusal.code}
    if refusal.detail:
        problem["detail"] = refusal.detail
    if refusal.errors:
        problem["errors"] = dict(refusal.errors)
    challenge = {"WWW-Authenticate": refusal.challenge} if refusal.challenge else {}
    return _response(problem, {**refusal.headers, **challenge})


def from_validation(error: ValidationError) -> Response:
    """Return 422 with the messages by field."""
    return from_refusal(InvalidFields(errors=dict(_flatten(error.messages))))


def from_outage(_: RecoverableError | ThreadsExhausted) -> Response:
    """Return 503: a dependency is unavailable, or there is no thread to reach it."""
    return from_refusal(Unavailable())


def from_http(error: HTTPException) -> Response:
    """Return an HTTP error of Werkzeug as a problem.

    Such errors are an unknown path, a method that is not allowed and a malformed request.
    """
    status = error.code or 500
    code = _CODES.get(status, error.name.lower().replace(" ", "_"))
    headers = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    return _response({"title": error.name, "status": status, "code": code}, headers)


def with_type(problem: Mapping[str, Any]) -> dict[str, Any]:
    """Return a problem with its type.

    It consists of title, status, code and optional members.
    """
    return {"type": f"urn:signalcraft:problem:{problem['code']}", **problem}


def as_json(problem: Mapping[str, Any]) -> str:
    """Return a problem as JSON text."""
    return json.dumps(with_type(problem))


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
