"""A real worker process, started and warm, held (SIGSTOP) while its queue is filled and then let go.

So the clock sees neither the start of a process nor the filling, and ours and the baseline are timed alike: from
letting go until nothing waits and nothing is in hand.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rq import Queue

from bench import stock
from bench.arena import Held, Lane, running, wait_until
from bench.deliveries import Maker, enqueue
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.queues import jobs

_PATIENCE_SECONDS = 300.0
_WARM_UP = 400


@dataclass(frozen=True, slots=True)
class Drainer:
    """Worker processes on one queue of a lane."""

    lane: Lane
    queue: str
    workers: Sequence[Held]

    def rate(self, fill: Callable[[], Any], number: int) -> float:
        """Jobs a second, once ``fill`` has queued ``number`` of them."""
        for worker in self.workers:
            worker.hold()
        fill()
        began = time.perf_counter()
        for worker in self.workers:
            worker.let_go()
        self.wait()
        return number / (time.perf_counter() - began)

    def drain(self, deliveries: Sequence[AcceptedDelivery]) -> float:
        """Deliveries a second."""
        return self.rate(lambda: enqueue(self.lane.redis_url, deliveries), len(deliveries))

    def wait(self) -> None:
        """Return once nothing waits and nothing is in hand."""
        wait_until(self.is_drained, self.workers, seconds=_PATIENCE_SECONDS, every=0.003)

    def is_drained(self) -> bool:
        """Whether nothing waits and nothing is in hand."""
        queue = Queue(self.queue, connection=self.lane.redis)
        with self.lane.redis.pipeline() as pipeline:
            pipeline.llen(queue.key)
            pipeline.llen(queue.intermediate_queue_key)
            pipeline.zcard(queue.started_job_registry.key)
            return not any(pipeline.execute())


@contextlib.contextmanager
def ours(lane: Lane, workers: int = 1, *, first: int = 1) -> Iterator[Drainer]:
    """``python worker.py`` as a deployment runs it, some of them: JSON logs into a file, metrics on, warm.

    What warms them up goes to groups from ``first`` on.
    """
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(running(lane, f"worker-{number}", "worker.py")) for number in range(workers)]
        drainer = Drainer(lane, jobs.ALERTS, held)
        enqueue(lane.redis_url, Maker(seed=0, first=first).accepted(_WARM_UP))
        _wait_for_workers(drainer, workers)
        drainer.wait()
        yield drainer


@contextlib.contextmanager
def stock_worker(lane: Lane) -> Iterator[Drainer]:
    """RQ's ``SimpleWorker`` on jobs that do nothing: its own serializer, settings and log lines, into a file; warm."""
    with running(lane, "stock", "-m", "bench.stock") as held:
        drainer = Drainer(lane, stock.QUEUE, [held])
        stock.enqueue(lane.redis, _WARM_UP // 4)
        _wait_for_workers(drainer, 1)
        drainer.wait()
        yield drainer


def _wait_for_workers(drainer: Drainer, number: int) -> None:
    """Until as many are registered with RQ."""
    key = f"rq:workers:{drainer.queue}"
    wait_until(lambda: drainer.lane.redis.scard(key) >= number, drainer.workers, seconds=30)
