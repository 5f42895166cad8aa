"""Room for deliveries: everything else a web process is asked takes part of its threads, and never all of them.

Lists, exports and metrics ask PostgreSQL, and may hang for as long as it does. Deliveries do not need it: they must
find a thread all the same.
"""

import threading
from collections.abc import Iterable, Iterator
from typing import Any, Final

from flask import Flask, Response, g, request

from signalcraft.domain.errors import Unavailable

#: Half of gunicorn's threads for people, of which exports, which last for as long as they are read, get half; and some
#: for whoever scrapes. What is left is always there for deliveries.
MAX_API_REQUESTS: Final = 8
MAX_EXPORTS: Final = 4
MAX_OPERATIONS_REQUESTS: Final = 2
#: How long one waits for a place: many short requests at once are no reason to refuse any.
_PERMIT_TIMEOUT_SECONDS: Final = 0.1
#: What never waits long, and must be told: whether the process is up, and whether all of it is well.
_NEVER_LIMITED: Final = ("/healthz", "/readyz")


class _Permits:
    """Places that a request has. They are freed once, however often that is said."""

    def __init__(self) -> None:
        self._places: list[threading.BoundedSemaphore] = []

    def take(self, places: threading.BoundedSemaphore) -> None:
        """Take one of ``places``.

        Raises:
            Unavailable: there is none.
        """
        if not places.acquire(timeout=_PERMIT_TIMEOUT_SECONDS):
            raise Unavailable(retry_after=1)
        self._places.append(places)

    def free(self) -> None:
        """Give all back."""
        while self._places:
            self._places.pop().release()

    def until_read(self, parts: Iterable[Any]) -> Iterator[Any]:
        """``parts``, and the places back after the last of them."""
        yield from parts
        self.free()


def limit_concurrency(app: Flask, scopes: Iterable[str], at_once: int) -> None:
    """Serve at most ``at_once`` requests at a time of the blueprints named ``scopes``; others are told 503.

    The hooks are those blueprints' own, so a delivery runs through none.
    """
    places, exports = threading.BoundedSemaphore(at_once), threading.BoundedSemaphore(MAX_EXPORTS)

    def take() -> None:
        if request.path in _NEVER_LIMITED:
            return
        g.places = _Permits()
        if request.path.endswith("/export"):
            g.places.take(exports)
        g.places.take(places)

    def keep_while_it_streams(response: Response) -> Response:
        if response.is_streamed and "places" in g:
            held: _Permits = g.pop("places")
            response.response = held.until_read(response.response)
            response.call_on_close(held.free)  # also where it is not read to its end
        return response

    def give_back(_error: BaseException | None) -> None:
        if "places" in g:
            g.pop("places").free()

    for scope in scopes:
        app.before_request_funcs[scope].append(take)
        app.after_request_funcs[scope].append(keep_while_it_streams)
        app.teardown_request_funcs[scope].append(give_back)
