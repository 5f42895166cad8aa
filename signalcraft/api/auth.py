"""Authentication of API calls: bearer token, rate limit, write scope."""

from typing import Final

from flask import Request, g, request

from signalcraft.api import context
from signalcraft.domain.errors import BadToken, NotAllowed
from signalcraft.ingest.credential_cache import Caller

_READING_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def authenticate() -> None:
    """Authenticate the bearer token and count the call against RATELIMIT_API.

    Raises:
        BadToken: the token is missing or unknown.
        TooManyRequests: the token is over its limit.
    """
    g.caller = _caller()
    context.current().rate.hit(f"{g.caller.workspace_id}:{g.caller.token}")
    context.current().credentials.record_call(g.caller)


def caller() -> Caller:
    """Return the authenticated caller."""
    found: Caller = g.caller
    return found


def require_write_scope() -> Caller:
    """Return the authenticated caller, who has the write scope.

    Raises:
        NotAllowed: the token is read-only.
    """
    if not caller().can_write:
        raise NotAllowed
    return caller()


def _caller() -> Caller:
    """Return the caller with the request's token.

    Before a token is refused, and before it may write, the credentials are refreshed: it may have been created, or
    revoked, a moment ago.
    """
    token, credentials = bearer(request), context.current().credentials
    if not token:
        raise BadToken
    found = credentials.caller(token) if request.method in _READING_METHODS else None
    if found is None:
        credentials.refresh()
        found = credentials.caller(token)
    if found is None:
        raise BadToken
    return found


def bearer(request: Request) -> str:
    """Return the bearer token of ``request``, or an empty string."""
    return _credential(request, "bearer", "token")


def password(request: Request) -> str:
    """Return the password of HTTP Basic authentication.

    It is an empty string if there is none. The user name is ignored.
    """
    return _credential(request, "basic", "password")


def _credential(request: Request, scheme: str, attribute: str) -> str:
    try:
        authorization = request.authorization
    except ValueError:  # Werkzeug, for a Basic header that is not ASCII
        return ""
    return (
        str(getattr(authorization, attribute) or "")
        if authorization is not None and authorization.type == scheme
        else ""
    )
