"""Who may call the API, how often, and whether to change anything."""

from flask import g, request

from signalcraft import credentials
from signalcraft.domain.errors import BadToken, NotAllowed
from signalcraft.ingest.credential_cache import Caller
from signalcraft.parts import parts


def authenticate() -> None:
    """Let those in whose token we know, as often as RATELIMIT_API says.

    Raises:
        BadToken, TooManyRequests: they may not come in, or not now.
    """
    g.caller = _caller()
    parts().api_rate.hit(f"{g.caller.workspace_id}:{g.caller.token}")


def caller() -> Caller:
    """Who was let in."""
    found: Caller = g.caller
    return found


def writer() -> Caller:
    """Who was let in, and may change things.

    Raises:
        NotAllowed: the token can only read.
    """
    if not caller().can_write:
        raise NotAllowed
    return caller()


def _caller() -> Caller:
    token, directory = credentials.bearer(request), parts().desk.directory
    if not token:
        raise BadToken
    found = directory.caller(token)
    if found is None and directory.refresh():
        found = directory.caller(token)
    if found is None:
        raise BadToken
    return found
