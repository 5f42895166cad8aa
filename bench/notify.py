"""How soon people are told, what a storm costs, and whether storing is slower for it.

Worker and notifier are real processes; the receiver is a server on loopback in this process, which counts what it gets.
"""

import contextlib
import random
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from threading import Thread

import psutil

from bench import draining
from bench.arena import Arena, BenchError, Lane, PausableProcess, running, wait_until
from bench.deliveries import Maker, enqueue
from bench.figures import Figure
from bench.pairs import alternate, percentile

_TIMEOUT_SECONDS = 30.0
_NO_REDIS = "redis://127.0.0.1:1/0"
_CONFIG = """
storm = {storm}
[receivers.hook]
kind = "webhook"
url = "http://127.0.0.1:{port}/"
secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
[[routes]]
name = "all"
to = ["hook"]
"""
_WAITING = """
    SELECT (SELECT count(*) FROM happening WHERE routed_at IS NULL)
         + (SELECT count(*) FROM notification WHERE state IN ('pending', 'sending'))"""


class _Receiver(ThreadingHTTPServer):
    """Accepts everything; ``arrived`` has the time of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.arrived: SimpleQueue[float] = SimpleQueue()

    def handle_error(self, *_: object) -> None:
        """Write nothing: at the end the notifier's connection is reset."""


class _Handler(BaseHTTPRequestHandler):
    server: _Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Count the request, and accept it."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.arrived.put(time.perf_counter())
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@contextlib.contextmanager
def _receiving(*, storm: int) -> Iterator[tuple[_Receiver, str]]:
    """Run a receiver; yield it, and the NOTIFY that names it."""
    with _Receiver() as receiver:
        thread = Thread(target=receiver.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield receiver, _CONFIG.format(storm=storm, port=receiver.server_port)
        finally:
            receiver.shutdown()
            thread.join()


def run(arena: Arena) -> Iterator[Figure]:
    """Measure an idle system, one without Redis, a storm, and a drain with the notifier running."""
    yield from _latency(arena, name="stored to told, idle", wakes=True, max_ms=(1_000, 3_000))
    yield from _latency(arena, name="stored to told, Redis away from the notifier", wakes=False, max_ms=(3_000, 3_000))
    yield from _storm(arena)
    yield _drain(arena)


def _latency(arena: Arena, *, name: str, wakes: bool, max_ms: tuple[float, float]) -> Iterator[Figure]:
    """Measure from enqueuing an alert of a new group to the arrival of its message; storing is included."""
    number = 20 if arena.quick else 100
    chance = random.Random(4)  # noqa: S311 - chance here is no secret
    with _receiving(storm=0) as (receiver, notify), arena.lane("notify") as lane, draining.ours(lane):
        settings = {"NOTIFY": notify} | ({} if wakes else {"REDIS_URL": _NO_REDIS})
        with running(lane, "notifier", "worker.py", "notifications", **settings) as notifier:
            _settle(lane, notifier)
            _clear(receiver)
            times = []
            for delivery in Maker(seed=8).opening(number):
                time.sleep(chance.uniform(0.1, 0.4))
                began = time.perf_counter()
                enqueue(lane.redis_url, [delivery])
                try:
                    times.append(receiver.arrived.get(timeout=_TIMEOUT_SECONDS) - began)
                except Empty:
                    raise BenchError("a message did not arrive") from None
    for percent, at_most in zip((50, 99), max_ms, strict=True):
        yield Figure(
            benchmark="notify",
            name=f"p{percent} from {name}",
            value=percentile(times, percent) * 1000,
            unit="ms",
            against="absolute; storing is included",
            at_most=at_most,
            detail={"messages": number, "longest, ms": max(times) * 1000},
        )


def _storm(arena: Arena) -> Iterator[Figure]:
    """Measure messages and memory while many groups are opened within a minute, until nothing waits."""
    number, seconds = (2_000, 12) if arena.quick else (10_000, 60)
    with (
        _receiving(storm=10) as (receiver, notify),
        arena.lane("notify") as lane,
        draining.ours(lane),
        running(lane, "notifier", "worker.py", "notifications", NOTIFY=notify) as notifier,
    ):
        _settle(lane, notifier)
        _clear(receiver)
        deliveries = Maker(seed=9).opening(number)
        process = psutil.Process(notifier.process.pid)
        before = process.memory_info().rss
        peak = before
        began = time.monotonic()
        for second in range(seconds):
            enqueue(lane.redis_url, deliveries[second * number // seconds : (second + 1) * number // seconds])
            peak = max(peak, process.memory_info().rss)
            time.sleep(max(began + second + 1 - time.monotonic(), 0))
        stored = time.monotonic() - began
        _settle(lane, notifier, timeout_seconds=150)
        told = time.monotonic() - began
        peak = max(peak, process.memory_info().rss)
        groups = lane.number("SELECT count(DISTINCT alert_group_id) FROM notification WHERE sent_at IS NOT NULL")
    detail = {"groups": number, "told of": groups, "opened in, s": stored, "all told after, s": told}
    yield Figure(
        benchmark="notify",
        name=f"messages for {number:,} new groups in {seconds} s",
        value=receiver.arrived.qsize(),
        unit="messages",
        against="absolute, storm = 10",
        at_most=20,
        detail=detail,
    )
    yield Figure(
        benchmark="notify",
        name="notifier: resident at the peak of it over before",
        value=(peak - before) / 1e6,
        unit="MB",
        against="itself before",
        at_most=30,
        detail={"before, MB": before / 1e6},
    )


def _drain(arena: Arena) -> Figure:
    """Compare a worker with a notifier running, which tells of everything, with a worker alone."""
    number, pairs = (2_000, 3) if arena.quick else (6_000, 9)
    maker = Maker()
    with (
        _receiving(storm=10) as (_, notify),
        arena.lane("notify", NOTIFY=notify) as lane,
        arena.lane("silent") as other,
        draining.ours(lane) as telling,
        draining.ours(other) as silent,
        running(lane, "notifier", "worker.py", "notifications"),
    ):
        measured = alternate(
            lambda: telling.drain(maker.accepted(number)), lambda: silent.drain(maker.accepted(number)), pairs
        )
    return Figure(
        benchmark="notify",
        name="drain with NOTIFY and a notifier, over without",
        value=measured.ratio,
        unit="x",
        against="the same worker without NOTIFY and without a notifier",
        at_least=0.95,
        detail=measured.detail("events/s", "without, events/s"),
    )


def _settle(lane: Lane, notifier: PausableProcess, *, timeout_seconds: float = 90) -> None:
    """Wait until everything is stored, routed and told."""
    wait_until(lambda: not lane.redis.llen("rq:queue:alerts"), [notifier], timeout_seconds=timeout_seconds)
    wait_until(lambda: not lane.number(_WAITING), [notifier], timeout_seconds=timeout_seconds, interval_seconds=0.5)


def _clear(receiver: _Receiver) -> None:
    while not receiver.arrived.empty():
        receiver.arrived.get()
