"""A pool of threads of which two work at once, and more only where those hang or leave the processor idle.

Python runs one thread at a time. With a dozen that have work, each that waits for a moment (for Redis, for the log)
hands over to the next and has to queue up again, and a delivery takes a sixth longer than with two: one works while
the other waits. Yet a slow Redis would leave the processor idle, and two requests that hang, or export a large table,
would keep everybody else out. So every 20 ms it is looked who has been at the same thing since the last look: those
do not count. And while something waits and the processor has little to do, the number that may work doubles.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, Literal

import structlog

log = structlog.get_logger(__name__)

AT_ONCE: Final = 2
#: How often it is looked whether something waits, while something comes in.
LOOK_SECONDS: Final = 0.02
#: Of one processor: with less work than that, more may work at once.
_IDLE: Final = 0.75
#: The look at which a thread began that has nothing to do.
_NEVER: Final = 2**63


def _processor() -> float:
    """The processor time of all our threads so far, in seconds."""
    return time.process_time()


class Turns:
    """What gunicorn's worker asks of an executor, with at most ``most`` threads, but at least ``AT_ONCE``.

    First come, first served. Threads are daemons: one that is still at work when the process ends does not keep it.
    """

    def __init__(self, most: int, *, processor: Callable[[], float] = _processor) -> None:
        """Start no thread yet: they would not survive a fork."""
        self._most = max(most, AT_ONCE)
        self._processor = processor
        self._waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._behind = threading.Event()  # something came, and it is to be seen whether somebody takes it
        #: How many may work at once now.
        self.allowed = AT_ONCE
        self._grown = threading.Condition()
        self._began: list[int] = []  # of each thread: the number of the look before it began with what it does
        self._looks = 0
        self._is_shut = False

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:  # noqa: ANN401 - as executors do
        """Have ``function`` called when it is its turn.

        Raises:
            RuntimeError: the pool was shut down.
        """
        if self._is_shut:
            raise RuntimeError("the pool was shut down")
        future: Future[Any] = Future()
        self._waiting.put(partial(_call, future, function, args))
        if not self._began:
            self._start()
        self._behind.set()
        return future

    def shutdown(self, *, wait: Literal[False]) -> None:  # noqa: ARG002 - as gunicorn calls it
        """Take nothing more. What waits or is at work goes on for as long as the process lives."""
        self._is_shut = True

    def _start(self) -> None:
        with self._grown:
            if not self._began:
                threading.Thread(target=self._adapt, name="turns", daemon=True).start()
                self._allow(AT_ONCE)

    def _allow(self, number: int) -> None:
        """Let so many work at once."""
        with self._grown:
            self.allowed = number
            self._grown.notify_all()
            while len(self._began) < number:
                place = len(self._began)
                thread = threading.Thread(target=self._work, args=(place,), name=f"turn-{place}", daemon=True)
                self._began.append(_NEVER)
                try:
                    thread.start()
                except RuntimeError:  # the system has no more
                    del self._began[place]
                    self.allowed = place
                    raise

    def _work(self, place: int) -> None:
        """Work while those in ``place`` may. One who waits for work when they may no longer still does one thing."""
        while True:
            if place >= self.allowed:
                with self._grown:
                    self._grown.wait_for(lambda: place < self.allowed)
            call = self._waiting.get()
            self._began[place] = self._looks
            call()
            self._began[place] = _NEVER

    def _adapt(self) -> None:
        while True:
            self._behind.wait()
            began, used = time.monotonic(), self._processor()
            self._looks += 1
            time.sleep(LOOK_SECONDS)
            self._behind.clear()  # first this, then the look: what comes in between is seen now or next time
            load = (self._processor() - used) / (time.monotonic() - began)
            is_behind = not self._waiting.empty()
            if is_behind:
                self._behind.set()
            hanging = sum(since < self._looks for since in self._began)
            allowed = self.allowed * 2 if is_behind and load < _IDLE else self.allowed - 1
            allowed = min(self._most, max(AT_ONCE + hanging, allowed))
            if allowed != self.allowed:
                try:
                    self._allow(allowed)
                except RuntimeError:
                    log.warning("thread limit of the system reached", threads=self.allowed)  # the next look tries again


def _call(future: Future[Any], function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function(*args)
    except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
        future.set_exception(error)
    else:
        future.set_result(result)
