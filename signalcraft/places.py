"""Room for deliveries: everything else a web process is asked takes part of its threads, and never all of them.

Lists, exports and metrics ask PostgreSQL, and may hang for as long as it does. Deliveries do not need it: they must
find a thread all the same.
"""

import threading
from collections.abc import Iterable
from typing import Final

from flask import Flask, Response, g, request

from signalcraft.errors import Unavailable

#: Half of gunicorn's threads.
AT_ONCE: Final = 8
#: How long one waits for a place: many short requests at once are no reason to refuse any.
_PATIENCE_SECONDS: Final = 0.1


def keep_room(app: Flask, scopes: Iterable[str], at_once: int = AT_ONCE) -> None:
    """Serve at most ``at_once`` requests at a time of the blueprints named ``scopes``; others are told 503.

    The hooks are those blueprints' own, so a delivery runs through none. Whether the process is up can always be asked.
    """
    places = threading.BoundedSemaphore(at_once)

    def take() -> None:
        if request.path == "/healthz":
            return
        if not places.acquire(timeout=_PATIENCE_SECONDS):
            raise Unavailable(retry_after=1)
        g.holds_place = True

    def keep_while_it_streams(response: Response) -> Response:
        if response.is_streamed and g.pop("holds_place", False):
            response.call_on_close(places.release)
        return response

    def give_back(_error: BaseException | None) -> None:
        if g.pop("holds_place", False):
            places.release()

    for scope in scopes:
        app.before_request_funcs[scope].append(take)
        app.after_request_funcs[scope].append(keep_while_it_streams)
        app.teardown_request_funcs[scope].append(give_back)
