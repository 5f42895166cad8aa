"""A thread pool with an adaptive concurrency limit: two threads run, and more only while those hang or wait.

Python runs one thread at a time. With a dozen runnable threads, each that waits for a moment (for Redis, for the log)
loses the interpreter lock and queues for it again: measured in paired runs, two threads serve 12 to 20 % more
deliveries a second than sixteen over kept connections, 8 to 9 % more over single ones. Yet a slow Redis would leave the
processor idle, and two requests that hang, or export a large table, would block all others. So every 20 ms a thread
that has been running the same call since the last tick stops counting against the limit; and while calls wait and the
processor is not busy, the limit doubles.

Calls for large requests run one after the other, urgent ones apart from the others: to parse 5 MB takes a tenth of a
second of processor, in which most of the time no other thread runs. Senders take turns: of each that waits one is run.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, Literal

import structlog

from signalcraft.domain.errors import ThreadsExhausted
from signalcraft.resilience import call_into, start_thread
from signalcraft.thread_budgets import MIN_RUNNING

log = structlog.get_logger(__name__)

#: How often the limit is adapted while calls come in.
ADAPT_INTERVAL_SECONDS: Final = 0.02
#: Load of one processor below which more threads may run.
_BUSY_LOAD: Final = 0.75
#: The tick of a thread that is idle.
_IDLE_SENTINEL: Final = 2**63


def _processor() -> float:
    """Return this process's processor time so far, in seconds."""
    return time.process_time()


class AdaptiveThreadPool:
    """The part of an executor that gunicorn's worker calls; urgent calls first, else first come, first served.

    Threads are daemons: one that still runs does not keep the process from ending.
    """

    def __init__(self, max_threads: int, *, processor: Callable[[], float] = _processor) -> None:
        """Create the pool, but start no thread yet.

        Threads do not survive a fork. ``MIN_RUNNING`` is the least that run.
        """
        self._max = max(max_threads, MIN_RUNNING)
        self._processor = processor
        self._waiting: SimpleQueue[None] = SimpleQueue()  # an item for each call in the next two
        self._urgent: deque[Callable[[], None]] = deque()
        self._others: deque[Callable[[], None]] = deque()
        self._large = {urgent: _Line() for urgent in (True, False)}
        self._behind = threading.Event()  # a call came since the last tick
        #: How many threads may run now.
        self.allowed = MIN_RUNNING
        self._grown = threading.Condition()
        self._began: list[int] = []  # by thread: the tick before its call began
        self._ticks = 0
        self._is_shut = False

    def submit(
        self,
        function: Callable[..., Any],
        /,
        *args: Any,  # noqa: ANN401 - as executors do
        urgent: bool = False,
        large_of: Hashable = None,
    ) -> Future[Any]:
        """Queue a call of ``function``; an urgent one passes those that are not, a large one waits for the one before.

        ``large_of`` is the sender of a large one, and None for any other.

        Raises:
            RuntimeError: the pool was shut down.
            ThreadsExhausted: the system has no thread for the first call.
        """
        if self._is_shut:
            raise RuntimeError("the pool was shut down")
        if not self._began:
            self._start()
        future: Future[Any] = Future()
        call = partial(call_into, future, partial(function, *args))
        if large_of is None:
            self._put(call, urgent=urgent)
        elif self._large[urgent].add(call, large_of):
            self._put(partial(self._run_large, urgent=urgent), urgent=urgent)
        return future

    def is_idle(self) -> bool:
        """Return whether no call runs or waits."""
        return self._waiting.empty() and all(since == _IDLE_SENTINEL for since in self._began)

    def _put(self, call: Callable[[], None], *, urgent: bool) -> None:
        (self._urgent if urgent else self._others).append(call)
        self._waiting.put(None)
        self._behind.set()

    def _run_large(self, *, urgent: bool) -> None:
        """Run the next call of a line; the one after it queues behind what came meanwhile."""
        if self._large[urgent].run_next():
            self._put(partial(self._run_large, urgent=urgent), urgent=urgent)

    def shutdown(self, *, wait: Literal[False]) -> None:  # noqa: ARG002 - as gunicorn calls it
        """Accept no more calls.

        Those that wait or run go on for as long as the process lives.
        """
        self._is_shut = True

    def _start(self) -> None:
        with self._grown:
            if not self._began:
                self._allow(MIN_RUNNING)
                start_thread(self._adapt, name="web-adapt")

    def _allow(self, number: int) -> None:
        with self._grown:
            self.allowed = number
            self._grown.notify_all()
            while len(self._began) < number:
                index = len(self._began)
                self._began.append(_IDLE_SENTINEL)
                try:
                    start_thread(partial(self._work, index), name=f"web-{index}")
                except ThreadsExhausted:
                    del self._began[index]
                    self.allowed = index
                    raise

    def _work(self, index: int) -> None:
        """Run calls; park while ``index`` is over the limit.

        A thread that already waits for a call still runs one.
        """
        while True:
            if index >= self.allowed:
                with self._grown:
                    self._grown.wait_for(lambda: index < self.allowed)
            call = self._next()
            self._began[index] = self._ticks
            call()
            self._began[index] = _IDLE_SENTINEL

    def _next(self) -> Callable[[], None]:
        """Wait for a call.

        Calls are queued before their item of ``_waiting``, so each thread that has an item finds a call.
        """
        self._waiting.get()
        try:
            return self._urgent.popleft()
        except IndexError:
            return self._others.popleft()

    def _adapt(self) -> None:
        while True:
            self._behind.wait()
            began, used = time.monotonic(), self._processor()
            self._ticks += 1
            time.sleep(ADAPT_INTERVAL_SECONDS)
            self._behind.clear()  # before the check: a call that comes in between is seen now or at the next tick
            load = (self._processor() - used) / (time.monotonic() - began)
            is_behind = not self._waiting.empty()
            if is_behind:
                self._behind.set()
            hanging = sum(since < self._ticks for since in self._began)
            allowed = self.allowed * 2 if is_behind and load < _BUSY_LOAD else self.allowed - 1
            allowed = min(self._max, max(MIN_RUNNING + hanging, allowed))
            if allowed != self.allowed:
                try:
                    self._allow(allowed)
                except ThreadsExhausted:
                    log.warning("thread limit of the system reached", threads=self.allowed)  # the next tick tries again


class _Line:
    """Calls that run one after the other, round robin over their senders."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, deque[Callable[[], None]]] = {}  # by sender, the next one first
        self._unfinished = 0

    def add(self, call: Callable[[], None], sender: Hashable) -> bool:
        """Add a call; return whether it is the only one."""
        with self._lock:
            self._waiting.setdefault(sender, deque()).append(call)
            self._unfinished += 1
            return self._unfinished == 1

    def run_next(self) -> bool:
        """Run the first call of the next sender; return whether another waits."""
        with self._lock:
            sender = next(iter(self._waiting))
            calls = self._waiting.pop(sender)
            call = calls.popleft()
            if calls:
                self._waiting[sender] = calls  # behind the others
        call()
        with self._lock:
            self._unfinished -= 1
            return self._unfinished > 0
