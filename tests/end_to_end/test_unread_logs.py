"""A log that nobody reads, or that cannot be written, stops no work: lines are dropped and counted."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from signalcraft import http_client, metrics
from signalcraft.dev.embedded_servers import free_port
from signalcraft.storage.database import session
from signalcraft.storage.delivery_models import FailedDelivery
from signalcraft.storage.models import AlertEvent
from tests.support import ROOT
from tests.support.builders import accepted
from tests.support.processes import PLATFORM_SECONDS
from tests.support.queues import enqueue_deliveries
from tests.support.waiting import keeps_time, wait_until
from tests.support.web_client import PATH, sample

#: What a process may take to respond to a delivery beside a log that nobody reads.
MAX_SECONDS = 0.25
WITHOUT_STANDARD_ERROR = ("/bin/sh", "-c", 'exec "$@" 2>&-', "sh")

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(environ: dict[str, str], redis: Redis) -> Iterator[Start]:  # noqa: ARG001 - for the workspace
    """Start ``python ...`` with the given standard error; kill it at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str, stderr: int | None, **settings: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, *arguments]
        if stderr is None:
            command = [*WITHOUT_STANDARD_ERROR, *command]
        known = {**os.environ, **environ, "PYTHONPATH": str(ROOT), **settings}
        started.append(subprocess.Popen(command, cwd=ROOT, env=known, stderr=stderr))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, int]]:
    """A pipe whose reader hangs, with room for 8 lines or so."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def stored() -> int:
    with session():
        return int(AlertEvent.select().count())


def dropped(redis: Redis) -> float:
    sums = {json.loads(part)[0]: float(value) for part, value in redis.hgetall(metrics.SUMS).items()}
    return sums.get("signalcraft_log_lines_dropped_total", 0)


def test_a_worker_with_a_closed_standard_error_stores_everything(redis: Redis, start: Start) -> None:
    start("worker.py", stderr=None)
    enqueue_deliveries(redis, *(accepted() for _ in range(20)))
    wait_until(lambda: stored() == 20, seconds=20)
    with session():
        assert FailedDelivery.select().count() == 0
    wait_until(lambda: dropped(redis) >= 20, seconds=5)


def test_a_worker_whose_log_nobody_reads_stores_everything(
    redis: Redis, start: Start, full_pipe: tuple[int, int]
) -> None:
    process = start("worker.py", stderr=full_pipe[1], BATCH_SIZE="50")
    deliveries = [accepted() for _ in range(2_000)]
    enqueue_deliveries(redis, *deliveries)
    wait_until(lambda: stored() == 2_000, seconds=30)
    process.terminate()
    assert process.wait(10) == 0


def test_dropped_lines_are_counted_and_reported_once_the_log_is_read_again(
    redis: Redis, start: Start, full_pipe: tuple[int, int]
) -> None:
    reader, writer = full_pipe
    start("-c", LOGGING_PROCESS, stderr=writer)
    wait_until(lambda: bool(redis.exists("logged")), seconds=20)
    assert dropped(redis) > 0
    lines: list[str] = []
    with os.fdopen(os.dup(reader), encoding="ascii") as log:
        while not lines or "log lines dropped" not in lines[-1]:
            lines.append(log.readline())
    assert json.loads(lines[-1])["lines"] == dropped(redis)
    assert [json.loads(line)["number"] for line in lines[:-1]] == list(range(len(lines) - 1)), "lines stay whole"


LOGGING_PROCESS = """
import os, time, structlog
from signalcraft import logs, metrics
from signalcraft.queues import redis_clients
logs.configure("INFO", "json")
redis = redis_clients.for_worker(os.environ["REDIS_URL"])
stop = metrics.start_flushing(redis, 0.1, dropped_log_lines=logs.take_dropped)
for number in range(10_000):
    structlog.get_logger().info("a line", number=number, text="x" * 600)
stop()
redis.set("logged", 1)
time.sleep(30)
"""


@pytest.mark.parametrize("reader", ["closed", "hangs"])
def test_a_web_process_whose_log_nobody_reads_answers_in_time(
    redis: Redis, start: Start, full_pipe: tuple[int, int], reader: str
) -> None:
    port = free_port()
    stderr = None if reader == "closed" else full_pipe[1]
    start("-m", "gunicorn", "app:app", stderr=stderr, PORT=str(port), WEB_CONCURRENCY="1")
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        try:
            return http_client.get(f"{url}/healthz").accepted
        except http_client.ServerUnreachable:
            return False

    wait_until(is_up)

    def seconds_of_one() -> float:
        sent, began = sample(), time.monotonic()
        assert http_client.post(f"{url}{PATH}", sent.body, sent.headers).status == 202
        return time.monotonic() - began

    keeps_time(lambda _: max(seconds_of_one() for _ in range(100)), seconds=MAX_SECONDS)
    if reader == "closed":
        wait_until(lambda: dropped(redis) >= 100, seconds=5)


def test_a_notifier_whose_log_nobody_reads_runs_every_job(
    redis: Redis, start: Start, full_pipe: tuple[int, int]
) -> None:
    start("worker.py", stderr=full_pipe[1])
    start("worker.py", "notifications", stderr=full_pipe[1])
    enqueue_deliveries(redis, *(accepted(issue=str(number)) for number in range(300)))
    wait_until(lambda: stored() == 300)
    wait_until(lambda: not redis.exists("rq:queue:notifications"), seconds=30)


def test_a_body_that_hangs_the_parser_ends_the_process_also_if_nobody_reads_the_traceback(
    redis: Redis, start: Start, full_pipe: tuple[int, int]
) -> None:
    os.write(full_pipe[1], b"x" * 4096)
    enqueue_deliveries(redis, accepted())
    assert start("tests/support/stuck_worker.py", stderr=full_pipe[1]).wait(30) != 0


@pytest.mark.parametrize(
    "last",
    ["raise ValueError('the end')", "structlog.get_logger().info('the end')", "threading.Thread(target=fail).start()"],
)
def test_the_last_lines_of_a_process_are_written_before_it_ends(last: str) -> None:
    done = run_python(f"def fail():\n    raise ValueError('the end')\n{last}", stderr=subprocess.PIPE)
    assert "the end" in done.stderr
    assert all(json.loads(line) for line in done.stderr.splitlines())


def test_a_process_ends_in_time_although_nobody_reads_its_last_lines(full_pipe: tuple[int, int]) -> None:
    os.write(full_pipe[1], b"x" * 4096)
    began = time.monotonic()
    assert run_python("structlog.get_logger().info('the end')", stderr=full_pipe[1]).returncode == 0
    assert time.monotonic() - began < PLATFORM_SECONDS


def test_nothing_gets_the_number_of_a_closed_standard_error() -> None:
    """A socket with the number 2 would receive what libraries and faulthandler write."""
    code = "import socket, os; one = socket.socket(); assert one.fileno() > 2; os.write(2, b'no socket')"
    done = subprocess.run([*WITHOUT_STANDARD_ERROR, sys.executable, "-c", PREAMBLE + code], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_lines_after_the_reader_has_gone_are_counted_and_raise_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run_python(COUNT, stderr=writer)
    os.close(writer)
    assert done.stdout == "7\n"


PREAMBLE = 'import threading, structlog; from signalcraft import logs; logs.configure("INFO", "json")\n'
COUNT = """
for _ in range(7): structlog.get_logger().info("x")
logs.flush(); print(logs.take_dropped())
"""


def run_python(code: str, *, stderr: int) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + code], cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False
    )
