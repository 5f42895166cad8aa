"""An RQ worker that processes many jobs at once.

Jobs stay ordinary RQ jobs, one per delivery. One script claims the job that RQ popped and up to ``batch_size - 1``
waiting ones; the worker never waits for a batch to fill. A batch is stored in one transaction and finished in one
pipeline.

Under a backlog two batches are in flight: while a thread stores one, which is mostly waiting for PostgreSQL, the next
is claimed and prepared. Batches are still stored one after the other, in the order of the queue.

With one queue RQ moves a job with BLMOVE into an intermediate list; with two queues it pops a job with BLPOP, and
the job is lost if the worker is killed at that moment. So this worker reads exactly one queue.
"""

import math
import random
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, repeat
from typing import Any, Final

import structlog
from redis import Redis
from redis.exceptions import RedisError, ResponseError
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.worker import WorkerStatus

from signalcraft import metrics
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import AbandonedDelivery, DatabaseUnavailable, RecoverableError, ThreadsExhausted
from signalcraft.logs import exception_fields
from signalcraft.queues import dead_letters, quarantine, redis_clients
from signalcraft.queues.inbox import MAX_BATCH_BYTES
from signalcraft.queues.jobs import JOB_ID, AllowedJob, ForbiddenJob, read_delivery
from signalcraft.queues.leases import LEASE_SECONDS, Lease, LeasedJob
from signalcraft.resilience import in_thread
from signalcraft.worker import watchdog
from signalcraft.worker.context import PREPARE_TIMEOUT_SECONDS, Stages
from signalcraft.worker.queue_worker import MAINTENANCE_INTERVAL_SECONDS, QueueWorker

log = structlog.get_logger(__name__)

#: Poll interval while a batch is being stored: renew the lease and check for a stop request.
_POLL_INTERVAL_SECONDS: Final = 1.0
#: How long a batch may take after a stop request. A platform kills the process after 10 s.
_STOP_TIMEOUT_SECONDS: Final = 4.0
#: Delays between attempts while PostgreSQL is unavailable, before jitter. Shorter than the lease, which is renewed
#: between attempts.
_FIRST_DELAYS_SECONDS: Final = (0.1, 0.2, 0.5, 1.0)
_MAX_DELAY_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class _ClaimedBatch:
    """Claimed jobs and their prepared deliveries."""

    lease: Lease
    prepared: Any


@dataclass(frozen=True, slots=True)
class _InFlightBatch:
    """A batch that is being stored, and the future outcome."""

    batch: _ClaimedBatch
    outcome: "Future[Any]"


class BatchWorker(QueueWorker):
    """RQ worker that claims batches of jobs and runs the stages over each batch."""

    def __init__(
        self,
        queue: str,
        *,
        connection: Redis,
        stages: Stages,
        batch_size: int,
    ) -> None:
        """Create a worker.

        It starts nothing and sends nothing to Redis yet.
        """
        super().__init__(queue, connection=connection, lease_seconds=LEASE_SECONDS)
        self._stages = stages
        self._batch_size = batch_size
        self._renewed_at = -math.inf

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Claim, prepare, store and finish a batch.

        A stop request takes effect after the batch.
        """
        self.set_state(WorkerStatus.BUSY)
        self._process(self._prepare(Lease.acquire(job.id, queue, worker_name=self.name, limit=self._batch_size)))
        self.set_state(WorkerStatus.IDLE)

    def recover(self, queue: Queue) -> None:
        """Requeue the jobs of dead workers; dead-letter those requeued too often."""
        super().recover(queue)
        _dead_letter_abandoned(queue)

    def _process(self, batch: _ClaimedBatch | None) -> None:
        """Store a batch and, under a backlog, the next ones.

        It returns when maintenance is due in RQ's loop.
        """
        until = time.monotonic() + MAINTENANCE_INTERVAL_SECONDS
        in_flight = self._begin(batch)
        while in_flight:
            current = in_flight.batch
            following = self._prefetch(current.lease, until)
            try:
                outcome = self._await(in_flight, following)
            except RecoverableError as error:
                _release(following)
                return self._retry_with_backoff(current, error)
            except Exception:
                _release(following)
                raise
            try:
                following = self._renew(following)
            except RedisError:  # it is stored: processed again it would have no new alerts, and no notification
                self._stages.conclude(outcome)
                raise
            in_flight = self._begin(following)
            self._finish(current, outcome)
        return None

    def _prepare(self, lease: Lease) -> _ClaimedBatch | None:
        """Read and prepare the jobs of ``lease``.

        Jobs that are not ours are left out; None if no job is left.
        """
        deliveries, refused, unread = _read(lease.jobs)
        if unread:
            lease.of(unread).release()
            lease = lease.of(lease.jobs[: -len(unread)])
        for job, error in refused.items():
            self._refuse(job, lease.queue, error)
        lease = lease.without(list(refused))
        if not deliveries:
            return None
        with watchdog.kill_process_after(PREPARE_TIMEOUT_SECONDS):
            return _ClaimedBatch(lease, self._stages.prepare(deliveries))

    def _prefetch(self, lease: Lease, until: float) -> _ClaimedBatch | None:
        """Claim and prepare the next batch under a backlog.

        That is if ``lease`` is a full one and it is not ``until`` yet.
        """
        if not 1 < self._batch_size <= len(lease.jobs) or self._stop_requested or time.monotonic() >= until:
            return None
        try:
            return self._prepare(lease.acquire_next(worker_name=self.name, limit=self._batch_size))
        except RedisError as error:  # the batch in flight is finished all the same
            log.warning("waiting for Redis", stage="store", reason=redis_clients.reason(error))
            return None

    def _renew(self, following: _ClaimedBatch | None) -> _ClaimedBatch | None:
        """Renew the lease of the next batch, at most once a second.

        It was claimed, or renewed, since the batch before began, so little of it has passed. After a stop request,
        release it instead.
        """
        if following is None:
            return None
        if self._stop_requested:
            _release(following)
            return None
        if time.monotonic() - self._renewed_at < _POLL_INTERVAL_SECONDS:
            return following
        renewed = replace(following, lease=following.lease.renewed())
        self._renewed_at = time.monotonic()
        self.heartbeat()
        return renewed

    def _begin(self, batch: _ClaimedBatch | None) -> _InFlightBatch | None:
        """Observe the batch size and start to store the batch."""
        if batch is None:
            return None
        metrics.observe("signalcraft_batch_size", len(batch.lease.jobs))
        return self._store(batch)

    def _store(self, batch: _ClaimedBatch) -> _InFlightBatch:
        """Store a batch in a thread; in this one if the system has none to spare, which delays only the lease."""
        try:
            outcome = in_thread(partial(self._stages.record, batch.prepared), name="storing")
        except ThreadsExhausted:
            log.warning("no thread can be started, storing without one", stage="store")
            outcome = Future()
            try:
                outcome.set_result(self._stages.record(batch.prepared))
            except Exception as error:  # noqa: BLE001 - as from a thread
                outcome.set_exception(error)
        return _InFlightBatch(batch, outcome)

    def _await(self, in_flight: _InFlightBatch, following: _ClaimedBatch | None) -> Any:  # noqa: ANN401 - of the stages
        """Wait for the outcome of storing.

        The leases are renewed meanwhile.

        Raises:
            RecoverableError: as ``record``, or storing takes too long after a stop request.
        """
        stop_at = math.inf
        while not wait([in_flight.outcome], timeout=_POLL_INTERVAL_SECONDS).done:
            if self._stop_requested:
                stop_at = min(stop_at, time.monotonic() + _STOP_TIMEOUT_SECONDS)
            if time.monotonic() >= stop_at:
                raise DatabaseUnavailable("storing takes too long after a stop request")
            try:
                lease = in_flight.batch.lease.renewed()
                if following:
                    following.lease.renewed(behind=lease)
                self.heartbeat()
            except RedisError as error:  # storing and notifying do not depend on the lease
                log.warning("waiting for Redis", stage="store", reason=redis_clients.reason(error))
        return in_flight.outcome.result()

    def _retry_with_backoff(self, batch: _ClaimedBatch, error: RecoverableError) -> None:
        """Retry under the same lease while PostgreSQL is unavailable.

        After a stop request, the lease is released. This consumes none of the jobs' retries.
        """
        delays = chain(_FIRST_DELAYS_SECONDS, repeat(_MAX_DELAY_SECONDS))
        while True:
            metrics.count("signalcraft_errors_total", stage="store", kind="recoverable")
            log.warning(
                "database unavailable, retrying batch",
                stage="store",
                batch_size=len(batch.lease.jobs),
                reason=str(error),
            )
            if self._stop_requested:
                return batch.lease.release()
            batch.lease.renewed()
            self.heartbeat()
            time.sleep(next(delays) * (0.5 + random.random()))  # noqa: S311 - jitter is no secret
            try:
                outcome = self._await(self._store(batch), None)
            except RecoverableError as another:
                error = another
            else:
                return self._finish(batch, outcome)

    def _finish(self, batch: _ClaimedBatch, outcome: Any) -> None:  # noqa: ANN401 - of the stages
        self._stages.conclude(outcome)
        batch.lease.finish(self.key)

    def _refuse(self, claimed: LeasedJob, queue: Queue, error: ForbiddenJob) -> None:
        """Fail a job that is not ours, without retries.

        It fails by RQ's own path.
        """
        log.error("job refused", stage="store", job_id=claimed.job_id, reason=str(error))
        try:
            job = AllowedJob.fetch(claimed.job_id, connection=self.connection, serializer=self.serializer)
            job.retries_left = 0
            self.handle_job_failure(job, queue, exc_string=str(error))
        except NoSuchJobError:
            return
        except RedisError:
            raise
        except Exception as unexpected:  # noqa: BLE001 - fields that RQ cannot write again
            log.error("refused job quarantined", stage="store", job_id=claimed.job_id, **exception_fields(unexpected))  # noqa: TRY400
            quarantine.move_key(self.connection, claimed.key)


def _release(batch: _ClaimedBatch | None) -> None:
    if batch:
        batch.lease.release()


def _read(
    jobs: Sequence[LeasedJob],
) -> tuple[list[AcceptedDelivery], dict[LeasedJob, ForbiddenJob], Sequence[LeasedJob]]:
    """Return the deliveries, the foreign jobs and the excess jobs.

    Foreign jobs are those that are not ours; excess jobs are those beyond ``MAX_BATCH_BYTES``.
    """
    deliveries: list[AcceptedDelivery] = []
    refused: dict[LeasedJob, ForbiddenJob] = {}
    bytes_left = MAX_BATCH_BYTES
    for position, job in enumerate(jobs):
        if bytes_left <= 0:
            return deliveries, refused, jobs[position:]
        try:
            delivery = job.delivery()
        except ForbiddenJob as error:
            refused[job] = error
        else:
            deliveries.append(delivery)
            bytes_left -= len(delivery.delivery.body)
    return deliveries, refused, ()


def _dead_letter_abandoned(queue: Queue) -> None:
    """Dead-letter the deliveries in RQ's registry of failed jobs.

    Jobs that are not ours stay there.
    """
    redis, registry = queue.connection, queue.failed_job_registry.key
    entries: Any = redis.zrange(registry, 0, -1)
    for job_id in filter(JOB_ID.fullmatch, entries):
        key = Job.key_for(job_id.decode())
        try:
            data: Any = redis.hget(key, "data")
            dead_letters.add(read_delivery(data or b""), AbandonedDelivery(), stage="store")
        except (ResponseError, ForbiddenJob):
            continue
        except RecoverableError as error:
            log.warning("abandoned jobs not dead-lettered, database unavailable", stage="store", reason=str(error))
            return
        with redis.pipeline() as pipeline:
            pipeline.delete(key)
            pipeline.zrem(registry, job_id)
            pipeline.execute()
