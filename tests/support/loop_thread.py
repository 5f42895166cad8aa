"""The loop of a web process, on a thread of a test."""

import contextlib
import selectors
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from gunicorn.workers.gthread import PollableMethodQueue
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from signalcraft.queues import redis_clients
from signalcraft.queues.redis_clients import run_idempotent
from signalcraft.resilience import call_into
from signalcraft.web.server.event_loop import EventLoop
from signalcraft.web.server.thread_pool import AdaptiveThreadPool
from tests.support.stopwatch import stopwatch
from tests.support.waiting import wait_until

T = TypeVar("T")


class LoopThread:
    """Runs an ``EventLoop`` as ``BufferingWorker`` does."""

    def __init__(self) -> None:
        self._poller = selectors.DefaultSelector()
        self._deferred = PollableMethodQueue()
        self._deferred.init()
        self._poller.register(self._deferred.fileno(), selectors.EVENT_READ, self._deferred.run_callbacks)
        self.loop = EventLoop(self._poller, self._deferred, AdaptiveThreadPool(4))
        self.is_alive = True
        self.longest_turn = 0.0  # seconds in which it called callbacks and looked at no socket, while watched
        self._clock: Callable[[], float] = lambda: 0.0
        self._thread = threading.Thread(target=self._run, name="opening", daemon=True)
        self._thread.start()

    def serve(self, *requests: Callable[[], T]) -> "list[Future[T]]":
        """Begin all in one turn of the loop."""
        futures: list[Future[T]] = [Future() for _ in requests]

        def begin() -> None:
            for request, future in zip(requests, futures, strict=True):
                self.loop.serve(partial(call_into, future, request), lambda _: None)

        self.loop.call_soon_threadsafe(begin)
        return futures

    def share(self, redis: Redis) -> None:
        """Open the connection that the requests share, which commands do by coming; not if Redis is away."""

        def is_open() -> bool:
            try:
                run_idempotent(redis, "PING")
            except RedisConnectionError:
                return True
            except RedisTimeoutError:  # it did not run for a moment
                return False
            return redis_clients._own.shared[redis.connection_pool]._socket is not None

        wait_until(lambda: self.serve(is_open)[0].result(5), seconds=10)
        self._thread.name = "loop"

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Measure the turns that begin in the block, without pauses of the process."""
        with stopwatch() as watch:
            self.longest_turn, self._clock = 0.0, lambda: watch.seconds
            yield

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(lambda: setattr(self, "is_alive", False))
        self._thread.join(5)
        assert not self._thread.is_alive()
        self._poller.close()
        self._deferred.close()

    def _run(self) -> None:
        while self.is_alive:
            events = self._poller.select(self.loop.seconds_to_timer(1.0))
            began = self._clock()
            for key, _ in events:
                key.data(key.fileobj)
            self.loop.run_timers()
            self.longest_turn = max(self.longest_turn, self._clock() - began)


@contextlib.contextmanager
def loop_thread() -> Iterator[LoopThread]:
    running = LoopThread()
    try:
        yield running
    finally:
        running.stop()
