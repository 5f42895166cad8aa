"""Read how much waits in a queue, for how long, and when its worker was last seen."""

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
    """How many jobs wait, and since when the oldest of them does; None where none waits."""

    depth: int
    oldest_created_at: datetime | None


def backlog(redis: Redis, name: str) -> Backlog:
    """How much waits on the queue ``name``.

    Raises:
        QueueUnavailable: Redis is away or too slow.
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
    """When a worker of the queue ``name`` last came round its loop; None where none is registered.

    RQ's worker writes it each time it goes to the queue for work, so it says that the queue is being consumed.

    Raises:
        QueueUnavailable: Redis is away or too slow.
    """
    with redis_errors_as_unavailable():
        workers: Any = redis.smembers(WORKERS_BY_QUEUE_KEY % name)
        beats: Any = [redis.hget(worker, "last_heartbeat") for worker in workers]
    return max((datetime.fromisoformat(beat.decode()) for beat in beats if beat), default=None)


#: How long ago a worker must have gone to the queue. An idle one does every 15 s, one at work after its batch.
HEARTBEAT_SECONDS: Final = 45.0


def heartbeat_seconds(redis: Redis, queue: str) -> float | None:
    """How long ago a worker last went to the queue; None where there is none.

    Raises:
        QueueUnavailable: Redis is away.
    """
    beat = last_heartbeat(redis, queue)
    return (datetime.now(UTC) - beat).total_seconds() if beat else None
