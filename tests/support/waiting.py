"""Wait for a condition in another process, or for a machine that is busy with other things."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.05)


def keeps_time(attempt: Callable[[int], float], *, seconds: float, attempts: int = 3) -> None:
    """Check that an attempt, called with its number, took less than ``seconds``, as it returns.

    A machine that others use may stop a process for a second, so there are several attempts; the first good one is the
    last.
    """
    taken: list[float] = []
    while not taken or taken[-1] >= seconds:
        assert len(taken) < attempts, f"it took {taken} seconds"
        taken.append(attempt(len(taken)))
