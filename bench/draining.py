"""A real worker process, started and warm, paused (SIGSTOP) while its queue is filled and then resumed.

So the measurement includes neither the start of a process nor the filling, and SignalCraft and the baseline are timed
alike: from resuming until no job is queued or in flight.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rq import Queue

from bench import stock
from bench.arena import Lane, PausableProcess, running, wait_until
from bench.deliveries import Maker, enqueue
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.queues import jobs

_DRAIN_TIMEOUT_SECONDS = 300.0
_WARM_UP = 400


@dataclass(frozen=True, slots=True)
class Drainer:
    """Worker processes on one queue of a lane."""

    lane: Lane
    queue: str
    workers: Sequence[PausableProcess]

    def rate(self, fill: Callable[[], Any], number: int) -> float:
        """Return jobs per second, after ``fill`` has enqueued ``number`` jobs."""
        for worker in self.workers:
            worker.pause()
        fill()
        began = time.perf_counter()
        for worker in self.workers:
            worker.resume()
        self.wait()
        return number / (time.perf_counter() - began)

    def drain(self, deliveries: Sequence[AcceptedDelivery]) -> float:
        """Return deliveries per second."""
        return self.rate(lambda: enqueue(self.lane.redis_url, deliveries), len(deliveries))

    def wait(self) -> None:
        """Wait until no job is queued or in flight."""
        wait_until(self.is_drained, self.workers, timeout_seconds=_DRAIN_TIMEOUT_SECONDS, interval_seconds=0.003)

    def is_drained(self) -> bool:
        """Return whether no job is queued or in flight."""
        queue = Queue(self.queue, connection=self.lane.redis)
        with self.lane.redis.pipeline() as pipeline:
            pipeline.llen(queue.key)
            pipeline.llen(queue.intermediate_queue_key)
            pipeline.zcard(queue.started_job_registry.key)
            return not any(pipeline.execute())


@contextlib.contextmanager
def ours(lane: Lane, workers: int = 1, *, first: int = 1) -> Iterator[Drainer]:
    """Run ``workers`` processes of ``python worker.py`` as in production: JSON logs in a file, metrics on, warm.

    The deliveries that warm them up go to groups from ``first`` on.
    """
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(running(lane, f"worker-{number}", "worker.py")) for number in range(workers)]
        drainer = Drainer(lane, jobs.ALERTS, processes)
        enqueue(lane.redis_url, Maker(seed=0, first=first).accepted(_WARM_UP))
        _wait_until_registered(drainer, workers)
        drainer.wait()
        yield drainer


@contextlib.contextmanager
def stock_worker(lane: Lane) -> Iterator[Drainer]:
    """Run RQ's ``SimpleWorker`` on jobs that do nothing: default serializer and settings, log in a file, warm."""
    with running(lane, "stock", "-m", "bench.stock") as process:
        drainer = Drainer(lane, stock.QUEUE, [process])
        stock.enqueue(lane.redis, _WARM_UP // 4)
        _wait_until_registered(drainer, 1)
        drainer.wait()
        yield drainer


def _wait_until_registered(drainer: Drainer, number: int) -> None:
    key = f"rq:workers:{drainer.queue}"
    wait_until(lambda: drainer.lane.redis.scard(key) >= number, drainer.workers, timeout_seconds=30)
