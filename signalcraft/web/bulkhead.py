"""Bulkhead: cap concurrent API and operations requests so webhooks always find a thread.

Lists, exports and metrics query PostgreSQL, and hang while it hangs. Deliveries do not need PostgreSQL, so they must
still find a thread.
"""

import threading
from collections.abc import Iterable, Iterator
from typing import Any, Final

from flask import Flask, Response, g, request

from signalcraft.domain.errors import Unavailable
from signalcraft.thread_budgets import MAX_EXPORTS

#: How long a request waits for a permit: a burst of short requests is no reason to refuse any.
_PERMIT_TIMEOUT_SECONDS: Final = 0.1
#: Probes are fast, and must be answered while the permits are taken.
PROBES: Final = ("/healthz", "/readyz")


class _Permits:
    """Permits of one request. Releasing them again does nothing."""

    def __init__(self) -> None:
        self._held: list[threading.BoundedSemaphore] = []

    def acquire(self, semaphore: threading.BoundedSemaphore) -> None:
        """Acquire a permit of ``semaphore``.

        Raises:
            Unavailable: none is free.
        """
        if not semaphore.acquire(timeout=_PERMIT_TIMEOUT_SECONDS):
            raise Unavailable(retry_after=1)
        self._held.append(semaphore)

    def release(self) -> None:
        """Release all permits."""
        while self._held:
            self._held.pop().release()

    def release_after(self, chunks: Iterable[Any]) -> Iterator[Any]:
        """Yield ``chunks``, then release all permits."""
        yield from chunks
        self.release()


def limit_concurrency(app: Flask, scopes: Iterable[str], limit: int) -> None:
    """Limit concurrent requests of the blueprints named ``scopes``.

    At most ``limit`` are served at once; others get a 503. The hooks belong to those blueprints, so a delivery runs
    none of them.
    """
    permits, exports = threading.BoundedSemaphore(limit), threading.BoundedSemaphore(MAX_EXPORTS)

    def acquire() -> None:
        if request.path in PROBES:
            return
        g.permits = _Permits()
        if request.path.endswith("/export"):
            g.permits.acquire(exports)
        g.permits.acquire(permits)

    def hold_while_streaming(response: Response) -> Response:
        if response.is_streamed and "permits" in g:
            held: _Permits = g.pop("permits")
            response.response = held.release_after(response.response)
            response.call_on_close(held.release)  # also if the client does not read to the end
        return response

    def release(_error: BaseException | None) -> None:
        if "permits" in g:
            g.pop("permits").release()

    for scope in scopes:
        app.before_request_funcs[scope].append(acquire)
        app.after_request_funcs[scope].append(hold_while_streaming)
        app.teardown_request_funcs[scope].append(release)
