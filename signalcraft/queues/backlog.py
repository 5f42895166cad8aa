"""Queue depth, age of the oldest job, and the last heartbeat of a queue's workers."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from redis import Redis
from rq.job import Job
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from signalcraft.queues.jobs import queue
from signalcraft.queues.redis_clients import redis_errors_as_unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Number of waiting jobs and creation time of the oldest; None for an empty queue."""

    depth: int
    oldest_created_at: datetime | None


def backlog(redis: Redis, name: str) -> Backlog:
    """Return the depth and oldest job of queue ``name``.

    Raises:
        QueueUnavailable: Redis is unavailable or too slow.
    """
    waiting = queue(redis, name)
    with redis_errors_as_unavailable():
        depth: Any = redis.llen(waiting.key)
        oldest: Any = redis.lindex(waiting.key, 0)
        created_at: Any = redis.hget(Job.key_for(oldest.decode()), "created_at") if oldest else None
    return Backlog(depth=depth, oldest_created_at=_parse(created_at))


def _parse(moment: bytes | None) -> datetime | None:
    return datetime.fromisoformat(moment.decode()) if moment else None


def last_heartbeat(redis: Redis, name: str) -> datetime | None:
    """Return the newest worker heartbeat of the queue ``name``.

    None without a worker. RQ's worker writes its heartbeat each time it asks the queue for work, so a recent one means
    that the queue is being consumed.

    Raises:
        QueueUnavailable: Redis is unavailable or too slow.
    """
    with redis_errors_as_unavailable():
        workers: Any = redis.smembers(WORKERS_BY_QUEUE_KEY % name)
        beats: Any = [redis.hget(worker, "last_heartbeat") for worker in workers]
    return max((datetime.fromisoformat(beat.decode()) for beat in beats if beat), default=None)


#: Maximum age of the heartbeat of a live worker. An idle worker asks the queue every 8 s, an
#: idle notifier every 15 s, a busy worker after its batch.
HEARTBEAT_SECONDS: Final = 45.0


def heartbeat_seconds(redis: Redis, queue: str) -> float | None:
    """Return the age of the newest heartbeat in seconds.

    None without a worker.

    Raises:
        QueueUnavailable: Redis is unavailable.
    """
    beat = last_heartbeat(redis, queue)
    return (datetime.now(UTC) - beat).total_seconds() if beat else None
