"""The processes that chaos takes away: embedded servers behind a pipe, gunicorn, workers."""

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
_PATIENCE_SECONDS: Final = 30.0


class Servers:
    """Redis and PostgreSQL, started and tamed by ``signalcraft.hosting`` in a process of its own."""

    def __init__(self, directory: Path) -> None:
        """Start them; returns when both answer."""
        self._host = subprocess.Popen(
            [sys.executable, "-m", "signalcraft.dev.server_control", str(directory)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        urls = json.loads(self._read())
        self.redis_url: str = urls["redis"]
        self.database_url: str = urls["postgres"]

    def order(self, what: str) -> None:
        """``redis kill`` and the like; returns when it is done."""
        print(what, file=self._stream(self._host.stdin), flush=True)
        self._read()

    def stop(self) -> None:
        """End both servers."""
        self._stream(self._host.stdin).close()
        self._host.wait(_PATIENCE_SECONDS)

    def _read(self) -> str:
        line = self._stream(self._host.stdout).readline()
        if not line:
            raise RuntimeError("the embedded servers' host ended")
        return line

    @staticmethod
    def _stream(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream


class Process:
    """One process of the deployment, and those it forked."""

    def __init__(self, name: str, arguments: Sequence[str], environ: Mapping[str, str], directory: Path) -> None:
        """Nothing runs until :meth:`start`."""
        self.name = name
        self._arguments = arguments
        self._environ = environ
        self._log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it may take a second until it works."""
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
        """Start it and wait for its good end."""
        self.start()
        assert self._process is not None
        assert self._process.wait(_PATIENCE_SECONDS) == 0, f"{self.name} failed"

    def kill(self) -> None:
        """SIGKILL it and all that it forked."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def kill_children(self) -> None:
        """SIGKILL what it forked: gunicorn's workers, which it then forks anew."""
        assert self._process is not None
        for child in psutil.Process(self._process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def stop(self) -> None:
        """SIGTERM, as a platform would, and SIGKILL ten seconds later."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            self.kill()


class Deployment:
    """Servers, one web, two workers: all of SignalCraft, each part to be taken away."""

    def __init__(self, directory: Path, secret: str, settings: Mapping[str, str], *, app: str = "app:app") -> None:
        """``app`` is what gunicorn serves."""
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
        self._release = Process("release", ["-m", "signalcraft", "migrate"], environ, directory)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Everything up while the block runs."""
        try:
            self._release.run()
            for process in (self.web, *self.workers):
                process.start()
            self.wait_for_web()
            yield
        finally:
            for process in (self.web, *self.workers):
                process.stop()
            self.servers.stop()

    def wait_for_web(self) -> None:
        """Until somebody listens."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.05)
        raise RuntimeError("web does not listen")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
