"""The notifier as a process, with a webhook receiver that is a small HTTP server."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from redis import Redis

from signalcraft.storage.database import database, session
from signalcraft.storage.notification_models import ReceiverState
from tests.notify.test_notifier import alert
from tests.support import ROOT
from tests.support.builders import accepted, minutes_ago, record
from tests.support.processes import exit_code
from tests.support.queues import enqueue_deliveries, waits_for_jobs
from tests.support.waiting import keeps_time, wait_until

Start = Callable[..., subprocess.Popen[bytes]]


class Hook:
    """Records the webhook-id of each message; answers at once, or hangs until the end of the test."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.hangs = False
        self.ended = threading.Event()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                hook.ids.append(self.headers["webhook-id"])
                if hook.hangs:
                    hook.ended.wait(60)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.ended.set()
    hook.server.shutdown()
    hook.server.server_close()


@pytest.fixture
def start(environ: dict[str, str], hook: Hook, redis: Redis) -> Iterator[Start]:  # noqa: ARG001 - for the workspace
    started: list[subprocess.Popen[bytes]] = []
    notify = f"""
        [receivers.ops]
        kind = "webhook"
        url = "{hook.url}"
        secret = "env:HOOK_SECRET"
        [[routes]]
        name = "all"
        to = "ops"
    """
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

    def run(*arguments: str, **changes: str) -> subprocess.Popen[bytes]:
        variables = os.environ | environ | {"NOTIFY": notify, "HOOK_SECRET": secret} | changes
        process = subprocess.Popen([sys.executable, "worker.py", *arguments], cwd=ROOT, env=variables)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def is_ready() -> bool:
    with session():
        return ReceiverState.select().count() == 1


def seconds_until_told(hook: Hook, number: int, begin: Callable[[int], object]) -> float:
    began = time.monotonic()
    begin(number)
    wait_until(lambda: len(hook.ids) > number)
    return time.monotonic() - began


def test_a_delivery_is_told_within_three_seconds(redis: Redis, hook: Hook, start: Start) -> None:
    start("notifications")
    start()
    wait_until(is_ready)
    wait_until(lambda: len(redis.smembers("rq:workers")) == 2)

    def deliver(number: int) -> None:
        enqueue_deliveries(redis, accepted(issue=str(number), minute=minutes_ago(0)))

    keeps_time(lambda number: seconds_until_told(hook, number, deliver), seconds=3)


def test_without_redis_it_is_told_within_three_seconds_all_the_same(hook: Hook, start: Start) -> None:
    start("notifications", REDIS_URL="redis://127.0.0.1:1/0")
    wait_until(is_ready)
    keeps_time(lambda number: seconds_until_told(hook, number, lambda _: record(alert(issue=str(number)))), seconds=3)


@pytest.mark.parametrize("hangs", [False, True], ids=["idle", "receiver_hangs"])
def test_it_ends_within_ten_seconds_of_a_stop_request(redis: Redis, hook: Hook, start: Start, *, hangs: bool) -> None:
    hook.hangs = hangs
    process = start("notifications")
    wait_until(lambda: is_ready() and waits_for_jobs(redis))
    if hangs:
        record(alert())
        wait_until(lambda: len(hook.ids) == 1)
    process.send_signal(signal.SIGTERM)
    assert exit_code(process) == 0


def test_killed_between_send_and_record_it_sends_again_with_the_same_id(hook: Hook, start: Start) -> None:
    hook.hangs = True
    process = start("notifications")
    wait_until(is_ready)
    record(alert())
    wait_until(lambda: len(hook.ids) == 1)
    process.kill()
    process.wait()
    hook.hangs = False
    with session():
        database.execute_sql("UPDATE notification SET lease_until = now()")
        database.execute_sql("UPDATE receiver_state SET busy_until = now()")
    start("notifications")
    wait_until(lambda: len(hook.ids) == 2)
    assert len(set(hook.ids)) == 1
