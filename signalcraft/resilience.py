"""What keeps a dependency that fails, or hangs, from holding up everything else.

A server that is gone fails at once and costs nothing to ask. One that is frozen costs a timeout each time: libpq waits
for as long as the connection stands, and the kernel of a frozen server keeps it standing. A sender that gives up after
a second must not pay for that: ``CircuitBreaker`` skips the call for a moment, ``BoundedCall`` gives it a deadline.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from typing import Final, Generic, TypeVar

from signalcraft.domain.errors import RecoverableError, ThreadsExhausted

T = TypeVar("T")


class CircuitBreaker:
    """Closed while calls succeed; open for ``pause_seconds`` after a failure; then one caller may try.

    Threads share it. ``clock`` is monotonic, in seconds.
    """

    def __init__(
        self,
        unavailable: type[RecoverableError],
        *,
        pause_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create a closed breaker.

        ``unavailable`` is the failure that opens it, and what it raises while it is open.
        """
        self._unavailable = unavailable
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._open_until: float | None = None

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Run the block, unless it failed a moment ago.

        Raises:
            RecoverableError: ``unavailable``, from the block, or instead of it while the breaker is open.
        """
        self._check()
        try:
            yield
        except self._unavailable:
            with self._lock:
                self._open_until = self._clock() + self._pause_seconds
            raise
        self._open_until = None

    def _check(self) -> None:
        with self._lock:
            if self._open_until is None:
                return
            if self._clock() < self._open_until:
                raise self._unavailable("it was unavailable a moment ago")
            # This caller tries; the others find the breaker open until it has.
            self._open_until = self._clock() + self._pause_seconds


#: Set once work could not be done for want of a thread: then a web process stops, to be started again.
threads_exhausted: Final = threading.Event()


def start_thread(run: Callable[[], object], *, name: str) -> threading.Thread:
    """Run ``run`` in a daemon thread, which does not keep the process from ending.

    Raises:
        ThreadsExhausted: the system has no thread to spare.
    """
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise ThreadsExhausted(str(error)) from None
    return thread


def in_thread(call: Callable[[], T], *, name: str) -> Future[T]:
    """Run ``call`` in a daemon thread.

    The thread does not keep the process from ending if ``call`` hangs.

    Raises:
        ThreadsExhausted: the system has no thread to spare.
    """
    future: Future[T] = Future()
    start_thread(partial(call_into, future, call), name=name)
    return future


def call_into(future: Future[T], call: Callable[[], T]) -> None:
    """Call ``call``; what it returns or raises is the future's, unless that was cancelled before."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
        future.set_exception(error)
    else:
        future.set_result(result)


class BoundedCall:
    """Run one kind of call with a timeout; fail fast while earlier calls hang.

    A call that timed out is not cancelled: it may still succeed, and must do no harm then.
    """

    def __init__(self, unavailable: type[RecoverableError], *, max_overdue: int = 2) -> None:
        """``unavailable`` is raised for a call that takes too long."""
        self._unavailable = unavailable
        self._max_overdue = max_overdue
        self._lock = threading.Lock()
        self._overdue: set[Future[object]] = set()

    def run(self, call: Callable[[], T], *, timeout: float) -> T:
        """Return what ``call`` returns, or raise what it raises.

        Raises:
            RecoverableError: ``unavailable``, after ``timeout`` seconds, or at once while ``max_overdue`` calls hang.
        """
        with self._lock:
            self._overdue = {future for future in self._overdue if not future.done()}
            if len(self._overdue) >= self._max_overdue:
                raise self._unavailable("earlier calls still hang")
        future = in_thread(call, name="bounded-call")
        try:
            return future.result(timeout)
        except TimeoutError:
            if future.done():  # the call itself raised it, or has just returned
                return future.result()
            with self._lock:
                self._overdue.add(future)  # type: ignore[arg-type] # of any type
            raise self._unavailable("it takes too long") from None


class SingleFlight(Generic[T]):
    """Run one call at a time; callers that come meanwhile share results."""

    def __init__(self, name: str) -> None:
        """``name`` is that of the thread."""
        self._name = name
        self._lock = threading.Lock()
        self._running: Future[T] | None = None
        self._waiting: Future[T] | None = None

    def start(self, call: Callable[[], T]) -> Future[T]:
        """Start ``call``, unless one is running.

        The one that is running is returned then. What it read may be older than this caller:
        :meth:`start_after_arrival` is for a caller that must not be answered by that.
        """
        with self._lock:
            if self._running is not None and not self._running.done():
                return self._running
        return self.start_after_arrival(call)

    def start_after_arrival(self, call: Callable[[], T]) -> Future[T]:
        """Return the future of a call that begins after this caller came.

        While one runs, that is the next one, which all who come until it begins share. So there are at most two
        threads, and calls follow each other without a pause.
        """
        with self._lock:
            if self._waiting is None:
                previous = self._running
                self._waiting = in_thread(lambda: self._run_after(previous, call), name=self._name)
            return self._waiting

    def _run_after(self, previous: Future[T] | None, call: Callable[[], T]) -> T:
        if previous is not None:
            wait([previous])
        with self._lock:  # from here on, callers wait for the next call
            self._running, self._waiting = self._waiting, None
        return call()


def every(
    seconds: float,
    work: Callable[[], object],
    *,
    name: str,
    delay: float | None = None,
    stop_timeout: float = 1.0,
) -> Callable[[], None]:
    """Call ``work`` every so many seconds in a daemon thread.

    What is returned stops it. The first call comes after ``delay`` seconds, else after one interval. A ``work`` that
    returns a float says itself how long the next pause is. Stopping waits up to ``stop_timeout`` seconds for a call in
    progress.
    """
    stopped = threading.Event()

    def run() -> None:
        pause = seconds if delay is None else delay
        while not stopped.wait(pause):
            following = work()
            pause = following if isinstance(following, float) else seconds

    def stop() -> None:
        stopped.set()
        if thread is not threading.current_thread():
            thread.join(stop_timeout)

    thread = start_thread(run, name=name)
    return stop
