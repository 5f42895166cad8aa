"""A whole SignalCraft on this machine: embedded servers, and the processes of the ``Procfile`` as they would run.

What ``demo`` and ``dev`` stand on. Processes are started and stopped in order, and end with the block.
"""

import contextlib
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from signalcraft import http_client
from signalcraft.dev import embedded_servers
from signalcraft.domain.errors import SignalCraftError

ROOT = Path(__file__).parents[2]

_START_SECONDS = 30.0
_DRAIN_SECONDS = 15.0

#: What each process runs; ``release`` before all others, and to its end.
_RELEASE = ("-m", "signalcraft", "migrate")
_PROCESSES: Mapping[str, Sequence[str]] = {
    "web": ("-m", "gunicorn", "app:app"),
    "worker": ("worker.py",),
    "notifier": ("worker.py", "notifications"),
}


class DeploymentError(SignalCraftError):
    """A process did not start or ended by itself; the message ends with its last lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A running one."""

    url: str
    secret: str = field(repr=False)
    token: str = field(repr=False)
    environ: Mapping[str, str] = field(repr=False)
    directory: Path
    processes: Mapping[str, "subprocess.Popen[bytes]"] = field(repr=False)

    @property
    def webhook_url(self) -> str:
        """Where Sentry would send to."""
        return f"{self.url}/webhooks/sentry"

    def check(self) -> None:
        """Make sure that every process still runs.

        Raises:
            DeploymentError: one does not.
        """
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise DeploymentError(f"{name} ended by itself.\n{self.last_lines(name)}")

    def last_lines(self, name: str, number: int = 20) -> str:
        """The end of a process's log."""
        lines = (self.directory / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-number:])


@contextlib.contextmanager
def run_local_stack(
    directory: Path,
    environ: Mapping[str, str],
    *,
    port: int,
    secret: str = "",
    token: str = "",
    durable: bool = True,
) -> Iterator[Deployment]:
    """Everything up, and ready to be sent deliveries to, while the block runs.

    Data and logs are in ``directory``. ``environ`` is this process's own, from which settings beside the ones
    made here are taken; ``secret`` and ``token`` are random where empty.

    Raises:
        EmbeddingError: a server does not start.
        DeploymentError: a process does not start.
    """
    secret, token = secret or secrets.token_hex(32), token or f"sc_{secrets.token_urlsafe(32)}"
    with embedded_servers.servers(directory, durable=durable) as servers, contextlib.ExitStack() as stack:
        ours = {
            "DATABASE_URL": servers.database_url,
            "REDIS_URL": servers.redis_url,
            "PORT": str(port),
            "SENTRY_CLIENT_SECRET": secret,
            "API_TOKEN": token,
        }
        everything = {**environ, **ours}
        _release(directory, everything)
        deployment = Deployment(
            url=f"http://127.0.0.1:{port}",
            secret=secret,
            token=token,
            environ=ours,
            directory=directory,
            processes={
                name: stack.enter_context(_running(arguments, directory / f"{name}.log", everything))
                for name, arguments in _PROCESSES.items()
            },
        )
        _wait_until_up(deployment)
        yield deployment


def _release(directory: Path, environ: Mapping[str, str]) -> None:
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, *_RELEASE], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    (directory / "release.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        raise DeploymentError(f"The release failed.\n{done.stderr.strip()}")


@contextlib.contextmanager
def _running(arguments: Sequence[str], log: Path, environ: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own code
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for us, who stop things in their order
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_up(deployment: Deployment) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        deployment.check()
        with contextlib.suppress(http_client.ServerUnreachable):
            if http_client.get(f"{deployment.url}/healthz").accepted:
                return
        if time.monotonic() > deadline:
            raise DeploymentError(f"web does not answer.\n{deployment.last_lines('web')}")
        time.sleep(0.05)
