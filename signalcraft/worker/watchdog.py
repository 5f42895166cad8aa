"""The end of a process whose work gets nowhere, and does not even let go of the interpreter; or that cannot leave.

A regular expression that backtracks for hours holds Python's lock: nothing written in Python could stop it, but
``faulthandler`` can, from a thread of its own. It has one clock for the process; here any number of threads share it.
"""

import faulthandler
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_lock: Final = threading.Lock()
_deadlines: Final[dict[object, float]] = {}
_shutdown_requested: Final = threading.Event()

#: Say that this process is to end. A signal's handler may call it, which must not start a thread.
request_shutdown = _shutdown_requested.set


@contextmanager
def kill_process_after(seconds: float) -> Iterator[None]:
    """Let the process end, with a traceback of every thread and the exit code 1, if this takes longer."""
    work = object()
    with _lock:
        _deadlines[work] = time.monotonic() + seconds
        _set_clock()
    try:
        yield
    finally:
        with _lock:
            del _deadlines[work]
            _set_clock()


def force_exit_after_shutdown(seconds: float) -> None:
    """Let the process end so long after ``leave``, whatever it waits for: a frozen Redis holds it for minutes.

    What it had in hand comes back as from a worker that was killed.
    """

    def run() -> None:
        _shutdown_requested.wait()
        time.sleep(seconds)
        log.warning("forced exit after shutdown timeout", stage="stop", seconds=seconds)
        os._exit(0)

    threading.Thread(target=run, name="leaving", daemon=True).start()


def _set_clock() -> None:
    """To whatever has to end first."""
    if _deadlines:
        faulthandler.dump_traceback_later(max(0.001, min(_deadlines.values()) - time.monotonic()), exit=True)
    else:
        faulthandler.cancel_dump_traceback_later()
