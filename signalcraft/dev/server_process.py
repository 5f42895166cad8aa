"""A server process of the embedded servers: start it, stop it, kill it, freeze it."""

import contextlib
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypedDict

import psycopg2
import redis

from signalcraft.domain.errors import SignalCraftError

try:
    import psutil
except ImportError:  # installed with the wheels; ``embedded_servers`` reports what is missing
    psutil = None

#: How long a server may take to start, or to end.
TIMEOUT_SECONDS: Final = 20.0


class EmbeddingError(SignalCraftError):
    """A server cannot be started; the message has the reason, or what to do."""


@dataclass(kw_only=True, eq=False)
class Server:
    """A server process that can be stopped and started again with the same URL and data."""

    name: str
    url: str = field(repr=False)
    command: Sequence[str | Path] = field(repr=False)
    log: Path
    stop_signal: signal.Signals
    probe: Callable[[str], object] = field(repr=False)
    account: str | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def pid(self) -> int:
        """Return the id of the process that owns the data."""
        if self._process is None:
            raise EmbeddingError(f"{self.name} is not running.")
        return self._process.pid

    def start(self) -> None:
        """Start the server, and wait until it responds.

        After a kill, that is when it has recovered.

        Raises:
            EmbeddingError: it did not start; the message has the end of its log.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own binary and arguments
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                start_new_session=True,  # Ctrl-C is for its parent, which stops its children in order
                **as_account(self.account),
            )
        self._wait_until_ready(self._process)

    def stop(self) -> None:
        """Stop the server gracefully, even a frozen one.

        All acknowledged writes are on disk then.
        """
        if self._process is not None:
            self._signal(signal.SIGCONT)
            self._process.send_signal(self.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(TIMEOUT_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kill the server and all its children, and wait.

        They get SIGKILL, as if in a power failure. The wait is over when they have ended.
        """
        if self._process is not None:
            family = self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
            _wait_until_ended(family)

    def freeze(self) -> None:
        """Freeze the server and all its children with SIGSTOP.

        The kernel accepts connections, but no process responds.
        """
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo :meth:`freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> list["psutil.Process"]:
        """Signal the process and its children.

        The parent comes first, so that it starts no more children.
        """
        family: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.pid)
            children = parent.children(recursive=True)
            for process in (parent, *children):
                family.append(process)
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
        return family

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            try:
                self.probe(self.url)
            except (redis.RedisError, psycopg2.OperationalError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    tail = self.log.read_text(errors="replace")[-2000:]
                    raise EmbeddingError(f"{self.name} did not start; its log ends with:\n{tail}") from error
                time.sleep(0.02)
            else:
                return


def interrupt_leftover(pid: int, *, argument: str) -> None:
    """Interrupt a server that an earlier run left behind, and wait.

    ``argument`` of its command line tells it from another process that has got its id.
    """
    with contextlib.suppress(psutil.Error):
        leftover = psutil.Process(pid)
        if argument in leftover.cmdline():
            leftover.send_signal(signal.SIGINT)
            _wait_until_ended([leftover])


def _wait_until_ended(family: Sequence["psutil.Process"]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while any(map(_is_running, family)) and time.monotonic() < deadline:
        time.sleep(0.005)


def _is_running(process: "psutil.Process") -> bool:
    """Return whether the process runs.

    A zombie, which init has yet to reap, does not.
    """
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def as_account(account: str | None) -> _Identity:
    """Return ``subprocess`` arguments that start a process as ``account``."""
    if account is None:
        return {}
    entry = pwd.getpwnam(account)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
