"""How many deliveries a second the whole service stores, against one that is written in an hour.

Web, worker and notifier, Redis, PostgreSQL and the load generator share the machine. Deliveries come as fast as they
are answered, for a fixed time; the clock stops when the last of them is stored.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench import draining, http, stock, stock_service
from bench.arena import Arena, BenchError, Lane, PausableProcess, running, wait_until
from bench.deliveries import Maker
from bench.figures import Figure
from bench.http import Target
from bench.pairs import alternate
from bench.serving import PATH, served
from signalcraft.queues import jobs

AGAINST = "Flask, Flask-Limiter, SET NX, enqueue, SimpleWorker, one INSERT each; same gunicorn configuration"
_DRAIN_TIMEOUT_SECONDS = 600.0
_PROBE = 500


@dataclass(frozen=True, slots=True)
class _Service:
    """A running service: where it listens, its queue, the number of its stored events, and its worker."""

    lane: Lane
    port: int
    queue: str
    count: str
    worker: PausableProcess

    def rate(self, maker: Maker, number: int) -> float:
        """Return deliveries stored a second: ``number`` sent, from the first request until the last is stored."""
        before = self.lane.number(self.count)
        target = Target(port=self.port)
        made = (maker.sample(group) for group in maker.groups(number))
        requests = [http.request_of("POST", PATH, one.headers, one.body, keep_alive=True) for one in made]
        began = time.perf_counter()
        sent = http.closed_loop(target, requests, expected=202)
        queue = draining.Drainer(self.lane, self.queue, [self.worker])
        wait_until(queue.is_drained, [self.worker], timeout_seconds=_DRAIN_TIMEOUT_SECONDS, interval_seconds=0.01)
        seconds = time.perf_counter() - began
        stored = self.lane.number(self.count) - before
        if sent.unexpected or stored != number:
            raise BenchError(f"{number} deliveries were sent, {sent.unexpected} refused, {stored} stored")
        return number / seconds


def run(arena: Arena) -> Iterator[Figure]:
    """Send to both in turn, for about 20 s each."""
    seconds, pairs = (4.0, 2) if arena.quick else (20.0, 3)
    maker = Maker(seed=11)
    with _ours(arena) as ours, _stock(arena) as baseline:
        measured = alternate(_sized(ours, maker, seconds), _sized(baseline, maker, seconds), pairs)
        groups = ours.lane.number("SELECT count(*) FROM alert_group")
    yield Figure(
        benchmark="whole",
        name="deliveries stored a second, from the first request to the last event",
        value=measured.ratio,
        unit="x",
        against=AGAINST,
        at_least=3,
        detail=measured.detail("stored/s", "stored/s, stock") | {"seconds a run": seconds, "groups": groups},
    )


def _sized(service: _Service, maker: Maker, seconds: float) -> Callable[[], float]:
    """Return a run of about ``seconds``, by the rate of a short one."""
    number = int(seconds * service.rate(maker, _PROBE))
    return lambda: service.rate(maker, number)


@contextlib.contextmanager
def _ours(arena: Arena) -> Iterator[_Service]:
    with (
        arena.lane("whole") as lane,
        served(lane) as port,
        draining.ours(lane) as drainer,
        running(lane, "notifier", "worker.py", "notifications"),
    ):
        yield _Service(lane, port, jobs.ALERTS, "SELECT count(*) FROM alert_event", drainer.workers[0])


@contextlib.contextmanager
def _stock(arena: Arena) -> Iterator[_Service]:
    with arena.lane("stock") as lane:
        lane.run(stock_service.TABLE)
        with served(lane, "bench.stock_service:app") as port, draining.stock_worker(lane) as drainer:
            yield _Service(lane, port, stock.QUEUE, "SELECT count(*) FROM stock_event", drainer.workers[0])
