"""What a request offers to be let in by."""

from flask import Request


def bearer(request: Request) -> str:
    """The bearer token in ``request``; empty where there is none."""
    return _offered(request, "bearer", "token")


def password(request: Request) -> str:
    """The password of HTTP's basic kind; empty where there is none. The user's name means nothing to us."""
    return _offered(request, "basic", "password")


def _offered(request: Request, kind: str, part: str) -> str:
    """Werkzeug raises ValueError at a header of the basic kind that is not ASCII."""
    try:
        given = request.authorization
    except ValueError:
        return ""
    return str(getattr(given, part) or "") if given is not None and given.type == kind else ""
