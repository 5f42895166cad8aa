"""How processes that a test has started end."""

import subprocess

import worker

#: What Kubernetes and Docker give a process before they kill it; Heroku gives thirty.
PLATFORM_SECONDS = 10
#: What a machine that others use may add.
_BUSY_SECONDS = 10


def exit_code(process: "subprocess.Popen[bytes]") -> int:
    """Wait for the end of a worker that hangs, and was asked to stop: its own clock ends it in time for a platform."""
    assert worker._SHUTDOWN_TIMEOUT_SECONDS <= PLATFORM_SECONDS - 1.5
    return process.wait(PLATFORM_SECONDS + _BUSY_SECONDS)
