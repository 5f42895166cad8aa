"""The processes of a test deployment: embedded servers behind a pipe, gunicorn, workers."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

import psutil

ROOT: Final = Path(__file__).parent.parent
_TIMEOUT_SECONDS: Final = 30.0


class Servers:
    """Redis and PostgreSQL, controlled by ``signalcraft.dev.server_control`` in a child process."""

    def __init__(self, directory: Path) -> None:
        """Start both servers and wait until they respond."""
        self._control = subprocess.Popen(
            [sys.executable, "-m", "signalcraft.dev.server_control", str(directory)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        urls = json.loads(self._read())
        self.redis_url: str = urls["redis"]
        self.database_url: str = urls["postgres"]

    def command(self, line: str) -> None:
        """Execute a command, such as ``redis kill``, and wait until it is done."""
        print(line, file=self._stream(self._control.stdin), flush=True)
        self._read()

    def stop(self) -> None:
        """Stop both servers."""
        self._stream(self._control.stdin).close()
        self._control.wait(_TIMEOUT_SECONDS)

    def _read(self) -> str:
        line = self._stream(self._control.stdout).readline()
        if not line:
            raise RuntimeError("the server control process ended")
        return line

    @staticmethod
    def _stream(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream


class Process:
    """One process of the deployment, and its children."""

    def __init__(self, name: str, arguments: Sequence[str], environ: Mapping[str, str], directory: Path) -> None:
        """Prepare the process; :meth:`start` starts it."""
        self.name = name
        self._arguments = arguments
        self._environ = environ
        self._log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, without waiting until it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self) -> None:
        """Run the process to its end, which must be successful."""
        self.start()
        assert self._process is not None
        assert self._process.wait(_TIMEOUT_SECONDS) == 0, f"{self.name} failed"

    def kill(self) -> None:
        """SIGKILL the process and its children."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def kill_children(self) -> None:
        """SIGKILL the children: gunicorn's workers, which gunicorn then restarts."""
        assert self._process is not None
        for child in psutil.Process(self._process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def stop(self) -> None:
        """SIGTERM the process, as a platform does, and SIGKILL it ten seconds later."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            self.kill()


class Deployment:
    """All of SignalCraft: servers, one web, two workers, a notifier; each part can be stopped."""

    def __init__(self, directory: Path, secret: str, settings: Mapping[str, str], *, app: str = "app:app") -> None:
        """Start the servers; gunicorn will serve ``app``."""
        self.servers = Servers(directory)
        port = free_port()
        environ = {
            **os.environ,
            "DATABASE_URL": self.servers.database_url,
            "REDIS_URL": self.servers.redis_url,
            "PORT": str(port),
            "WEB_CONCURRENCY": "2",
            "SENTRY_CLIENT_SECRET": secret,
            "RATELIMIT_WEBHOOK": "1000000/minute",
            **settings,
        }
        self.database_url = self.servers.database_url
        self.port = port
        self.webhook_url = f"http://127.0.0.1:{port}/webhooks/sentry"
        self.web = Process("web", ["-m", "gunicorn", app], environ, directory)
        self.workers = [Process(f"worker-{number}", ["worker.py"], environ, directory) for number in (1, 2)]
        self.notifier = Process("notifier", ["worker.py", "notifications"], environ, directory)
        self._release = Process("release", ["-m", "signalcraft", "migrate"], environ, directory)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run everything during the block."""
        try:
            self._release.run()
            for process in (self.web, *self.workers, self.notifier):
                process.start()
            self.wait_for_web()
            yield
        finally:
            for process in (self.web, *self.workers, self.notifier):
                process.stop()
            self.servers.stop()

    def wait_for_web(self) -> None:
        """Wait until the web process listens."""
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.05)
        raise RuntimeError("web does not listen")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
