"""End a process that hangs: in code that holds the GIL, or in a shutdown that does not finish.

A regular expression that backtracks for hours holds the GIL: no Python code could stop it, but ``faulthandler`` can,
from a thread in C. It has one timer for the process; here any number of threads share it. It writes a traceback first,
which waits for ever if nobody reads standard error: so the kernel's timer ends the process a second later.
"""

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import structlog

from signalcraft import logs

log = structlog.get_logger(__name__)

_lock: Final = threading.Lock()
_deadlines: Final[dict[object, float]] = {}
_shutdown_requested: Final = threading.Event()
#: How long faulthandler may take to write its traceback.
_DUMP_TIMEOUT_SECONDS: Final = 1.0

#: Announce that this process is to end. Safe in a signal handler, which must not start a thread.
request_shutdown = _shutdown_requested.set


@contextmanager
def kill_process_after(seconds: float) -> Iterator[None]:
    """End the process if the block takes longer.

    It ends with a traceback of every thread and exit code 1, or by SIGALRM.
    """
    token = object()
    with _lock:
        _deadlines[token] = time.monotonic() + seconds
        _set_timer()
    try:
        yield
    finally:
        with _lock:
            del _deadlines[token]
            _set_timer()


def force_exit_after_shutdown(seconds: float) -> None:
    """End the process ``seconds`` after ``request_shutdown``.

    It ends even if it waits for a frozen Redis. Its claimed jobs are requeued as those of a killed worker.
    """

    def run() -> None:
        _shutdown_requested.wait()
        time.sleep(seconds)
        log.warning("forced exit after shutdown timeout", stage="stop", seconds=seconds)
        logs.flush()
        os._exit(0)

    threading.Thread(target=run, name="forced-exit", daemon=True).start()


def _set_timer() -> None:
    """Set both timers to the earliest deadline.

    A fault of faulthandler (standard error cannot be used) is none of the deliveries that the process is working on.
    """
    if not _deadlines:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return
    seconds = max(0.001, min(_deadlines.values()) - time.monotonic())
    signal.setitimer(signal.ITIMER_REAL, seconds + _DUMP_TIMEOUT_SECONDS)
    with suppress(RuntimeError, ValueError, OSError):
        faulthandler.dump_traceback_later(seconds, exit=True)
