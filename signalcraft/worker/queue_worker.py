"""RQ's worker as both of our processes run it: bounded pauses, and maintenance that nothing in Redis ends."""

import random
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from redis import Redis
from redis.exceptions import RedisError, ResponseError
from rq import Queue, SimpleWorker, worker_registration
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer

from signalcraft.logs import exception_fields
from signalcraft.queues import abandoned_jobs, leases
from signalcraft.queues.jobs import JOB_ID, WORKER_TTL_SECONDS, AllowedJob
from signalcraft.worker import watchdog

log = structlog.get_logger(__name__)

#: How often workers look for jobs of dead workers: between two blocking pops, each of which lasts as long.
MAINTENANCE_INTERVAL_SECONDS: Final = WORKER_TTL_SECONDS - 15
#: The pause between two attempts to reach Redis is random within these, so that workers do not return as one.
_PAUSE_SECONDS: Final = (0.5, 1.5)


class JobQueue(Queue):
    """The queue that a ``QueueWorker`` reads."""

    @classmethod
    def lmove(cls, connection: Redis, queue_key: str, timeout: int | None) -> Any:  # noqa: ANN401 - RQ's signature
        """Pop a job.

        What is no job id stays in the intermediate list, where maintenance reports it: RQ would end the worker.
        """
        while True:
            popped = super().lmove(connection, queue_key, timeout)
            if popped is None or JOB_ID.fullmatch(popped[1]):
                return popped


class QueueWorker(SimpleWorker):
    """RQ worker of one queue."""

    queue_class = JobQueue
    job_class = AllowedJob

    def __init__(self, queue: str, *, connection: Redis, lease_seconds: int) -> None:
        """Create a worker, which claims jobs for ``lease_seconds``.

        It starts nothing and sends nothing to Redis yet.
        """
        super().__init__(
            [queue],
            connection=connection,
            serializer=JSONSerializer,
            worker_ttl=WORKER_TTL_SECONDS,
            maintenance_interval=MAINTENANCE_INTERVAL_SECONDS,
            log_job_description=False,
        )
        self._lease_seconds = lease_seconds

    @property
    def max_connection_wait_time(self) -> float:  # type: ignore[override] # RQ's is a constant
        """Pause in seconds before the next attempt to reach Redis.

        RQ doubles its pauses up to this. Up to a minute, they kept workers waiting after Redis was back.
        """
        return random.uniform(*_PAUSE_SECONDS)  # noqa: S311 - jitter is no secret

    def clean_registries(self) -> None:
        """Requeue the jobs of dead workers, and register this one again.

        RQ registers a worker once: after a FLUSHALL, or a failover to a replica that lacks it, one that works would be
        missing for ever. A failure does not stop the worker: waiting jobs are processed all the same.
        """
        self.last_cleaned_at = datetime.now(UTC)  # type: ignore[assignment] # RQ annotates nothing
        try:
            for queue in self.queues:
                self.recover(queue)
            self._register_again()
        except Exception as error:
            if isinstance(error, RedisError) and not isinstance(error, ResponseError):
                raise
            log.error("registry cleanup failed", stage="store", **exception_fields(error))  # noqa: TRY400

    def _register_again(self) -> None:
        if self.birth_date is None:  # not started yet
            return
        with self.connection.pipeline() as pipeline:
            pipeline.hset(self.key, mapping=self.serialize())
            worker_registration.register(self, pipeline)
            self.heartbeat(pipeline=pipeline)
            pipeline.execute()

    def recover(self, queue: Queue) -> None:
        """Requeue the jobs of dead workers of ``queue``."""
        abandoned_jobs.recover(queue, lease_seconds=self._lease_seconds)

    def clean_group_registries(self) -> None:
        """Do nothing: our jobs are in no groups of RQ."""

    def prepare_execution(self, job: Job) -> Execution:
        """Claim a job that RQ runs by its own path, until a time of Redis's clock."""
        execution = super().prepare_execution(job)
        entries = [str(execution.composite_key)]
        leases.renew(self.connection, job.started_job_registry.key, entries, seconds=self._lease_seconds)
        return execution

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:  # noqa: ARG002 - RQ's signature
        """Return the seconds that a job which RQ runs by its own path is claimed for."""
        return self._lease_seconds

    def handle_warm_shutdown_request(self) -> None:
        """Request a shutdown.

        It ends the process even if Redis is frozen.
        """
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call] # RQ's
        watchdog.request_shutdown()
