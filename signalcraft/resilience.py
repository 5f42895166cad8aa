"""A breaker: after one failure, what failed is left alone for a moment.

A server that is gone fails at once and costs nothing to ask. One that is frozen costs a timeout each time, and
a sender that gives up after a second must not pay it on every delivery.

Work that may hang, waited for so long and no longer.

libpq waits for an answer for as long as the connection stands, and the kernel of a server that is frozen keeps it
standing. Whoever has a second for an answer lets a thread wait instead.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from signalcraft.domain.errors import RecoverableError


class CircuitBreaker:
    """Closed while all is well; open for ``pause_seconds`` after a failure; then one caller may try.

    Threads share it. ``clock`` is monotonic, in seconds.
    """

    def __init__(
        self,
        away: type[RecoverableError],
        *,
        pause_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``away`` is the failure that opens the breaker, and what it raises while it is open."""
        self._away = away
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._closed_again_at: float | None = None

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Run the block, unless it failed a moment ago.

        Raises:
            RecoverableError: ``away``, from the block, or instead of it while the breaker is open.
        """
        self._let_through()
        try:
            yield
        except self._away:
            self._open()
            raise
        self._closed_again_at = None

    def _let_through(self) -> None:
        with self._lock:
            if self._closed_again_at is None:
                return
            if self._clock() < self._closed_again_at:
                raise self._away("it was away a moment ago")
            # This caller tries; the others find the breaker open until it has.
            self._closed_again_at = self._clock() + self._pause_seconds

    def _open(self) -> None:
        with self._lock:
            self._closed_again_at = self._clock() + self._pause_seconds


T = TypeVar("T")


@dataclass(slots=True)
class _Task(Generic[T]):
    done: threading.Event = field(default_factory=threading.Event)
    result: T | None = None
    error: BaseException | None = None
    overdue: bool = False


class BoundedCall:
    """Does one kind of work in threads. While some of it hangs, more of it is not even begun.

    What hung is not called back: it may still come to a good end, and has to do no harm then.
    """

    def __init__(self, away: type[RecoverableError], *, max_overdue: int = 2) -> None:
        """``away`` is raised for what takes too long."""
        self._away = away
        self._max_overdue = max_overdue
        self._lock = threading.Lock()
        self._overdue = 0

    def run(self, work: Callable[[], T], *, seconds: float) -> T:
        """What ``work`` comes to.

        Raises:
            RecoverableError: ``away``, after so many seconds, or at once while other work hangs; whatever it raises.
        """
        if self._overdue >= self._max_overdue:
            raise self._away("others wait for it already")
        task: _Task[T] = _Task()
        threading.Thread(target=self._run, args=(work, task), name="patience", daemon=True).start()
        if not task.done.wait(seconds) and self._give_up(task):
            raise self._away("it takes too long")
        if task.error is not None:
            raise task.error
        return task.result  # type: ignore[return-value] # there is one: it is done, without an error

    def _run(self, work: Callable[[], T], task: _Task[T]) -> None:
        try:
            task.result = work()
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
            task.error = error
        with self._lock:
            task.done.set()
            self._overdue -= task.overdue

    def _give_up(self, task: _Task[T]) -> bool:
        """Whether it is still not done."""
        with self._lock:
            task.overdue = not task.done.is_set()
            self._overdue += task.overdue
            return task.overdue
