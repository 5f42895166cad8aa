"""How processes that a test has started end."""

import re
import signal
import subprocess
from pathlib import Path

import worker

#: What Kubernetes and Docker give a process before they kill it; Heroku gives thirty.
PLATFORM_SECONDS = 10
#: What a machine that others use may add.
_BUSY_SECONDS = 10


def is_ready_to_stop(process: "subprocess.Popen[bytes]") -> bool:
    """Return whether SIGTERM is handled: a worker registers before that, and would just die of it."""
    (caught,) = re.findall(r"^SigCgt:\t(\w+)$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def exit_code(process: "subprocess.Popen[bytes]") -> int:
    """Wait for the end of a worker that hangs, and was asked to stop: its own clock ends it in time for a platform."""
    assert worker._SHUTDOWN_TIMEOUT_SECONDS <= PLATFORM_SECONDS - 1.5
    return process.wait(PLATFORM_SECONDS + _BUSY_SECONDS)
