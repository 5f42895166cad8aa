"""An RQ worker that works off many jobs at once.

Jobs stay ordinary RQ jobs, one per delivery. The worker takes the job that RQ hands it and, in one script, up to
``batch_size - 1`` more that wait; it never waits for a batch to fill. They are stored in one transaction and
finished in one pipeline.

Under a backlog two batches are in hand: while a thread stores one, which is mostly waiting for PostgreSQL, the next is
claimed and prepared. Batches are stored one after the other all the same, in the order of the queue.

With one queue RQ moves a job with BLMOVE into an intermediate list; with two it pops it with BLPOP, and a worker
killed at that moment takes the job with it. So this worker reads exactly one.
"""

import math
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Any, Final

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.exceptions import NoSuchJobError
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import WorkerStatus

from signalcraft import metrics
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import AbandonedDelivery, DatabaseUnavailable, RecoverableError
from signalcraft.logs import exception_fields
from signalcraft.queues import dead_letters
from signalcraft.queues.inbox import MAX_BATCH_BYTES
from signalcraft.queues.jobs import AllowedJob, ForbiddenJob, read_delivery
from signalcraft.queues.leases import LEASE_SECONDS, Lease, LeasedJob
from signalcraft.worker import watchdog
from signalcraft.worker.context import PREPARE_TIMEOUT_SECONDS, Stages

log = structlog.get_logger(__name__)

#: How often workers look for what dead ones left, in seconds. Maintenance is done between two waits for a job, and RQ
#: waits for 15 s less than the worker's own time to live.
MAINTENANCE_INTERVAL_SECONDS: Final = 8
_WORKER_TTL: Final = MAINTENANCE_INTERVAL_SECONDS + 15

#: How often whoever waits for a batch to be stored looks up, in seconds: to renew the lease, and whether to stop.
_POLL_INTERVAL_SECONDS: Final = 1.0
#: How long a batch may still take once we are told to stop, in seconds. A platform waits for 10.
_STOP_TIMEOUT_SECONDS: Final = 4.0
#: Pauses while PostgreSQL is away, in seconds, before jitter; shorter than the lease, which is renewed in between.
_FIRST_DELAYS: Final = (0.1, 0.2, 0.5, 1.0)
_MAX_DELAY: Final = 2.0


@dataclass(frozen=True, slots=True)
class _PreparedBatch:
    """Jobs that are claimed, and what they were found to mean."""

    claim: Lease
    batch: Any


@dataclass(frozen=True, slots=True)
class _InFlightBatch:
    """A batch that is being stored, and what that will have come to."""

    in_hand: _PreparedBatch
    outcome: "Future[Any]"


class _QuickIntermediateQueue(IntermediateQueue):
    """RQ's, but a job that a killed worker left between pop and claim is put back after seconds, not a minute."""

    def should_be_cleaned_up(self, job_id: str) -> bool:
        first_seen = self.get_first_seen(job_id)
        return first_seen is not None and datetime.now(UTC) - first_seen > timedelta(
            seconds=MAINTENANCE_INTERVAL_SECONDS / 2
        )


class AlertQueue(Queue):
    """The queue that a ``BatchingWorker`` reads."""

    @property
    def intermediate_queue(self) -> IntermediateQueue:
        """Where a popped job stands until it is claimed."""
        return _QuickIntermediateQueue(self.key, connection=self.connection)

    def acquire_maintenance_lock(self) -> bool:
        """Whether this worker is to clean up. RQ's own lock lasts 15 minutes, also that of a worker killed with it."""
        return bool(self.connection.set(self.registry_cleaning_key, 1, nx=True, ex=MAINTENANCE_INTERVAL_SECONDS))


class BatchWorker(SimpleWorker):
    """Hands the deliveries of all jobs it claimed to ``process`` at once."""

    queue_class = AlertQueue
    job_class = AllowedJob
    max_connection_wait_time = 5.0

    def __init__(
        self,
        queue: str,
        *,
        connection: Redis,
        stages: Stages,
        batch_size: int,
    ) -> None:
        """Nothing is started yet, and nothing asked of Redis."""
        super().__init__(
            [queue],
            connection=connection,
            serializer=JSONSerializer,
            worker_ttl=_WORKER_TTL,
            maintenance_interval=MAINTENANCE_INTERVAL_SECONDS,
            log_job_description=False,
        )
        self._stages = stages
        self._batch_size = batch_size

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Claim, prepare, store, finish. A signal to stop that comes meanwhile is followed after the batch."""
        self.set_state(WorkerStatus.BUSY)
        self._work_off(self._prepare(Lease.acquire(job.id, queue, worker_name=self.name, most=self._batch_size)))
        self.set_state(WorkerStatus.IDLE)

    def clean_registries(self) -> None:
        """Put back what dead workers held, and set aside what was put back too often.

        Whatever somebody else wrote there that RQ cannot read, what waits is worked off all the same.
        """
        try:
            super().clean_registries()  # type: ignore[no-untyped-call] # RQ's
            for queue in self.queues:
                _dead_letter_abandoned(queue)
        except RedisError:
            raise
        except Exception as error:  # noqa: BLE001 - it would end this worker, and each that follows
            log.error("registry cleanup failed", stage="store", **exception_fields(error))  # noqa: TRY400

    def handle_warm_shutdown_request(self) -> None:
        """Told to stop: a frozen Redis must not keep us."""
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call] # RQ's
        watchdog.request_shutdown()

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:  # noqa: ARG002 - RQ's signature
        """How long RQ leaves a job alone that it runs by its own path, in seconds."""
        return LEASE_SECONDS

    def _work_off(self, in_hand: _PreparedBatch | None) -> None:
        """Store a batch and, under a backlog, those that follow, until RQ's loop has other things to do."""
        until = time.monotonic() + MAINTENANCE_INTERVAL_SECONDS
        storing = self._begin(in_hand)
        while storing:
            current = storing.in_hand
            following = self._look_ahead(current.claim, until)
            try:
                outcome = self._await(storing, following)
            except RecoverableError as error:
                _release(following)
                return self._hold(current, error)
            except Exception:
                _release(following)
                raise
            try:
                following = self._keep(following)
            except RedisError:  # what is stored is stored: worked off once more it would be nothing new to tell of
                self._stages.conclude(outcome)
                raise
            storing = self._begin(following)
            self._finish(current, outcome)
        return None

    def _prepare(self, claim: Lease) -> _PreparedBatch | None:
        """Read the jobs of ``claim``, let go of those that are not ours; None if that was all of them."""
        deliveries, refused, unread = _read(claim.jobs)
        if unread:
            claim.of(unread).release()
            claim = claim.of(claim.jobs[: -len(unread)])
        for one, error in refused.items():
            self._refuse(one, claim.queue, error)
        claim = claim.without(list(refused))
        if not deliveries:
            return None
        with watchdog.kill_process_after(PREPARE_TIMEOUT_SECONDS):
            return _PreparedBatch(claim, self._stages.prepare(deliveries))

    def _look_ahead(self, claim: Lease, until: float) -> _PreparedBatch | None:
        """What is worked off after ``claim``, if the queue had more than a batch, and it is not ``until`` yet."""
        if not 1 < self._batch_size <= len(claim.jobs) or self._stop_requested or time.monotonic() >= until:
            return None
        try:
            return self._prepare(claim.acquire_next(worker_name=self.name, most=self._batch_size))
        except RedisError as error:  # what is being stored is brought to its end all the same
            log.warning("waiting for Redis", stage="store", reason=type(error).__name__)
            return None

    def _keep(self, following: _PreparedBatch | None) -> _PreparedBatch | None:
        """What is stored next, held for as long as any; given back if we are told to stop."""
        if following is None:
            return None
        if self._stop_requested:
            _release(following)
            return None
        kept = replace(following, claim=following.claim.renewed())
        self.heartbeat()
        return kept

    def _begin(self, in_hand: _PreparedBatch | None) -> _InFlightBatch | None:
        """Have a batch stored by the thread that does nothing else."""
        if in_hand is None:
            return None
        metrics.observe("signalcraft_batch_size", len(in_hand.claim.jobs))
        return self._store(in_hand)

    def _store(self, in_hand: _PreparedBatch) -> _InFlightBatch:
        storing = _InFlightBatch(in_hand, Future())
        thread = threading.Thread(target=self._record, args=(storing,), name="storing", daemon=True)
        thread.start()  # a daemon: one that hangs on a frozen PostgreSQL must not keep the process from ending
        return storing

    def _record(self, storing: _InFlightBatch) -> None:
        try:
            storing.outcome.set_result(self._stages.record(storing.in_hand.batch))
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
            storing.outcome.set_exception(error)

    def _await(self, storing: _InFlightBatch, following: _PreparedBatch | None) -> Any:  # noqa: ANN401 - of the stages
        """What storing comes to. However long that takes, what is in hand stays ours, unless we are told to stop.

        Raises:
            RecoverableError: as ``record``, or PostgreSQL is frozen and a platform waits for us to end.
        """
        stop_at = math.inf
        while not wait([storing.outcome], timeout=_POLL_INTERVAL_SECONDS).done:
            if self._stop_requested:
                stop_at = min(stop_at, time.monotonic() + _STOP_TIMEOUT_SECONDS)
            if time.monotonic() >= stop_at:
                raise DatabaseUnavailable("it takes too long, and we are told to stop")
            try:
                claim = storing.in_hand.claim.renewed()
                if following:
                    following.claim.renewed(behind=claim)
                self.heartbeat()
            except RedisError as error:  # it is stored, and people are told, whether or not we can say so to Redis
                log.warning("waiting for Redis", stage="store", reason=type(error).__name__)
        return storing.outcome.result()

    def _hold(self, in_hand: _PreparedBatch, error: RecoverableError) -> None:
        """Keep the claim and burn no retries while PostgreSQL is away; told to stop, give it back."""
        delays = chain(_FIRST_DELAYS, repeat(_MAX_DELAY))
        while True:
            metrics.count("signalcraft_errors_total", stage="store", kind="recoverable")
            log.warning("database unavailable, retrying batch", stage="store", batch_size=len(in_hand.claim.jobs), reason=str(error))
            if self._stop_requested:
                return in_hand.claim.release()
            in_hand.claim.renewed()
            self.heartbeat()
            time.sleep(next(delays) * (0.5 + random.random()))  # noqa: S311 - jitter is no secret
            try:
                outcome = self._await(self._store(in_hand), None)
            except RecoverableError as another:
                error = another
            else:
                return self._finish(in_hand, outcome)

    def _finish(self, in_hand: _PreparedBatch, outcome: Any) -> None:  # noqa: ANN401 - of the stages
        self._stages.conclude(outcome)
        in_hand.claim.finish(self.key)

    def _refuse(self, claimed: LeasedJob, queue: Queue, error: ForbiddenJob) -> None:
        """A job that is not ours fails by RQ's own path and is not tried again."""
        log.error("job refused", stage="store", job_id=claimed.job_id, reason=str(error))
        try:
            job = AllowedJob.fetch(claimed.job_id, connection=self.connection, serializer=self.serializer)
        except NoSuchJobError:
            return
        job.retries_left = 0
        self.handle_job_failure(job, queue, exc_string=str(error))


def _release(in_hand: _PreparedBatch | None) -> None:
    """Put a batch back that is claimed and not begun."""
    if in_hand:
        in_hand.claim.release()


def _read(
    jobs: Sequence[LeasedJob],
) -> tuple[list[AcceptedDelivery], dict[LeasedJob, ForbiddenJob], Sequence[LeasedJob]]:
    """What the jobs carry, those that are no jobs of ours, and those for which there was no room."""
    deliveries: list[AcceptedDelivery] = []
    refused: dict[LeasedJob, ForbiddenJob] = {}
    room = MAX_BATCH_BYTES
    for position, job in enumerate(jobs):
        if room <= 0:
            return deliveries, refused, jobs[position:]
        try:
            delivery = job.delivery()
        except ForbiddenJob as error:
            refused[job] = error
        else:
            deliveries.append(delivery)
            room -= len(delivery.delivery.body)
    return deliveries, refused, ()


def _dead_letter_abandoned(queue: Queue) -> None:
    """Keep the deliveries that RQ gave up where ``replay`` finds them; what is none of ours stays with RQ."""
    registry = queue.failed_job_registry
    for job_id in registry.get_job_ids(cleanup=False):
        try:
            job = AllowedJob.fetch(job_id, connection=queue.connection, serializer=queue.serializer)
            data: Any = queue.connection.hget(job.key, "data")
            dead_letters.add(read_delivery(data or b""), AbandonedDelivery(), stage="store")
        except (NoSuchJobError, ForbiddenJob):
            continue
        except RecoverableError as error:
            log.warning("abandoned jobs not dead-lettered, database unavailable", stage="store", reason=str(error))
            return
        registry.remove(job, delete_job=True)
