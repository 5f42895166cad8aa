"""Recovery of lost jobs: requeue those that no list and no registry holds."""

from collections.abc import Iterator
from typing import Any, Final

from redis import Redis
from rq import Queue
from rq.job import Job

from signalcraft.queues import jobs

_SCAN_COUNT: Final = 500

#: KEYS: queue, intermediate list, registries. ARGV: prefix of job keys, queue name, job ids. Returns the requeued ids.
#: In one script: a job that moves between two lists must not count as lost.
_REQUEUE: Final = """
local held = {}
for position, key in ipairs(KEYS) do
    local ids = position <= 2 and redis.call("LRANGE", key, 0, -1) or redis.call("ZRANGE", key, 0, -1)
    for _, id in ipairs(ids) do held[string.match(id, "^[^:]*")] = true end
end
local requeued = {}
for i = 3, #ARGV do
    local key = ARGV[1] .. ARGV[i]
    if not held[ARGV[i]] and redis.call("HGET", key, "origin") == ARGV[2] then
        redis.call("HSET", key, "status", "queued")
        redis.call("LPUSH", KEYS[1], ARGV[i])
        requeued[#requeued + 1] = ARGV[i]
    end
end
return requeued
"""


def reconcile(redis: Redis, name: str) -> Iterator[int]:
    """Requeue lost jobs of the queue ``name``.

    Yields how many for each page of keys. Lost jobs go to the front because they are older than the waiting jobs.
    """
    queue = jobs.queue(redis, name)
    held = _held(queue)
    requeue = redis.register_script(_REQUEUE)
    for ids in _job_ids(redis):
        lost = [job_id for job_id in ids if job_id not in held]
        arguments = [Job.redis_job_namespace_prefix, name, *lost]
        yield len(requeue(keys=_keys(queue), args=arguments)) if lost else 0


def _keys(queue: Queue) -> list[str]:
    """Return every key that can hold the queue's jobs.

    Two lists come first, then sorted sets.
    """
    registries = (
        queue.started_job_registry,
        queue.failed_job_registry,
        queue.scheduled_job_registry,
        queue.deferred_job_registry,
        queue.finished_job_registry,
        queue.canceled_job_registry,
    )
    return [queue.key, queue.intermediate_queue_key, *(registry.key for registry in registries)]


def _held(queue: Queue) -> set[str]:
    """Return the ids in all lists and registries.

    With them the script has to check few jobs only.
    """
    first, second, *registries = _keys(queue)
    with queue.connection.pipeline(transaction=False) as pipe:
        for key in (first, second):
            pipe.lrange(key, 0, -1)
        for key in registries:
            pipe.zrange(key, 0, -1)
        return {entry.decode().partition(":")[0] for entries in pipe.execute() for entry in entries}


def _job_ids(redis: Redis) -> Iterator[list[str]]:
    """Yield pages of the ids of all jobs.

    RQ's other keys of a job have a colon after the id.
    """
    prefix, cursor = Job.redis_job_namespace_prefix, 0
    while True:
        reply: Any = redis.scan(cursor, match=f"{prefix}*", count=_SCAN_COUNT, _type="hash")
        cursor, keys = reply
        names = (key.decode().removeprefix(prefix) for key in keys)
        yield [name for name in names if ":" not in name]
        if not cursor:
            return
