"""What we ask of Redis: to take a delivery in, once, and to say how much waits.

The jobs are RQ's own, so ``rq info``, rq-dashboard and a plain worker see them. Web and worker never share a
client: the web's must fail within the second that a sender waits, the worker's must sit in a blocking pop.
"""

import base64
import hashlib
import zlib
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
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.utils import utcformat
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from signalcraft.connections import away_as_unavailable, within
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import PermanentError

ALERTS: Final = "alerts"
NOTIFICATIONS: Final = "notifications"
PROCESS_DELIVERY: Final = "signalcraft.tasks.process_delivery"
NOTIFY: Final = "signalcraft.tasks.notify"

#: Generous: a batch of the largest deliveries takes seconds.
JOB_TIMEOUT_SECONDS: Final = 120
#: How often a job is put back that was in hand when its worker died. Nothing else uses up a try.
MOST_RETRIES: Final = 5
#: How long a notification that nobody took or that failed is kept, in seconds.
NOTIFY_TTL_SECONDS: Final = 3600
#: How long RQ keeps a job that failed where we could not even set it aside.
FAILURE_TTL_SECONDS: Final = 30 * 86_400

#: In all: with a password and a database to select, a slow Redis would take that long for each.
_TAKE_IN_SECONDS: Final = 0.5

#: KEYS: delivery key, RQ's set of queues, the queue, the job. ARGV: delivery id, seconds, the job's fields that differ
#: from job to job. Those that all have alike stand in the script: redis-py takes 2 µs for each thing it sends.
#: The delivery key is set last: should a write before it be refused, nothing calls the next attempt a duplicate.
#: GET and SET instead of SET NX GET, which Redis has since 7.0 only; a script is alone anyway.
_TAKE_IN = """
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

#: The most that a job of ours is unpacked: a body of the largest MAX_BODY_BYTES there may be, each byte written as two
#: characters, and its headers. Somebody else's may be made to become gigabytes of a few megabytes.
MOST_UNPACKED: Final = 2 * 256 * 1024 * 1024 + 1024 * 1024
#: zlib makes at most so much of a byte.
_MOST_OF_A_BYTE: Final = 1032

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
            {"retry": JobRetry(max=MOST_RETRIES, enqueue_at_front=True)},  # older than all that waits
        ),
        NOTIFY: (NOTIFICATIONS, {"failure_ttl": NOTIFY_TTL_SECONDS, "ttl": NOTIFY_TTL_SECONDS}),
    }
)


class ForbiddenJob(PermanentError):  # noqa: N818 - reads as the errors of errors.py do
    """A job that we did not write: another function, a callback, a webhook or a dependency."""

    code = "job_forbidden"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenIn:
    """``delivery_id`` is this delivery's if it is ``fresh``, else that of the first with its delivery key."""

    fresh: bool
    delivery_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How many jobs wait, and since when the oldest of them does; None where none waits."""

    depth: int
    oldest_created_at: datetime | None


class AllowedJob(Job):
    """A job that runs one of our own functions, and nothing else.

    A JSON serializer keeps code out of arguments, but a job also *names* the function that runs, its callbacks,
    webhooks and dependencies: whoever writes to Redis could name any. Callbacks and webhooks are dropped when a job
    is read back, so that RQ never gets to them; the job itself then fails by RQ's own path.
    """

    ALLOWED: Final = frozenset({PROCESS_DELIVERY, NOTIFY})

    def restore(self, raw_data: Mapping[bytes | str, Any]) -> None:
        """Read the fields back from Redis, without what our jobs do not have. What cannot be read is not ours."""
        bombs = [name for name in raw_data if name in _PACKED and _is_bomb(raw_data[name])]
        unreadable = bool(bombs)
        try:
            super().restore({**raw_data, **dict.fromkeys(bombs, b"")})
        except NoSuchJobError:
            raise
        except Exception:  # noqa: BLE001 - RQ and what it reads with raise of all kinds
            unreadable = True  # raised, it would end the worker, and whatever else it has in hand would wait
        self.enqueued_at = self.enqueued_at or self.created_at
        self.timeout = self.timeout or JOB_TIMEOUT_SECONDS
        self.result_ttl = self.result_ttl or 0
        self.failure_ttl = self.failure_ttl or FAILURE_TTL_SECONDS
        self._extras = bool(
            unreadable
            or self._success_callback_name
            or self._failure_callback_name
            or self._stopped_callback_name
            or self.webhooks
            or self._dependency_ids
        )
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.webhooks = []
        self._dependency_ids = []
        self.retry_intervals = None  # ours have none; by one that is no list, maintenance would end each worker

    def check(self) -> None:
        """Make sure that the job is one of ours.

        Raises:
            ForbiddenJob: it is not.
        """
        if getattr(self, "_extras", False):
            raise ForbiddenJob("the job has a callback, a webhook or a dependency, or cannot be read")
        try:
            ours = self.instance is None and self.func_name in self.ALLOWED
        except DeserializationError as error:
            raise ForbiddenJob("the job cannot be read") from error
        if not ours:
            raise ForbiddenJob("the job runs a function that is not ours")

    @property
    def func(self) -> Any:  # noqa: ANN401 - RQ's signature
        """The function to run.

        Raises:
            ForbiddenJob: it is not one of ours.
        """
        self.check()
        return super().func


def read_delivery(data: bytes) -> AcceptedDelivery:
    """What a job of ``process_delivery`` carries, read from RQ's compressed ``data`` without the rest of the job.

    Raises:
        ForbiddenJob: it is the data of another job, or of none.
    """
    try:
        function, instance, (argument,), _ = orjson.loads(_unpack(data))
        if function != PROCESS_DELIVERY or instance is not None:
            raise ForbiddenJob("the job runs a function that is not ours")
        return AcceptedDelivery.from_job_argument(argument)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError, zlib.error) as error:
        raise ForbiddenJob("the job's argument is not a delivery") from error


#: The fields of a job that RQ unpacks when it reads one.
_PACKED: Final = frozenset({"data", "exc_info", b"data", b"exc_info"})


def _is_bomb(packed: bytes) -> bool:
    """Whether what RQ is about to unpack would be too much. What is too small for that is not looked at."""
    if len(packed) * _MOST_OF_A_BYTE <= MOST_UNPACKED:
        return False
    try:
        _unpack(packed)
    except zlib.error:  # RQ takes it as it is
        return False
    except ValueError:
        return True
    return False


def _unpack(packed: bytes) -> bytes:
    stream = zlib.decompressobj()
    unpacked = stream.decompress(packed, MOST_UNPACKED)
    if not stream.eof:
        raise ValueError("it ends early, or becomes too much")
    return unpacked


def queue(redis: Redis, name: str) -> Queue:
    """The queue ``name`` as we read and write it: JSON arguments, allow-listed jobs."""
    return Queue(name, connection=redis, serializer=JSONSerializer, job_class=AllowedJob)


def take_in(redis: Redis, accepted: AcceptedDelivery, *, ttl_seconds: int) -> TakenIn:
    """Put ``accepted`` on the queue, unless a delivery with its key was taken in within ``ttl_seconds``.

    One script, one round trip: the key without the job would lose the delivery, the job without the key would
    repeat it.

    Raises:
        QueueUnavailable: Redis is away, too slow, full or read-only. It may have taken the delivery nevertheless.
    """
    keys = (_delivery_key(accepted), Queue.redis_queues_keys, _ALERTS_KEY, Job.key_for(accepted.delivery_id))
    values = (accepted.delivery_id, ttl_seconds, *chain.from_iterable(_job_fields(accepted).items()))
    with away_as_unavailable(), within(_TAKE_IN_SECONDS):
        first = _run_script(redis, keys, values)
    return TakenIn(fresh=first is None, delivery_id=accepted.delivery_id if first is None else first.decode())


def notify(redis: Redis, notice: Mapping[str, Any], *, description: str) -> None:
    """Put ``notice`` on the queue of notifications.

    Raises:
        QueueUnavailable: Redis is away, too slow, full or read-only.
    """
    job_id = str(uuid4())
    key = Job.key_for(job_id)
    fields: Mapping[Any, Any] = _template(NOTIFY) | _fields(NOTIFY, notice, description)
    with away_as_unavailable(), redis.pipeline() as pipeline:
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
def _take_in_script() -> tuple[str, str]:
    """The script that takes a delivery in, and its SHA-1."""
    same = ", ".join(f'"{name}", "{value}"' for name, value in _template(PROCESS_DELIVERY).items())
    script = _TAKE_IN.replace("{same}", same)
    return script, hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _delivery_key(accepted: AcceptedDelivery) -> str:
    """18 of the hash's 32 bytes: 24 characters, and still nobody finds two deliveries with one key."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(accepted.delivery_key.encode()).digest()[:18]).decode()
    return f"signalcraft:delivery:{accepted.workspace_id}:{accepted.source}:{digest}"


def _run_script(redis: Redis, keys: tuple[str, ...], values: tuple[Any, ...]) -> Any:  # noqa: ANN401 - Lua's answer
    script, sha1 = _take_in_script()
    try:
        return redis.evalsha(sha1, len(keys), *keys, *values)
    except NoScriptError:  # a Redis that has just started; eval also loads it
        return redis.eval(script, len(keys), *keys, *values)


def backlog(redis: Redis, name: str) -> Backlog:
    """How much waits on the queue ``name``.

    Raises:
        QueueUnavailable: Redis is away or too slow.
    """
    waiting = queue(redis, name)
    with away_as_unavailable():
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
    with away_as_unavailable():
        workers: Any = redis.smembers(WORKERS_BY_QUEUE_KEY % name)
        beats: Any = [redis.hget(worker, "last_heartbeat") for worker in workers]
    return max((datetime.fromisoformat(beat.decode()) for beat in beats if beat), default=None)
