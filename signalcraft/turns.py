"""A pool of threads of which two work at once, and more only where those are held up.

Python runs one thread at a time. With a dozen that have work, each that waits for a moment (for Redis, for the log)
hands over to the next and has to queue up again, and a delivery takes a fifth longer than with two: one works while
the other waits. Yet where Redis or PostgreSQL hang, two threads would be gone at once. So who has been at something
for much longer than a delivery takes is held up: one of the others helps out.
"""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, Literal

AT_ONCE: Final = 2
#: Ten times what a delivery takes.
HELD_UP_SECONDS: Final = 0.02


@dataclass(slots=True, eq=False)
class _Turn:
    """Of one thread: since when it has been at what it does; long ago while it does nothing."""

    began_at: float = -math.inf


class Turns:
    """What gunicorn's worker asks of an executor, with at most ``most`` threads, but at least ``AT_ONCE``.

    First come, first served. Threads are daemons: what is still held up when the process ends does not keep it.
    """

    def __init__(self, most: int, *, held_up_seconds: float = HELD_UP_SECONDS) -> None:
        """Start no thread yet: they would not survive a fork."""
        self._helpers_left = max(0, most - AT_ONCE)
        self._held_up_seconds = held_up_seconds
        self._waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._behind = threading.Event()  # something came, and it is to be seen whether somebody takes it
        self._help = threading.Semaphore(0)
        self._idle_helpers = 0
        self._turns: list[_Turn] = []
        self._lock = threading.Lock()
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
        if not self._turns:
            self._start()
        self._behind.set()
        return future

    def shutdown(self, *, wait: Literal[False]) -> None:  # noqa: ARG002 - as gunicorn calls it
        """Take nothing more. What waits or is at work goes on for as long as the process lives."""
        self._is_shut = True

    def _start(self) -> None:
        with self._lock:
            if not self._turns:
                for _ in range(AT_ONCE):
                    self._start_thread(self._work)
                threading.Thread(target=self._look_after_those_who_wait, name="turns", daemon=True).start()

    def _start_thread(self, work: Callable[[_Turn], None]) -> None:
        turn = _Turn()
        self._turns.append(turn)
        threading.Thread(target=work, args=(turn,), name=f"turn-{len(self._turns)}", daemon=True).start()

    def _work(self, turn: _Turn) -> None:
        while True:
            call = self._waiting.get()
            turn.began_at = time.monotonic()
            call()
            turn.began_at = -math.inf

    def _help_out(self, turn: _Turn) -> None:
        """Work while others are held up."""
        while True:
            self._help.acquire()
            while self._room() > 0:
                try:
                    call = self._waiting.get_nowait()
                except Empty:
                    break
                turn.began_at = time.monotonic()
                call()
                turn.began_at = -math.inf
            with self._lock:
                self._idle_helpers += 1

    def _room(self) -> int:
        """How many more may work, beside those who are at it and not held up."""
        since = time.monotonic() - self._held_up_seconds
        return AT_ONCE - sum(turn.began_at >= since for turn in self._turns)

    def _look_after_those_who_wait(self) -> None:
        """Nobody else notices when one who works becomes one who is held up."""
        while True:
            self._behind.wait()
            time.sleep(self._held_up_seconds)
            self._behind.clear()  # first this, then the look: what comes in between is seen now or next time
            if not self._waiting.empty():
                self._behind.set()
                for _ in range(self._room()):
                    self._call_for_help()

    def _call_for_help(self) -> None:
        with self._lock:
            if self._idle_helpers:
                self._idle_helpers -= 1
            elif self._helpers_left:
                self._helpers_left -= 1
                self._start_thread(self._help_out)
            else:
                return
        self._help.release()


def _call(future: Future[Any], function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function(*args)
    except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
        future.set_exception(error)
    else:
        future.set_result(result)
