"""Errors as pages, with words instead of a code."""

from http import HTTPStatus

import structlog
from flask import Response, g, render_template, request
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException

from signalcraft import metrics
from signalcraft.domain.errors import (
    BadToken,
    InvalidFields,
    NotAllowed,
    NotFound,
    RecoverableError,
    Refusal,
    ThreadsExhausted,
    TooManyRequests,
    Unavailable,
)
from signalcraft.logs import exception_fields
from signalcraft.resilience import threads_exhausted
from signalcraft.ui import context

log = structlog.get_logger(__name__)

#: What an error means for somebody who looks at a page, where the API's words do not say that.
_WORDS: dict[type[Refusal], str] = {
    BadToken: "Your session has ended, or there was none. Nothing was changed. Sign in and try again.",
    NotAllowed: "You signed in with a token that may read only. Sign in with one of the scope write to change groups.",
    NotFound: "There is nothing here. It may have been deleted, or belong to another workspace.",
    TooManyRequests: "Too many requests in a short time.",
    Unavailable: "SignalCraft cannot read its database at the moment. Alerts are received and kept meanwhile; "
    "this page works again as soon as the database does.",
    Refusal: "This is our fault, not yours. It was logged.",
}


def error_page(error: Exception) -> Response:
    """Return ``error`` as a page with its status."""
    refusal = _as_refusal(error)
    if refusal.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND) and "caller" not in g:
        refusal = over_limit() or refusal
    return page_of(refusal)


def page_of(refusal: Refusal, *, template: str = "error.html", **values: object) -> Response:
    """Return a page that says ``refusal``, by ``template``; count and log it as the API's problems are."""
    g.problem_code = refusal.code
    metrics.count("signalcraft_rejected_total", code=refusal.code)
    words = _WORDS.get(type(refusal), "") or refusal.detail or refusal.title
    page = render_template(
        template, refusal=refusal, heading=_heading(refusal.status), words=words, path=request.path, **values
    )
    response = Response(page, status=refusal.status, headers=dict(refusal.headers))
    if refusal.challenge:
        response.headers["WWW-Authenticate"] = refusal.challenge
    return response


def _as_refusal(error: Exception) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ValidationError):
        return InvalidFields(errors=field_errors(error))
    if isinstance(error, ThreadsExhausted):
        threads_exhausted.set()
    if isinstance(error, RecoverableError | ThreadsExhausted):
        return Unavailable()
    if isinstance(error, HTTPException):
        return _of_http(error)
    log.error("request failed", path=request.path, **exception_fields(error))
    return Refusal()


def field_errors(error: ValidationError) -> dict[str, list[str]]:
    """Return the messages of ``error`` by field."""
    return {
        str(name): [str(text) for text in texts] if isinstance(texts, list) else [str(texts)]
        for name, texts in error.messages_dict.items()
    }


def _of_http(error: HTTPException) -> Refusal:
    refusal = Refusal(error.description or "")
    refusal.status, refusal.code = error.code or 500, error.name.lower().replace(" ", "_")
    return refusal


def over_limit() -> TooManyRequests | None:
    """Count a refused request against its address; return the refusal of one that is over its limit."""
    here = context.current()
    try:
        here.refused.hit(here.client_key())
    except TooManyRequests as too_many:
        return too_many
    return None


def _heading(status: int) -> str:
    return HTTPStatus(status).phrase if status != HTTPStatus.INTERNAL_SERVER_ERROR else "Something went wrong"
