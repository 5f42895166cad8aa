"""A whole SignalCraft for this machine alone: embedded servers and the processes of the ``Procfile``, on loopback.

Used by ``demo`` and ``dev``. Processes are started and stopped in order, and end with the block.
"""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from signalcraft import http_client
from signalcraft.dev import embedded_servers
from signalcraft.dev.fake_slack.workspace import BOT_TOKEN
from signalcraft.domain.errors import SignalCraftError
from signalcraft.sources import SOURCES

ROOT = Path(__file__).parents[2]

_START_TIMEOUT_SECONDS = 30.0
_STOP_TIMEOUT_SECONDS = 15.0

#: Runs to its end before the others start.
_RELEASE = ("-m", "signalcraft", "migrate")
_HOST = "127.0.0.1"
_PROCESSES: Mapping[str, Sequence[str]] = {
    "worker": ("worker.py",),
    "notifier": ("worker.py", "notifications"),
}
_SLACK_PORT_OFFSET = 90
_SLACK = ("-m", "signalcraft.dev.fake_slack")
_NOTIFY = """\
# Whom `make run` and `make demo` tell: the fake Slack. Written at each start; docs/routes.md has more to write here.
[receivers.alerts]
kind = "slack"
token = "env:SLACK_BOT_TOKEN"
channel = "C0ALERTS"

[[routes]]
name = "everything"
to = ["alerts"]
update_every = "1s"
"""


class DeploymentError(SignalCraftError):
    """A process did not start or ended unexpectedly; the message has the last lines of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A running local stack. ``slack_url`` is the page of the fake Slack, empty without one."""

    url: str
    slack_url: str
    secret: str = field(repr=False)
    token: str = field(repr=False)
    environ: Mapping[str, str] = field(repr=False)
    directory: Path
    processes: Mapping[str, "subprocess.Popen[bytes]"] = field(repr=False)

    @property
    def webhook_urls(self) -> dict[str, str]:
        """The URLs that senders would send to, by source."""
        return {source: f"{self.url}/webhooks/{source}" for source in SOURCES}

    def check(self) -> None:
        """Check that every process still runs.

        Raises:
            DeploymentError: a process has ended.
        """
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise DeploymentError(f"{name} ended unexpectedly.\n{self.last_lines(name)}")

    def last_lines(self, name: str, number: int = 20) -> str:
        """Return the last ``number`` lines of a process's log."""
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
    """Run all processes during the block, ready to receive deliveries.

    Data and logs are in ``directory``. ``environ`` is this process's environment, which has all settings but the ones
    set here; ``secret`` and ``token`` are random if empty. Without a ``NOTIFY`` of its own, a fake Slack is told.

    Raises:
        EmbeddingError: a server does not start.
        DeploymentError: a process does not start, or the port is taken.
    """
    _check_port(port)
    slack_port = None if environ.get("NOTIFY") else _slack_port(port)
    secret, token = secret or secrets.token_hex(32), token or f"sc_{secrets.token_urlsafe(32)}"
    with embedded_servers.servers(directory, durable=durable) as servers, contextlib.ExitStack() as stack:
        local_settings = {
            "DATABASE_URL": servers.database_url,
            "REDIS_URL": servers.redis_url,
            "PORT": str(port),
            "API_TOKEN": token,
            **{kind.variable: secret for source in SOURCES.values() for kind in source.KINDS if kind.variable},
        }
        processes = {"web": ("-m", "gunicorn", "--bind", f"{_HOST}:{port}", "app:app"), **_PROCESSES}
        if slack_port:
            local_settings |= _told_by_slack(directory, port, slack_port)
            processes = {"slack": _slack(port, slack_port), **processes}
        process_environ = {**environ, **local_settings}
        _release(directory, process_environ)
        deployment = Deployment(
            url=f"http://{_HOST}:{port}",
            slack_url=f"http://{_HOST}:{slack_port}/" if slack_port else "",
            secret=secret,
            token=token,
            environ=local_settings,
            directory=directory,
            processes={
                name: stack.enter_context(_running(arguments, directory / f"{name}.log", process_environ))
                for name, arguments in processes.items()
            },
        )
        _wait_until_up(deployment)
        yield deployment


def _told_by_slack(directory: Path, port: int, slack_port: int) -> dict[str, str]:
    """Write the file of a receiver in the fake Slack, and return the settings for it.

    The signing secret is a new one: with a known one, every program on this machine could press buttons.
    """
    notify = directory / "notify.toml"
    notify.write_text(_NOTIFY)
    return {
        "NOTIFY": os.path.relpath(notify, ROOT),  # to be sourced by a shell: ROOT may have spaces
        "PUBLIC_URL": f"http://{_HOST}:{port}",
        "SLACK_API_URL": f"http://{_HOST}:{slack_port}/api/",
        "SLACK_BOT_TOKEN": BOT_TOKEN,
        "SLACK_SIGNING_SECRET": secrets.token_hex(16),
    }


def _slack_port(port: int) -> int:
    """Return a port for the fake Slack, the same at each start if that is free: its page may stay open."""
    with contextlib.suppress(OSError, OverflowError), socket.create_server((_HOST, port + _SLACK_PORT_OFFSET)):
        return port + _SLACK_PORT_OFFSET
    return embedded_servers.free_port()


def _slack(port: int, slack_port: int) -> Sequence[str]:
    return (*_SLACK, "--port", str(slack_port), "--request-url", f"http://{_HOST}:{port}/slack/actions")


def _check_port(port: int) -> None:
    try:
        socket.create_server((_HOST, port)).close()
    except OSError as error:
        raise DeploymentError(
            f"Port {port} cannot be used ({os.strerror(error.errno or 0)}): choose another by PORT."
        ) from error


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
            start_new_session=True,  # Ctrl-C is for the parent, which stops its children in order
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_up(deployment: Deployment) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while True:
        deployment.check()
        with contextlib.suppress(http_client.ServerUnreachable):
            if http_client.get(f"{deployment.url}/healthz").accepted:
                return
        if time.monotonic() > deadline:
            raise DeploymentError(f"web does not respond.\n{deployment.last_lines('web')}")
        time.sleep(0.05)
