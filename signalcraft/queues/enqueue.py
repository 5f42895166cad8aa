"""Enqueue RQ jobs atomically: a delivery once, by one Lua script."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import chain
from types import MappingProxyType
from typing import Any, Final
from uuid import uuid4

import orjson
from isal import isal_zlib
from redis import Redis
from redis.exceptions import NoScriptError
from rq import Queue
from rq import Retry as JobRetry
from rq.job import Job, JobStatus
from rq.utils import utcformat

from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.queues.jobs import ALERTS, MAX_RETRIES, NOTIFICATIONS, NOTIFY, PROCESS_DELIVERY, queue
from signalcraft.queues.redis_clients import deadline, redis_errors_as_unavailable

#: How long a notification that nobody took or that failed is kept, in seconds.
NOTIFY_TTL_SECONDS: Final = 3600

#: In all: with a password and a database to select, a slow Redis would take that long for each.
_ENQUEUE_TIMEOUT_SECONDS: Final = 0.5

#: KEYS: delivery key, RQ's set of queues, the queue, the job. ARGV: delivery id, seconds, the job's fields that differ
#: from job to job. Those that all have alike stand in the script: redis-py takes 2 µs for each thing it sends.
#: The delivery key is set last: should a write before it be refused, nothing calls the next attempt a duplicate.
#: GET and SET instead of SET NX GET, which Redis has since 7.0 only; a script is alone anyway.
_ENQUEUE_ONCE = """
local first = redis.call("GET", KEYS[1])
if first then return first end
redis.call("SADD", KEYS[2], KEYS[3])
redis.call("HSET", KEYS[4], {same}, unpack(ARGV, 3))
redis.call("RPUSH", KEYS[3], ARGV[1])
redis.call("SET", KEYS[1], ARGV[1], "EX", ARGV[2])
return false
"""


#: ISA-L's level 1 takes 16 µs for a delivery of 6.5 kB where zlib's level 4 takes 43, for 147 bytes more of 2,500; its
#: best takes 26 for 75.
_COMPRESSION: Final = 1

_ALERTS_KEY: Final = Queue.redis_queue_namespace_prefix + ALERTS
_NOTIFICATIONS_KEY: Final = Queue.redis_queue_namespace_prefix + NOTIFICATIONS
#: Fields that we do not write, beside ``failure_ttl`` of a delivery's job: the last and that one are as ``AllowedJob``
#: has them where they are missing, and RQ does without the first. With the empty ones they took a third of what a
#: waiting job takes of Redis: 2.6 kB over its body.
_LEFT_OUT: Final = frozenset({"retry_intervals", "enqueued_at", "timeout", "result_ttl"})

#: The queue of each function, and what RQ is told of its jobs; the rest is as ``AllowedJob`` has it.
_OPTIONS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = MappingProxyType(
    {
        PROCESS_DELIVERY: (
            ALERTS,
            {"retry": JobRetry(max=MAX_RETRIES, enqueue_at_front=True)},  # older than all that waits
        ),
        NOTIFY: (NOTIFICATIONS, {"failure_ttl": NOTIFY_TTL_SECONDS, "ttl": NOTIFY_TTL_SECONDS}),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueResult:
    """Where a delivery is; ``delivery_id`` of a duplicate is that of the first with its delivery key."""

    is_duplicate: bool
    delivery_id: str


def enqueue_once(redis: Redis, accepted: AcceptedDelivery, *, ttl_seconds: int) -> EnqueueResult:
    """Put ``accepted`` on the queue, unless a delivery with its key was taken in within ``ttl_seconds``.

    One script, one round trip: the key without the job would lose the delivery, the job without the key would
    repeat it.

    Raises:
        QueueUnavailable: Redis is away, too slow, full or read-only. It may have taken the delivery nevertheless.
    """
    keys = (_delivery_key(accepted), Queue.redis_queues_keys, _ALERTS_KEY, Job.key_for(accepted.delivery_id))
    values = (accepted.delivery_id, ttl_seconds, *chain.from_iterable(_job_fields(accepted).items()))
    with redis_errors_as_unavailable(), deadline(_ENQUEUE_TIMEOUT_SECONDS):
        first = _run_script(redis, keys, values)
    return EnqueueResult(is_duplicate=first is not None, delivery_id=first.decode() if first else accepted.delivery_id)


def enqueue_notification(redis: Redis, notice: Mapping[str, Any], *, description: str) -> None:
    """Put ``notice`` on the queue of notifications.

    Raises:
        QueueUnavailable: Redis is away, too slow, full or read-only.
    """
    job_id = str(uuid4())
    key = Job.key_for(job_id)
    fields: Mapping[Any, Any] = _template(NOTIFY) | _fields(NOTIFY, notice, description)
    with redis_errors_as_unavailable(), redis.pipeline() as pipeline:
        pipeline.sadd(Queue.redis_queues_keys, _NOTIFICATIONS_KEY)
        pipeline.hset(key, mapping=fields)
        pipeline.expire(key, NOTIFY_TTL_SECONDS)
        pipeline.rpush(_NOTIFICATIONS_KEY, job_id)
        pipeline.execute()


def _job_fields(accepted: AcceptedDelivery) -> dict[str, Any]:
    return _fields(PROCESS_DELIVERY, accepted.as_job_argument(), f"{accepted.source} {accepted.resource}")


def _fields(function: str, argument: Mapping[str, Any], description: str) -> dict[str, Any]:
    """With ``_template``, what ``Queue.enqueue(function, argument, …)`` would write; tests compare.

    Going through RQ's objects for each job takes twice as long as serializing and compressing a delivery: so they are
    asked once, and what differs is filled in.
    """
    call: tuple[Any, ...] = (function, None, (argument,), {})
    return {
        "created_at": utcformat(datetime.now(UTC)),
        "description": description,
        "data": isal_zlib.compress(orjson.dumps(call), _COMPRESSION),
    }


@cache
def _template(function: str) -> dict[str, Any]:
    """The fields that all jobs of ``function`` have alike, in RQ's own words, without those that say nothing."""
    name, options = _OPTIONS[function]
    never_asked = Redis()
    job = queue(never_asked, name).create_job(function, result_ttl=0, **options)
    varying = {"created_at", "description", "data"}
    said = {name: value for name, value in job.to_dict().items() if value != "" and name not in varying | _LEFT_OUT}
    return {name: str(value.value if isinstance(value, JobStatus) else value) for name, value in said.items()}


@cache
def _enqueue_script() -> tuple[str, str]:
    """The script that takes a delivery in, and its SHA-1."""
    same = ", ".join(f'"{name}", "{value}"' for name, value in _template(PROCESS_DELIVERY).items())
    script = _ENQUEUE_ONCE.replace("{same}", same)
    return script, hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _delivery_key(accepted: AcceptedDelivery) -> str:
    """18 of the hash's 32 bytes: 24 characters, and still nobody finds two deliveries with one key."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(accepted.delivery_key.encode()).digest()[:18]).decode()
    return f"signalcraft:delivery:{accepted.workspace_id}:{accepted.source}:{digest}"


def _run_script(redis: Redis, keys: tuple[str, ...], values: tuple[Any, ...]) -> Any:  # noqa: ANN401 - Lua's answer
    script, sha1 = _enqueue_script()
    try:
        return redis.evalsha(sha1, len(keys), *keys, *values)
    except NoScriptError:  # a Redis that has just started; eval also loads it
        return redis.eval(script, len(keys), *keys, *values)
