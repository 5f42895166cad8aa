"""A way back: jobs that Redis holds, and that no list and no registry does, are put back."""

from collections.abc import Iterator
from typing import Any, Final

from redis import Redis
from rq import Queue
from rq.job import Job

from signalcraft.queues import jobs

_SCAN_COUNT: Final = 500

#: KEYS: queue, intermediate list, registries. ARGV: prefix of job keys, the queue's name, ids. Returns those put back.
#: In one script: a job that is on its way from one list to the next must not be taken for lost.
_REQUEUE: Final = """
local held = {}
for place, key in ipairs(KEYS) do
    local ids = place <= 2 and redis.call("LRANGE", key, 0, -1) or redis.call("ZRANGE", key, 0, -1)
    for _, id in ipairs(ids) do held[string.match(id, "^[^:]*")] = true end
end
local back = {}
for i = 3, #ARGV do
    local key = ARGV[1] .. ARGV[i]
    if not held[ARGV[i]] and redis.call("HGET", key, "origin") == ARGV[2] then
        redis.call("HSET", key, "status", "queued")
        redis.call("LPUSH", KEYS[1], ARGV[i])
        back[#back + 1] = ARGV[i]
    end
end
return back
"""


def reconcile(redis: Redis, name: str) -> Iterator[int]:
    """Put back each job of the queue ``name`` that no list and no registry holds; how many, for every few keys read.

    They go to the front: they are older than what waits.
    """
    queue = jobs.queue(redis, name)
    held = _held(queue)
    put_back = redis.register_script(_REQUEUE)
    for ids in _job_ids(redis):
        lost = [job_id for job_id in ids if job_id not in held]
        arguments = [Job.redis_job_namespace_prefix, name, *lost]
        yield len(put_back(keys=_places(queue), args=arguments)) if lost else 0


def _places(queue: Queue) -> list[str]:
    """Every key that can hold a job of the queue: two lists, then sorted sets."""
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
    """A first look, so that the script has to go through everything for few jobs only."""
    first, second, *registries = _places(queue)
    with queue.connection.pipeline(transaction=False) as pipe:
        for key in (first, second):
            pipe.lrange(key, 0, -1)
        for key in registries:
            pipe.zrange(key, 0, -1)
        return {entry.decode().partition(":")[0] for entries in pipe.execute() for entry in entries}


def _job_ids(redis: Redis) -> Iterator[list[str]]:
    """The ids of all jobs, some at a time; what RQ keeps beside a job has a colon behind the id."""
    prefix, cursor = Job.redis_job_namespace_prefix, 0
    while True:
        answer: Any = redis.scan(cursor, match=f"{prefix}*", count=_SCAN_COUNT, _type="hash")
        cursor, keys = answer
        names = (key.decode().removeprefix(prefix) for key in keys)
        yield [name for name in names if ":" not in name]
        if not cursor:
            return
