"""The end of a process whose work gets nowhere, and does not even let go of the interpreter.

A regular expression that backtracks for hours holds Python's lock: nothing written in Python could stop it, but
``faulthandler`` can, from a thread of its own. It has one clock for the process; here any number of threads share it.
"""

import faulthandler
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_lock: Final = threading.Lock()
_ends: Final[dict[object, float]] = {}


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Let the process end, with a traceback of every thread and the exit code 1, if this takes longer."""
    work = object()
    with _lock:
        _ends[work] = time.monotonic() + seconds
        _set_clock()
    try:
        yield
    finally:
        with _lock:
            del _ends[work]
            _set_clock()


def _set_clock() -> None:
    """To whatever has to end first."""
    if _ends:
        faulthandler.dump_traceback_later(max(0.001, min(_ends.values()) - time.monotonic()), exit=True)
    else:
        faulthandler.cancel_dump_traceback_later()
