"""What somebody else wrote into the Redis keys of RQ and of us: found, and moved out of the way.

An entry that is no job id, and a job's key that is no job, are skipped where they are; ``reconcile --quarantine`` moves
them. A whole key of another type would stop all work, so the workers move it at once. Quarantine is in Redis, below
``PREFIX`` and the name of the key, for ``KEPT_SECONDS``; no byte is changed.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import structlog
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from signalcraft import metrics
from signalcraft.queues.jobs import ALERTS, FAILURE_TTL_SECONDS, NOTIFICATIONS, queue

log = structlog.get_logger(__name__)

PREFIX: Final = "signalcraft:quarantine:"
KEPT_SECONDS: Final = FAILURE_TTL_SECONDS

#: Of an entry that is logged; the rest is in Redis.
_MAX_LOGGED_BYTES: Final = 100
#: So many are logged by one process: a flood must not fill the disk, nor the memory.
_MAX_LOGGED_ENTRIES: Final = 1_000
_logged: Final[set[tuple[str, str]]] = set()

_SCAN_COUNT: Final = 500
#: Lua: the job id in an entry of a list or a registry, nil if it has none. RQ's ids have no other characters.
JOB_ID_IN_LUA: Final = """
local function job_id(entry)
    return string.match(entry, "^([%w_-]+)$") or string.match(entry, "^([%w_-]+):[%w_-]*$")
end
"""

#: KEYS: keys. ARGV: prefix of quarantine, seconds, the type of each key. Returns the moved keys.
_MOVE_KEYS: Final = """
local moved, time = {}, redis.call("TIME")
for i, key in ipairs(KEYS) do
    local kind = redis.call("TYPE", key).ok
    if kind ~= "none" and kind ~= ARGV[i + 2] then
        local kept = ARGV[1] .. key .. ":" .. time[1] .. time[2]
        redis.call("RENAME", key, kept)
        redis.call("EXPIRE", kept, ARGV[2])
        moved[#moved + 1] = key
    end
end
return moved
"""

#: KEYS: a list or sorted set. ARGV: prefix of quarantine, seconds, 1 to move what is no job id. Returns how many are.
_ENTRIES: Final = f"""
{JOB_ID_IN_LUA}
local is_list, kept, found = redis.call("TYPE", KEYS[1]).ok == "list", ARGV[1] .. KEYS[1], 0
local entries = redis.pcall(is_list and "LRANGE" or "ZRANGE", KEYS[1], 0, -1)
for _, entry in ipairs(entries) do
    if not job_id(entry) then
        found = found + 1
        if ARGV[3] == "1" then
            if is_list then redis.call("LREM", KEYS[1], 1, entry) else redis.call("ZREM", KEYS[1], entry) end
            redis.call("RPUSH", kept, entry)
            redis.call("EXPIRE", kept, ARGV[2])
        end
    end
end
return found
"""

#: KEYS: keys of jobs. ARGV: their prefix, that of quarantine, seconds, 1 to move what is no job. Returns how many are.
_JOB_KEYS: Final = """
local found, time = 0, redis.call("TIME")
for _, key in ipairs(KEYS) do
    local kind = redis.call("TYPE", key).ok
    local is_job = kind == "hash" and redis.call("HEXISTS", key, "data") == 1
    if kind ~= "none" and not (is_job and string.match(string.sub(key, #ARGV[1] + 1), "^[%w_-]+$")) then
        found = found + 1
        if ARGV[4] == "1" then
            local kept = ARGV[2] .. key .. ":" .. time[1] .. time[2]
            redis.call("RENAME", key, kept)
            redis.call("EXPIRE", kept, ARGV[3])
        end
    end
end
return found
"""


def lists(queue: Queue) -> tuple[str, str]:
    """Return the lists that can hold the queue's jobs."""
    return queue.key, queue.intermediate_queue_key


def registries(queue: Queue) -> tuple[str, ...]:
    """Return the sorted sets that can hold the queue's jobs."""
    return (
        queue.started_job_registry.key,
        queue.failed_job_registry.key,
        queue.scheduled_job_registry.key,
        queue.deferred_job_registry.key,
        queue.finished_job_registry.key,
        queue.canceled_job_registry.key,
    )


def move_keys_of_other_types(redis: Redis) -> None:
    """Move keys without which nothing works, if they are of another type.

    Raises:
        redis.exceptions.RedisError: Redis is unavailable.
    """
    types = _types(redis)
    moved: Any = redis.register_script(_MOVE_KEYS)(keys=list(types), args=[PREFIX, KEPT_SECONDS, *types.values()])
    for key in moved:
        metrics.count("signalcraft_quarantined_total")
        log.error("key of another type quarantined", stage="store", key=key.decode())


def move_key(redis: Redis, key: str) -> None:
    """Move one key, whatever its type.

    Raises:
        redis.exceptions.RedisError: Redis is unavailable.
    """
    redis.register_script(_MOVE_KEYS)(keys=[key], args=[PREFIX, KEPT_SECONDS, ""])
    metrics.count("signalcraft_quarantined_total")


def _types(redis: Redis) -> Mapping[str, str]:
    types = {Queue.redis_queues_keys: "set", REDIS_WORKER_KEYS: "set", metrics.SUMS: "hash"}
    for name in (ALERTS, NOTIFICATIONS):
        held = queue(redis, name)
        types[WORKERS_BY_QUEUE_KEY % name] = "set"
        types |= dict.fromkeys(lists(held), "list") | dict.fromkeys(registries(held), "zset")
    return types


def report(entries: Iterable[tuple[bytes, bytes]]) -> None:
    """Log unreadable entries, given with their keys, once in this process."""
    for key, entry in entries:
        named = repr(key)[2:-1], repr(entry[:_MAX_LOGGED_BYTES])[2:-1]
        if named not in _logged and len(_logged) < _MAX_LOGGED_ENTRIES:
            _logged.add(named)
            log.error("unreadable entry skipped", stage="store", key=named[0], entry=named[1])


def unreadable(redis: Redis, *, move: bool) -> int:
    """Return how many entries are no job ids, and how many keys of jobs are no jobs.

    They are moved if ``move``.

    Raises:
        redis.exceptions.RedisError: Redis is unavailable.
    """
    of_entries, of_job_keys = redis.register_script(_ENTRIES), redis.register_script(_JOB_KEYS)
    options: tuple[str | int, ...] = (PREFIX, KEPT_SECONDS, int(move))
    found = 0
    for name in (ALERTS, NOTIFICATIONS):
        held = queue(redis, name)
        for key in (*lists(held), *registries(held)):
            found += _integer(of_entries(keys=[key], args=options))
    for keys in job_keys(redis):
        found += _integer(of_job_keys(keys=keys, args=[Job.redis_job_namespace_prefix, *options])) if keys else 0
    return found


def _integer(reply: Any) -> int:  # noqa: ANN401 - Lua's reply
    return int(reply)


def job_keys(redis: Redis) -> Iterator[list[bytes]]:
    """Yield pages of the keys of all jobs.

    RQ's other keys of a job have a colon after the id.
    """
    prefix, cursor = Job.redis_job_namespace_prefix.encode(), 0
    while True:
        reply: Any = redis.scan(cursor, match=prefix + b"*", count=_SCAN_COUNT)
        cursor, keys = reply
        yield [key for key in keys if b":" not in key[len(prefix) :]]
        if not cursor:
            return
