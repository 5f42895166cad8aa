"""The log is for reading: an idle deployment is silent but for a heartbeat, and a notification is one line."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis import Redis

from signalcraft.dev.embedded_servers import free_port
from signalcraft.worker import batch_worker
from tests.support import ROOT
from tests.support.builders import NOON, accepted
from tests.support.queues import enqueue_deliveries
from tests.support.waiting import wait_until

#: The heartbeat of a worker comes once a minute.
_HEARTBEAT_SECONDS = 10
_WORKER = f"""
import sys, worker
worker._HEARTBEAT_INTERVAL_SECONDS = {_HEARTBEAT_SECONDS}
sys.exit(worker.main())
"""

Lines = Callable[[], list[dict[str, str]]]


@pytest.fixture
def lines(
    environ: dict[str, str],
    redis: Redis,  # noqa: ARG001 - for the workspace
    tmp_path: Path,
) -> Iterator[Lines]:
    """Run web, worker and notifier; return what they have logged since their start."""
    log = tmp_path / "log"
    known = {**os.environ, **environ, "INGEST_DURABILITY": "inbox", "PORT": str(free_port()), "WEB_CONCURRENCY": "1"}
    known["SLOW_QUERY_MS"] = "60000"  # a busy machine has slow queries, and says so
    commands = (["-m", "gunicorn", "app:app"], ["-c", _WORKER], ["-c", _WORKER, "notifications"])
    with log.open("ab") as stream:
        processes = [
            subprocess.Popen([sys.executable, *command], cwd=ROOT, env=known, stderr=stream) for command in commands
        ]

    def read() -> list[dict[str, str]]:
        whole, _, _ = log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def started() -> bool:
        logged = read()
        queues = {line["queue"] for line in logged if line["event"] == "worker started"}
        return queues == {"alerts", "notifications"} and any("Booting worker" in line["event"] for line in logged)

    try:
        wait_until(started)
        before = len(read())
        yield lambda: read()[before:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_an_idle_deployment_logs_its_heartbeats_and_nothing_else(lines: Lines) -> None:
    began = time.monotonic()
    time.sleep(2 * batch_worker.MAINTENANCE_INTERVAL_SECONDS + 2)
    logged = [line["event"] for line in lines()]
    assert set(logged) == {"worker alive"}
    assert len(logged) <= 1 + (time.monotonic() - began) / _HEARTBEAT_SECONDS


def test_a_notification_is_one_line_of_the_notifier(lines: Lines, redis: Redis) -> None:
    enqueue_deliveries(redis, accepted(minute=(datetime.now(UTC) - NOON) / timedelta(minutes=1)))
    wait_until(lambda: {"delivery processed", "notification"} <= {line["event"] for line in lines()})
    time.sleep(1)
    counted = Counter(line["event"] for line in lines() if line["event"] != "worker alive")
    assert counted == {"delivery processed": 1, "notification": 1}
