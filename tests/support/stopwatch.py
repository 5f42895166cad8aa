"""Seconds without those in which this process did not run: what a busy machine takes is no fault of the code."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_TICK_SECONDS = 0.005


class Stopwatch:
    """``seconds`` so far. A pause of the whole process counts as little as a tick."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stopped.wait(_TICK_SECONDS):
            now = time.monotonic()
            self.seconds += min(now - last, 2 * _TICK_SECONDS)
            last = now


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Measure the block."""
    running = Stopwatch()
    try:
        yield running
    finally:
        running.stop()
