"""What the loop of a gunicorn worker gives the requests that it serves itself."""

import contextlib
import heapq
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from itertools import count
from selectors import EVENT_READ, BaseSelector
from typing import Any, TypeVar

from gunicorn.workers.gthread import PollableMethodQueue

from signalcraft.greenlets import RequestGreenlet
from signalcraft.resilience import call_into
from signalcraft.web.server.thread_pool import AdaptiveThreadPool

T = TypeVar("T")


class EventLoop:
    """A ``greenlets.Loop`` on what a gunicorn worker has.

    Only ``call_soon_threadsafe`` may be called on another thread than the loop's.
    """

    def __init__(self, poller: BaseSelector, deferred: PollableMethodQueue, pool: AdaptiveThreadPool) -> None:
        """Take the worker's poller, its queue of callbacks and its pool of threads."""
        self._poller = poller
        self._deferred = deferred
        self._pool = pool
        self._timers: list[tuple[float, int, Callable[[], object]]] = []  # a heap; the number keeps their order
        self._numbers = count()

    def serve(self, handle: Callable[[], T], when_done: Callable[[Future[T]], object]) -> None:
        """Serve a request until it waits; then go on with the others.

        ``when_done`` gets what ``handle`` returned or raised, outside of the request's greenlet.
        """
        outcome: Future[T] = Future()
        RequestGreenlet(self, partial(call_into, outcome, handle), partial(when_done, outcome)).resume()

    def add_reader(self, sock: Any, callback: Callable[[], object]) -> None:  # noqa: ANN401 - a socket
        """Call ``callback`` whenever ``sock`` can be read."""
        self._poller.register(sock, EVENT_READ, lambda _: callback())

    def remove_reader(self, sock: Any) -> None:  # noqa: ANN401 - a socket
        """Undo ``add_reader``; the socket may be closed."""
        with contextlib.suppress(KeyError, ValueError):
            self._poller.unregister(sock)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        """Call ``callback`` once, after at least ``seconds``."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), callback))

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` soon; any thread may ask for it."""
        self._deferred.defer(callback)

    def run_in_executor(self, call: Callable[[], T]) -> Future[T]:
        """Run ``call`` in a thread of the pool, before requests that wait for one.

        Raises:
            ThreadsExhausted: the system has no thread for it.
        """
        return self._pool.submit(call, urgent=True)

    def seconds_to_timer(self, at_most: float) -> float:
        """Return the seconds until the next timer, ``at_most`` if there is none before."""
        return min(at_most, max(0.0, self._timers[0][0] - time.monotonic())) if self._timers else at_most

    def run_timers(self) -> None:
        """Call what is due; what they ask for meanwhile comes in the next turn of the loop."""
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
