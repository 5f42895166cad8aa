"""The ``Procfile`` as a platform runs it, and the responses that a sender gets meanwhile."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
from honcho.environ import parse_procfile
from redis import Redis

from signalcraft import http_client
from signalcraft.dev import embedded_servers
from signalcraft.domain.errors import SignalCraftError
from systemtest import checking
from systemtest.senders import Senders
from tests.support import ROOT
from tests.support.processes import PLATFORM_SECONDS
from tests.support.waiting import keeps_time, wait_until
from tests.support.web_client import SECRET, TOKEN, sample

#: Heroku's smallest PostgreSQL allows twenty connections.
MAX_CONNECTIONS = 20
PROCFILE = parse_procfile((ROOT / "Procfile").read_text()).processes


@dataclass
class Platform:
    """Run lines of a Procfile as a platform does; processes still running at the end are killed."""

    environ: dict[str, str]
    directory: Path
    root: Path = ROOT
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environ['PORT']}"

    def start(self, command: str) -> subprocess.Popen[bytes]:
        with (self.directory / "processes.log").open("ab") as log:
            process = subprocess.Popen(
                shlex.split(command), cwd=self.root, env=self.environ, stdout=log, stderr=log, start_new_session=True
            )
        self.started.append(process)
        return process

    def release(self) -> None:
        assert self.start(PROCFILE["release"]).wait(60) == 0

    def deliver(self) -> int:
        sent = sample()
        return http_client.post(f"{self.url}/webhooks/sentry", sent.body, sent.headers).status

    def is_up(self) -> bool:
        with suppress(SignalCraftError):
            return http_client.get(f"{self.url}/healthz").status == 200
        return False

    def list_groups(self) -> int:
        return http_client.get(f"{self.url}/api/v1/groups", token=TOKEN).status

    def has_group(self) -> bool:
        return bool(http_client.get(f"{self.url}/api/v1/groups", token=TOKEN).body.get("groups"))

    def end(self) -> None:
        for process in self.started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def platform(database_url: str, redis_url: str, clean_redis: Redis, tmp_path: Path) -> Iterator[Platform]:  # noqa: ARG001 - for that it is clean
    """On a database that no release has seen."""
    name = f"signalcraft_deployment_{os.getpid()}"
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DATABASE_URL": embedded_servers.create_database(database_url, name),
        "REDIS_URL": redis_url,
        "SENTRY_CLIENT_SECRET": SECRET,
        "API_TOKEN": TOKEN,
        "PORT": str(embedded_servers.free_port()),
        "RATELIMIT_WEBHOOK": "1000000/minute",
    }
    platform = Platform(environ, tmp_path)
    yield platform
    platform.end()
    embedded_servers.drop_database(database_url, name)


def connections(watching: Any) -> int:  # noqa: ANN401 - psycopg2 ships no types
    """Return the number of connections to its database, except its own."""
    with watching.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) - 1 FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend'"  # autovacuum takes none
        )
        return int(cursor.fetchone()[0])


def stop(process: subprocess.Popen[bytes]) -> float:
    """Terminate it; return how many seconds it took."""
    began = time.monotonic()
    process.terminate()
    process.wait(PLATFORM_SECONDS + 5)
    return time.monotonic() - began


def test_release_web_worker_and_notifier_are_a_deployment_and_each_stops_in_time(platform: Platform) -> None:
    platform.release()
    processes = {name: platform.start(PROCFILE[name]) for name in ("web", "worker", "notifier")}
    wait_until(platform.is_up)
    wait_until(lambda: platform.deliver() == 202)  # 503 if PostgreSQL takes longer for the first secrets
    wait_until(platform.has_group)
    for name, process in processes.items():
        assert stop(process) < PLATFORM_SECONDS, name
        assert process.returncode == 0, name


def test_it_stays_within_the_connections_of_a_small_plan(platform: Platform) -> None:
    """Twenty to PostgreSQL, for a web process, a worker and a notifier, while deliveries and lists come at once."""
    platform.environ["DATABASE_URL"] = platform.environ["DATABASE_URL"].replace("postgresql://", "postgres://")
    platform.release()
    for name in ("web", "worker", "notifier"):
        platform.start(PROCFILE[name])
    wait_until(platform.is_up)
    senders = Senders(f"{platform.url}/webhooks/sentry", SECRET, number=16, per_second=160, seed=11)
    most = 0
    with closing(psycopg2.connect(platform.environ["DATABASE_URL"])) as watching, senders.sending():
        watching.autocommit = True
        with ThreadPoolExecutor(16) as readers:
            reading = [readers.submit(platform.list_groups) for _ in range(400)]
            while not all(one.done() for one in reading):
                most = max(most, connections(watching))
                time.sleep(0.05)
    assert {one.result() for one in reading} <= {200, 503}
    assert 3 <= most <= MAX_CONNECTIONS, most


def test_a_failed_release_exits_nonzero_and_logs_the_reason(platform: Platform) -> None:
    platform.environ["DATABASE_URL"] = "postgresql://127.0.0.1:1/nowhere"
    assert platform.start(PROCFILE["release"]).wait(60) != 0
    assert "connection to server" in (platform.directory / "processes.log").read_text()


def test_one_dyno_runs_everything_and_stops_every_process(platform: Platform) -> None:
    platform.release()
    honcho = platform.start("honcho start --no-prefix -f Procfile.one")
    wait_until(platform.is_up)
    wait_until(lambda: platform.deliver() == 202)  # 503 if PostgreSQL takes longer for the first secrets
    wait_until(platform.has_group)
    family = psutil.Process(honcho.pid).children(recursive=True)
    assert stop(honcho) < PLATFORM_SECONDS
    log = (platform.directory / "processes.log").read_text()
    assert log.count("stopped (rc=0)") == 3, "it must wait for them, and not for a shell in front of them"
    wait_until(lambda: not any(process.is_running() for process in family), seconds=5)


def test_a_rolling_restart_under_load_refuses_nothing_and_loses_nothing(platform: Platform) -> None:
    """A new gunicorn on the same socket before the old one stops, then the workers one after the other."""
    platform.environ["WEB_CONCURRENCY"] = "2"
    platform.release()
    web, *workers = (platform.start(PROCFILE[name]) for name in ("web", "worker", "worker"))
    wait_until(lambda: platform.is_up() and platform.deliver() == 202)

    def roll_all(attempt: int) -> float:
        nonlocal web
        senders = Senders(f"{platform.url}/webhooks/sentry", SECRET, number=8, per_second=80, seed=7 + attempt)
        with senders.sending():
            time.sleep(1)
            for _ in range(2):
                web = roll(web)
                for number, worker in enumerate(workers):
                    workers[number] = platform.start(PROCFILE["worker"])
                    assert stop(worker) < PLATFORM_SECONDS
            time.sleep(1)
        findings = checking.check(senders.history, platform.environ["DATABASE_URL"], timeout_seconds=30)
        assert findings.sent > 300
        assert set(findings.responses) <= {200, 202}, findings.responses
        assert findings.is_all_stored, "\n".join(findings.lines())
        return findings.slowest_ms / 1000

    keeps_time(roll_all, seconds=1)
    os.kill(web.pid, signal.SIGTERM)


def test_what_the_image_holds_is_enough_to_run(platform: Platform, tmp_path: Path) -> None:
    """There is no engine here to build it: its COPY lines, done by hand."""
    image = tmp_path / "image"
    image.mkdir()
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    for *sources, target in [shlex.split(line)[1:] for line in lines if line.startswith("COPY ")]:
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, image / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, image / target)
    platform.root = image
    platform.release()
    command = next(json.loads(line[3:]) for line in lines if line.startswith("CMD"))
    for process in (shlex.join(command), PROCFILE["worker"]):
        platform.start(process)
    wait_until(platform.is_up)
    wait_until(lambda: platform.deliver() == 202)  # 503 if PostgreSQL takes longer for the first secrets
    wait_until(platform.has_group)


def roll(web: "subprocess.Popen[bytes] | psutil.Process") -> psutil.Process:
    """Have gunicorn start its successor, and stop it once the successor serves: https://gunicorn.org/signals/."""
    old = psutil.Process(web.pid)
    before = {child.pid for child in old.children()}
    asked = 0.0

    def successor() -> psutil.Process | None:
        nonlocal asked
        new = [child for child in old.children() if child.pid not in before]
        if not new and time.monotonic() - asked > 2:  # a new master ignores signals for a second
            old.send_signal(signal.SIGUSR2)
            asked = time.monotonic()
        return next((child for child in new if child.children()), None)

    wait_until(lambda: successor() is not None)
    new = successor()
    assert new is not None
    wait_until(lambda: len(new.children()) == 2)
    time.sleep(1)  # its workers report nowhere that they listen
    old.terminate()
    wait_until(lambda: not old.is_running() or old.status() == psutil.STATUS_ZOMBIE, seconds=PLATFORM_SECONDS)
    return new
