"""WSGI middleware: what is checked of a request before anything splits its path or counts its address."""

from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import Any, Final

#: The longest of our own paths has some hundred characters.
MAX_PATH_LENGTH: Final = 1_024
#: A filter of the API may be long, and is refused by its name.
MAX_QUERY_LENGTH: Final = 16_384

_TOO_LONG: Final = "signalcraft.uri_too_long"
#: Instead of what was cut off. No route: hooks of a route would take the refused request for theirs.
_NO_ROUTE: Final = "/-"

Application = Callable[[Any, Any], Iterable[bytes]]


def bound_uri(application: Application) -> Application:
    """Cut off a path or query string that is too long, and mark the request as such.

    60,000 slashes took Werkzeug's dispatcher 0.7 s.
    """

    def serve(environ: Any, start_response: Any) -> Iterable[bytes]:  # noqa: ANN401 - WSGI's
        path, query = environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", "")
        if len(path) > MAX_PATH_LENGTH or len(query) > MAX_QUERY_LENGTH:
            environ |= {"PATH_INFO": _NO_ROUTE, "QUERY_STRING": "", _TOO_LONG: True}
        return application(environ, start_response)

    return serve


def was_cut_off(environ: Mapping[str, Any]) -> bool:
    """Return whether the request's path or query string was too long, and cut off."""
    return _TOO_LONG in environ


def check_address(application: Application) -> Application:
    """Replace what a proxy's header names and is no address by the address of the connection.

    Without a proxy in front, ``X-Forwarded-For`` is the client's: 8 kB of anything, counted and logged. It runs inside
    Werkzeug's ``ProxyFix``.
    """

    def serve(environ: Any, start_response: Any) -> Iterable[bytes]:  # noqa: ANN401 - WSGI's
        if not _is_address(environ.get("REMOTE_ADDR", "")):
            environ["REMOTE_ADDR"] = environ["werkzeug.proxy_fix.orig"]["REMOTE_ADDR"]
        return application(environ, start_response)

    return serve


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a zone, of any length
