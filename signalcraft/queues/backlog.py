"""Queue depth, age of the oldest job, age of the last heartbeat of a queue's workers, and unreadable entries.

All times are Redis's: the machines that write, work and read here have clocks that differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from redis import Redis
from redis.exceptions import ResponseError
from rq.job import Job
from rq.utils import utcparse
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from signalcraft.queues.abandoned_jobs import UNREADABLE_KEY
from signalcraft.queues.jobs import ALERTS, NOTIFICATIONS, WORKER_TTL_SECONDS, queue
from signalcraft.queues.redis_clients import redis_errors_as_unavailable

#: RQ lets the key of a worker expire so long after a heartbeat.
_HEARTBEAT_TTL_SECONDS: Final = WORKER_TTL_SECONDS + 60
#: Maximum age of the heartbeat of a live worker. An idle one asks the queue every 8 s, a busy one after its batch.
HEARTBEAT_SECONDS: Final = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Number of waiting jobs, and seconds since the oldest was enqueued; 0 for an empty queue."""

    depth: int
    oldest_seconds: float


def backlog(redis: Redis, name: str) -> Backlog:
    """Return the depth and the age of the oldest job of queue ``name``.

    Raises:
        QueueUnavailable: Redis is unavailable or too slow.
    """
    with redis_errors_as_unavailable():
        depth: Any = redis.llen(queue(redis, name).key)
        oldest: Any = redis.lindex(queue(redis, name).key, 0)
        created_at: Any = _field(redis, oldest, "created_at") if oldest else None
        seconds, microseconds = redis.time()
    since = _epoch_seconds(created_at)
    age = seconds + microseconds / 1_000_000 - since if since else 0.0
    return Backlog(depth=depth, oldest_seconds=max(0.0, age))


def _field(redis: Redis, job_id: bytes, field: str) -> object:
    """Return a field of a job; None if its key is no job's."""
    try:
        return redis.hget(Job.redis_job_namespace_prefix.encode() + job_id, field)
    except ResponseError:
        return None


def _epoch_seconds(moment: bytes | None) -> float | None:
    """Return a moment that RQ wrote; None if it cannot be read."""
    try:
        return utcparse(moment.decode()).timestamp() if moment else None
    except ValueError:
        return None


def heartbeat_seconds(redis: Redis, name: str) -> float | None:
    """Return the seconds since the newest heartbeat of a worker of queue ``name``.

    None without a worker. RQ's worker lets its key expire later each time it asks the queue for work, so a recent one
    means that the queue is being consumed; what is left of that time needs no clock but Redis's.

    Raises:
        QueueUnavailable: Redis is unavailable.
    """
    with redis_errors_as_unavailable(), redis.pipeline(transaction=False) as pipeline:
        workers: Any = redis.smembers(WORKERS_BY_QUEUE_KEY % name)
        for worker in workers:
            pipeline.pttl(worker)
        left_ms = [left for left in pipeline.execute() if left > 0]
    return max(0.0, _HEARTBEAT_TTL_SECONDS - max(left_ms) / 1000) if left_ms else None


def unreadable_entries(redis: Redis) -> Mapping[tuple[str, ...], float]:
    """Return how many entries the last maintenance of each queue skipped.

    Queues without maintenance lately are left out.

    Raises:
        QueueUnavailable: Redis is unavailable.
    """
    with redis_errors_as_unavailable():
        numbers: Any = {(name,): redis.get(UNREADABLE_KEY + name) for name in (ALERTS, NOTIFICATIONS)}
    return {labels: int(number) for labels, number in numbers.items() if number and number.isdigit()}
