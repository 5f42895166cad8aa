"""Work that may hang, waited for so long and no longer.

libpq waits for an answer for as long as the connection stands, and the kernel of a server that is frozen keeps it
standing. Whoever has a second for an answer lets a thread wait instead.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from signalcraft.errors import RecoverableError

T = TypeVar("T")


@dataclass(slots=True)
class _Task(Generic[T]):
    done: threading.Event = field(default_factory=threading.Event)
    result: T | None = None
    error: BaseException | None = None
    overdue: bool = False


class Patience:
    """Does one kind of work in threads. While some of it hangs, more of it is not even begun.

    What hung is not called back: it may still come to a good end, and has to do no harm then.
    """

    def __init__(self, away: type[RecoverableError], *, most_overdue: int = 2) -> None:
        """``away`` is raised for what takes too long."""
        self._away = away
        self._most_overdue = most_overdue
        self._lock = threading.Lock()
        self._overdue = 0

    def do(self, work: Callable[[], T], *, seconds: float) -> T:
        """What ``work`` comes to.

        Raises:
            RecoverableError: ``away``, after so many seconds, or at once while other work hangs; whatever it raises.
        """
        if self._overdue >= self._most_overdue:
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
