"""Enqueue RQ jobs atomically; a Lua script enqueues each delivery once."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, Final
from uuid import uuid4

import orjson
from isal import isal_zlib
from redis import Redis
from redis.exceptions import NoScriptError
from rq import Queue
from rq import Retry as JobRetry
from rq.job import Job, JobStatus

from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.queues.jobs import ALERTS, MAX_RETRIES, NOTIFICATIONS, NOTIFY, PROCESS_DELIVERY, queue
from signalcraft.queues.redis_clients import deadline, redis_errors_as_unavailable, run_idempotent

#: Lifetime in Redis of a notification that is waiting or failed.
NOTIFY_TTL_SECONDS: Final = 3600

#: Lua: now, by Redis's clock, as RQ writes it: the clocks of those who write and read it differ. Redis has no
#: ``os.date``; the calendar is that of https://howardhinnant.github.io/date_algorithms.html#civil_from_days.
_NOW: Final = """
local function now()
    local time, floor = redis.call("TIME"), math.floor
    local seconds = tonumber(time[1])
    local days = floor(seconds / 86400) + 719468
    local era, of_era = floor(days / 146097), days % 146097
    local year = floor((of_era - floor(of_era / 1460) + floor(of_era / 36524) - floor(of_era / 146096)) / 365)
    local of_year = of_era - (365 * year + floor(year / 4) - floor(year / 100))
    local month = floor((5 * of_year + 2) / 153)  -- from March
    local day = of_year - floor((153 * month + 2) / 5) + 1
    if month < 10 then month = month + 3 else month, year = month - 9, year + 1 end
    return string.format("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", year + era * 400, month, day,
                         floor(seconds / 3600) % 24, floor(seconds / 60) % 60, seconds % 60, time[2])
end
"""
#: KEYS: the job.
_SET_CREATED: Final = f'{_NOW} redis.call("HSET", KEYS[1], "created_at", now())'

#: For all round trips together: AUTH, SELECT and the script would each take that long on a slow Redis.
_ENQUEUE_TIMEOUT_SECONDS: Final = 0.5
#: Of a body that is large, so many characters are serialized at once.
_PIECE: Final = 16_384
_LARGE: Final = 262_144

#: KEYS: delivery key, RQ's set of queues, the queue, the job. ARGV: delivery id, TTL in seconds, the fields that differ
#: between jobs. Fields common to all jobs are part of the script: redis-py takes 2 µs for each argument.
#: A delivery key that names no delivery is not ours, and proves nothing.
#: The delivery key is set last: if Redis refuses an earlier write, the next attempt is not a duplicate.
#: GET and SET instead of SET NX GET, which needs Redis 7.0; a script is atomic anyway.
_ENQUEUE_ONCE = f"""
{_NOW}
local first = redis.call("GET", KEYS[1])
if first and string.match(first, "^[%w_-]+$") then return first end
redis.call("SADD", KEYS[2], KEYS[3])
redis.call("HSET", KEYS[4], {{common}}, "created_at", now(), unpack(ARGV, 3))
redis.call("RPUSH", KEYS[3], ARGV[1])
redis.call("SET", KEYS[1], ARGV[1], "EX", ARGV[2])
return false
"""


#: For a delivery of 6.5 kB ISA-L's level 1 takes 16 µs and zlib's level 4 takes 43 µs; the result of 2,500 bytes grows
#: by 147 bytes. ISA-L's best level takes 26 µs and grows it by 75 bytes.
_COMPRESSION_LEVEL: Final = 1

_ALERTS_KEY: Final = Queue.redis_queue_namespace_prefix + ALERTS
_NOTIFICATIONS_KEY: Final = Queue.redis_queue_namespace_prefix + NOTIFICATIONS
#: Fields that are not written, besides ``failure_ttl`` of a delivery's job and empty fields. RQ works without
#: ``retry_intervals``; ``AllowedJob`` has defaults for the others. Together they took a third of the memory of a
#: waiting job: 2.6 kB in addition to its body.
_OMITTED_FIELDS: Final = frozenset({"retry_intervals", "enqueued_at", "timeout", "result_ttl"})

#: The queue of each function and the RQ options of its jobs; other options have the defaults of ``AllowedJob``.
_OPTIONS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    PROCESS_DELIVERY: (
        ALERTS,
        {"retry": JobRetry(max=MAX_RETRIES, enqueue_at_front=True)},  # a retried job is the oldest
    ),
    NOTIFY: (NOTIFICATIONS, {"failure_ttl": NOTIFY_TTL_SECONDS, "ttl": NOTIFY_TTL_SECONDS}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueResult:
    """Result of an enqueue; a duplicate has the ``delivery_id`` of the first delivery with its delivery key."""

    is_duplicate: bool
    delivery_id: str


def enqueue_once(redis: Redis, accepted: AcceptedDelivery, *, ttl_seconds: int) -> EnqueueResult:
    """Enqueue ``accepted``, unless its delivery key was enqueued within ``ttl_seconds``.

    One script writes both in one round trip: the key without the job would lose the delivery, the job without the
    key would repeat it.

    Raises:
        QueueUnavailable: Redis is unavailable, too slow, full or read-only. The delivery may be enqueued nevertheless.
    """
    keys = (_delivery_key(accepted), Queue.redis_queues_keys, _ALERTS_KEY, Job.key_for(accepted.delivery_id))
    values = (accepted.delivery_id, ttl_seconds, *chain.from_iterable(_job_fields(accepted).items()))
    with redis_errors_as_unavailable(), deadline(_ENQUEUE_TIMEOUT_SECONDS):
        first = _run_script(redis, keys, values)
    delivery_id = first.decode() if first else accepted.delivery_id  # its own if the reply to its first try was lost
    return EnqueueResult(is_duplicate=delivery_id != accepted.delivery_id, delivery_id=delivery_id)


def enqueue_notification(redis: Redis, notification: Mapping[str, Any], *, description: str) -> None:
    """Enqueue ``notification`` as a job of the notifications queue.

    Raises:
        QueueUnavailable: Redis is unavailable, too slow, full or read-only.
    """
    job_id = str(uuid4())
    key = Job.key_for(job_id)
    fields: Mapping[Any, Any] = _template(NOTIFY) | _fields(NOTIFY, notification, description)
    with redis_errors_as_unavailable(), redis.pipeline() as pipeline:
        pipeline.sadd(Queue.redis_queues_keys, _NOTIFICATIONS_KEY)
        pipeline.hset(key, mapping=fields)
        pipeline.eval(_SET_CREATED, 1, key)
        pipeline.expire(key, NOTIFY_TTL_SECONDS)
        pipeline.rpush(_NOTIFICATIONS_KEY, job_id)
        pipeline.execute()


def wake_notifier(redis: Redis) -> None:
    """Enqueue a job that wakes the notifier, unless one waits.

    Raises:
        QueueUnavailable: as ``enqueue_notification``. The notifier looks by itself within a second.
    """
    with redis_errors_as_unavailable():
        waits = redis.llen(_NOTIFICATIONS_KEY)
    if not waits:
        enqueue_notification(redis, {}, description="wake the notifier")


def _job_fields(accepted: AcceptedDelivery) -> dict[str, Any]:
    argument = accepted.as_job_argument()
    if len(argument["body"]) > _LARGE:
        argument["body"] = orjson.Fragment(_in_pieces(argument["body"]))
    return _fields(PROCESS_DELIVERY, argument, f"{accepted.source} {accepted.resource}")


def _in_pieces(text: str) -> bytes:
    """Return ``text`` as JSON, serialized in pieces.

    Other threads run between two of them: 5 MB of escapes take orjson 30 ms, in which it keeps the interpreter's lock.
    """
    pieces = (orjson.dumps(text[start : start + _PIECE])[1:-1] for start in range(0, len(text), _PIECE))
    return b"".join((b'"', *pieces, b'"'))


def _fields(function: str, argument: Mapping[str, Any], description: str) -> dict[str, Any]:
    """Return the fields that differ between jobs.

    Together with ``_template``, and with ``created_at`` of the scripts, they are the fields that
    ``Queue.enqueue(function, argument, …)`` writes; tests compare them. Creating RQ's objects for each job takes twice
    as long as serializing and compressing a delivery, so RQ creates them once per function.
    """
    call: tuple[Any, ...] = (function, None, (argument,), {})
    return {
        "description": description,
        "data": isal_zlib.compress(orjson.dumps(call), _COMPRESSION_LEVEL),
    }


@cache
def _template(function: str) -> dict[str, Any]:
    """Return the fields common to all jobs of ``function``.

    They are as RQ writes them, without empty fields.
    """
    name, options = _OPTIONS[function]
    unconnected = Redis()
    job = queue(unconnected, name).create_job(function, result_ttl=0, **options)
    varying = {"created_at", "description", "data"}
    omitted = varying | _OMITTED_FIELDS
    fields = {name: value for name, value in job.to_dict().items() if value != "" and name not in omitted}
    return {name: str(value.value if isinstance(value, JobStatus) else value) for name, value in fields.items()}


@cache
def _enqueue_script() -> tuple[str, str]:
    """Return the script that enqueues a delivery, and its SHA-1."""
    common = ", ".join(f'"{name}", "{value}"' for name, value in _template(PROCESS_DELIVERY).items())
    script = _ENQUEUE_ONCE.replace("{common}", common)
    return script, hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _delivery_key(accepted: AcceptedDelivery) -> str:
    """Return the Redis key.

    18 of the hash's 32 bytes, 24 characters, are enough against collisions.
    """
    digest = base64.urlsafe_b64encode(hashlib.sha256(accepted.delivery_key.encode()).digest()[:18]).decode()
    return f"signalcraft:delivery:{accepted.workspace_id}:{accepted.source}:{digest}"


def _run_script(redis: Redis, keys: tuple[str, ...], values: tuple[Any, ...]) -> Any:  # noqa: ANN401 - Lua's reply
    script, sha1 = _enqueue_script()
    try:
        return run_idempotent(redis, "EVALSHA", sha1, len(keys), *keys, *values)
    except NoScriptError:  # Redis has just started; EVAL also loads the script
        return run_idempotent(redis, "EVAL", script, len(keys), *keys, *values)
