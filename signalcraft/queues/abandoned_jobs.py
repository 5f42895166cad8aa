"""Recovery of the jobs of dead workers, in place of RQ's maintenance.

RQ compares the times of several machines and ends at the first entry that it cannot read. Here one script does it, by
Redis's clock: what is no job is skipped, reported, and stays where it is.
"""

from typing import Any, Final

from rq import Queue
from rq.job import Job
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from signalcraft.queues import quarantine
from signalcraft.queues.jobs import FAILURE_TTL_SECONDS, MAX_RETRIES

#: How long a popped job may be unclaimed: its worker was killed in between.
UNCLAIMED_SECONDS: Final = 4
#: How many unreadable entries one run reports.
_MAX_REPORTED: Final = 100
#: The key, with the queue's name, that has the number of unreadable entries, for longer than between two runs.
UNREADABLE_KEY: Final = "signalcraft:unreadable:"
_UNREADABLE_SECONDS: Final = 60

#: KEYS: queue, intermediate list, registry of started jobs, of failed jobs, other registries. ARGV: prefix of job keys,
#: longest lease, TTL of failed jobs, maximum of retries, seconds unclaimed, maximum number of reported entries.
#: Returns the number of unreadable entries, key, entry, key, …
#: A lease that ends later than any can is one of a worker of an earlier release, whose clock was ahead.
_RECOVER: Final = f"""
{quarantine.JOB_ID_IN_LUA}
local time = redis.call("TIME")
local now = time[1] + time[2] / 1000000
local unreadable, reported = 0, {{}}
local function skip(key, entry)
    unreadable = unreadable + 1
    if unreadable <= tonumber(ARGV[6]) then
        reported[#reported + 1] = key
        reported[#reported + 1] = entry
    end
end
local function type_of(id) return redis.call("TYPE", ARGV[1] .. id).ok end
local function requeue(id)
    local key = ARGV[1] .. id
    local left = math.min(tonumber(redis.call("HGET", key, "retries_left") or 0) or 0, tonumber(ARGV[4]))
    if left > 0 then
        redis.call("LPUSH", KEYS[1], id)
        redis.call("HSET", key, "status", "queued", "retries_left", math.ceil(left) - 1)
    else
        redis.call("ZADD", KEYS[4], now + ARGV[3], id)
        redis.call("HSET", key, "status", "failed")
        redis.call("EXPIRE", key, ARGV[3])
    end
end

local latest = now + ARGV[2]
local beyond = redis.call("ZRANGEBYSCORE", KEYS[3], "(" .. string.format("%.6f", latest), "+inf")
for i, entry in ipairs(beyond) do redis.call("ZADD", KEYS[3], latest - (#beyond - i) / 100000, entry) end

local started = {{}}
for _, entry in ipairs(redis.call("ZRANGE", KEYS[3], 0, -1)) do
    local id, score = job_id(entry), tonumber(redis.call("ZSCORE", KEYS[3], entry))
    if not id then
        skip(KEYS[3], entry)
    elseif score > now then
        started[id] = true
    elseif type_of(id) == "hash" or type_of(id) == "none" then
        if redis.call("HGET", ARGV[1] .. id, "status") == "started" then requeue(id) end
        redis.call("ZREM", KEYS[3], entry)
    else
        skip(KEYS[3], entry)
    end
end

for _, id in ipairs(redis.call("LRANGE", KEYS[2], 0, -1)) do
    local seen_key = KEYS[2] .. ":first_seen:" .. id
    if not string.match(id, "^[%w_-]+$") or (type_of(id) ~= "hash" and type_of(id) ~= "none") then
        skip(KEYS[2], id)
    elseif redis.call("HEXISTS", ARGV[1] .. id, "data") == 0 then
        redis.call("LREM", KEYS[2], 1, id)
    elseif not started[id] then
        local seen = tonumber(redis.pcall("GET", seen_key))
        if not seen or seen > now then
            redis.call("SET", seen_key, now, "EX", 86400)
        elseif now - seen > tonumber(ARGV[5]) then
            requeue(id)
            redis.call("LREM", KEYS[2], 1, id)
            redis.call("DEL", seen_key)
        end
    end
end

for position = 4, #KEYS do
    for _, entry in ipairs(redis.call("ZRANGE", KEYS[position], 0, -1)) do
        if not job_id(entry) then
            skip(KEYS[position], entry)
        elseif position == 4 and tonumber(redis.call("ZSCORE", KEYS[4], entry)) <= now then
            redis.call("ZREM", KEYS[4], entry)
        end
    end
end
return {{unreadable, unpack(reported)}}
"""

#: KEYS: the workers of a queue, all workers. Removes those whose key has expired.
_FORGET_DEAD_WORKERS: Final = """
for _, worker in ipairs(redis.call("SMEMBERS", KEYS[1])) do
    if string.match(worker, "^rq:worker:") and redis.call("EXISTS", worker) == 0 then
        redis.call("SREM", KEYS[1], worker)
        redis.call("SREM", KEYS[2], worker)
    end
end
"""


def recover(queue: Queue, *, lease_seconds: float) -> None:
    """Requeue the jobs of dead workers; jobs without retries go to RQ's registry of failed jobs.

    ``lease_seconds`` is the longest that a worker claims a job for.

    Raises:
        redis.exceptions.RedisError: Redis is unavailable.
    """
    redis = queue.connection
    quarantine.move_keys_of_other_types(redis)
    arguments = [lease_seconds, FAILURE_TTL_SECONDS, MAX_RETRIES, UNCLAIMED_SECONDS, _MAX_REPORTED]
    reply: Any = redis.register_script(_RECOVER)(
        keys=[*quarantine.lists(queue), *quarantine.registries(queue)],
        args=[Job.redis_job_namespace_prefix, *arguments],
    )
    redis.register_script(_FORGET_DEAD_WORKERS)(keys=[WORKERS_BY_QUEUE_KEY % queue.name, REDIS_WORKER_KEYS])
    unreadable, *reported = reply
    redis.set(UNREADABLE_KEY + queue.name, unreadable, ex=_UNREADABLE_SECONDS)
    quarantine.report(zip(reported[::2], reported[1::2], strict=True))
