"""Recovery of lost jobs: requeue those that no list and no registry holds."""

from collections.abc import Iterator
from typing import Final

from redis import Redis
from redis.exceptions import ResponseError
from rq import Queue
from rq.job import Job

from signalcraft.queues import jobs, quarantine

#: KEYS: queue, intermediate list, registries. ARGV: prefix of job keys, queue name, job ids. Returns the requeued ids.
#: In one script: a job that moves between two lists must not count as lost. A key of another type holds none.
_REQUEUE: Final = """
local held = {}
for position, key in ipairs(KEYS) do
    for _, id in ipairs(redis.pcall(position <= 2 and "LRANGE" or "ZRANGE", key, 0, -1)) do
        held[string.match(id, "^[^:]*")] = true
    end
end
local requeued = {}
for i = 3, #ARGV do
    local key = ARGV[1] .. ARGV[i]
    local origin, has_data = redis.pcall("HGET", key, "origin"), redis.pcall("HEXISTS", key, "data")
    if not held[ARGV[i]] and origin == ARGV[2] and has_data == 1 then
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
    keys = [*quarantine.lists(queue), *quarantine.registries(queue)]
    for page in quarantine.job_keys(redis):
        ids = (key.removeprefix(Job.redis_job_namespace_prefix.encode()) for key in page)
        lost = [job_id for job_id in ids if job_id not in held and jobs.JOB_ID.fullmatch(job_id)]
        arguments: list[str | bytes] = [Job.redis_job_namespace_prefix, name, *lost]
        yield len(requeue(keys=keys, args=arguments)) if lost else 0


def _held(queue: Queue) -> set[bytes]:
    """Return the ids in all lists and registries.

    With them the script has to check few jobs only.
    """
    with queue.connection.pipeline(transaction=False) as pipe:
        for key in quarantine.lists(queue):
            pipe.lrange(key, 0, -1)
        for key in quarantine.registries(queue):
            pipe.zrange(key, 0, -1)
        replies = pipe.execute(raise_on_error=False)
    for reply in replies:
        if isinstance(reply, Exception) and not isinstance(reply, ResponseError):
            raise reply
    return {entry.partition(b":")[0] for reply in replies if isinstance(reply, list) for entry in reply}
