"""A breaker: after one failure, what failed is left alone for a moment.

A server that is gone fails at once and costs nothing to ask. One that is frozen costs a timeout each time, and
a sender that gives up after a second must not pay it on every delivery.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from signalcraft.errors import RecoverableError


class Breaker:
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
