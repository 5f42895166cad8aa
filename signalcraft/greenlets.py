"""Wait without a thread: a loop runs requests on one thread, each in a greenlet that gives way while it waits.

A request that a thread serves is handed over twice, to the thread and back, and once more for each wait: each time the
thread that comes next needs the interpreter's lock, which another one may have. On the loop's own thread it needs none
of that, but what blocks there blocks all. So code that a loop may run calls what blocks with ``run_blocking``.
"""

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from greenlet import getcurrent, greenlet

T = TypeVar("T")


class Loop(Protocol):
    """What a greenlet needs of its loop. The names are asyncio's, and mean the same."""

    def add_reader(self, sock: Any, callback: Callable[[], object]) -> None:  # noqa: ANN401 - a socket
        """Call ``callback`` whenever ``sock`` can be read."""

    def remove_reader(self, sock: Any) -> None:  # noqa: ANN401 - a socket
        """Undo ``add_reader``."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> None:
        """Call ``callback`` once, after at least ``seconds``."""

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` soon; any thread may ask for it."""

    def run_in_executor(self, call: Callable[[], T]) -> Future[T]:
        """Run ``call`` in a thread, before requests that wait for one.

        Raises:
            ThreadsExhausted: the system has no thread for it.
        """


class RequestGreenlet(greenlet):
    """A greenlet in which a loop serves a request."""

    def __init__(self, loop: Loop, serve: Callable[[], None], when_done: Callable[[], object]) -> None:
        """Create it on the loop's thread.

        ``when_done`` is called there after ``serve``, which raises nothing, outside of the greenlet.
        """
        super().__init__(serve)
        self.loop = loop
        self._when_done = when_done

    def resume(self) -> None:
        """Run until it waits, or is done.

        Raises:
            RuntimeError: another greenlet called this, which would never go on itself.
        """
        if getcurrent() is not self.parent:
            raise RuntimeError("only the loop may resume a request")
        self.switch()
        if self.dead:
            self._when_done()

    def suspend(self) -> None:
        """Give way to the loop until ``resume``.

        Only the greenlet itself may call this.
        """
        cast("greenlet", self.parent).switch()


def running() -> RequestGreenlet | None:
    """Return the greenlet that runs, if a loop runs it."""
    current = getcurrent()
    return current if isinstance(current, RequestGreenlet) else None


def run_blocking(call: Callable[[], T]) -> T:
    """Return what ``call`` returns, or raise what it raises.

    In a request of a loop it runs in a thread, and the loop serves others meanwhile; elsewhere it is simply called.
    It sees the context variables of its caller.

    Raises:
        ThreadsExhausted: the loop needs a thread for it, and the system has none.
    """
    request = running()
    if request is None:
        return call()
    done = request.loop.run_in_executor(partial(copy_context().run, call))
    done.add_done_callback(lambda _: request.loop.call_soon_threadsafe(request.resume))
    request.suspend()
    return done.result()
