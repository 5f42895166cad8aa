"""Who may call the API, how often, and whether to change anything.

What a request offers to be let in by.
"""

from flask import Request, g, request

from signalcraft.api import context
from signalcraft.domain.errors import BadToken, NotAllowed
from signalcraft.ingest.credential_cache import Caller


def authenticate() -> None:
    """Let those in whose token we know, as often as RATELIMIT_API says.

    Raises:
        BadToken, TooManyRequests: they may not come in, or not now.
    """
    g.caller = _caller()
    context.current().rate.hit(f"{g.caller.workspace_id}:{g.caller.token}")


def caller() -> Caller:
    """Who was let in."""
    found: Caller = g.caller
    return found


def require_write_scope() -> Caller:
    """Who was let in, and may change things.

    Raises:
        NotAllowed: the token can only read.
    """
    if not caller().can_write:
        raise NotAllowed
    return caller()


def _caller() -> Caller:
    token, credentials = bearer(request), context.current().credentials
    if not token:
        raise BadToken
    found = credentials.caller(token)
    if found is None and credentials.refresh():
        found = credentials.caller(token)
    if found is None:
        raise BadToken
    return found


def bearer(request: Request) -> str:
    """The bearer token in ``request``; empty where there is none."""
    return _credential(request, "bearer", "token")


def password(request: Request) -> str:
    """The password of HTTP's basic kind; empty where there is none. The user's name means nothing to us."""
    return _credential(request, "basic", "password")


def _credential(request: Request, kind: str, part: str) -> str:
    """Werkzeug raises ValueError at a header of the basic kind that is not ASCII."""
    try:
        given = request.authorization
    except ValueError:
        return ""
    return str(getattr(given, part) or "") if given is not None and given.type == kind else ""
