"""What we ask of Redis: to take a delivery in, once, and to say how much waits.

The jobs are RQ's own, so ``rq info``, rq-dashboard and a plain worker see them. Web and worker never share a
client: the web's must fail within the second that a sender waits, the worker's must sit in a blocking pop.
"""

import zlib
from collections.abc import Mapping
from typing import Any, Final

import orjson
from redis import Redis
from rq import Queue
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import PermanentError

ALERTS: Final = "alerts"
NOTIFICATIONS: Final = "notifications"
PROCESS_DELIVERY: Final = "signalcraft.tasks.process_delivery"
NOTIFY: Final = "signalcraft.tasks.notify"

#: Generous: a batch of the largest deliveries takes seconds.
JOB_TIMEOUT_SECONDS: Final = 120
#: How often a job is put back that was in hand when its worker died. Nothing else uses up a try.
MAX_RETRIES: Final = 5
#: How long RQ keeps a job that failed where we could not even set it aside.
FAILURE_TTL_SECONDS: Final = 30 * 86_400

#: The most that a job of ours is unpacked: a body of the largest MAX_BODY_BYTES there may be, each byte written as two
#: characters, and its headers. Somebody else's may be made to become gigabytes of a few megabytes.
MAX_DECOMPRESSED_BYTES: Final = 2 * 256 * 1024 * 1024 + 1024 * 1024
#: zlib makes at most so much of a byte.
_MAX_DEFLATE_RATIO: Final = 1032


class ForbiddenJob(PermanentError):  # noqa: N818 - reads as the errors of errors.py do
    """A job that we did not write: another function, a callback, a webhook or a dependency."""

    code = "job_forbidden"


class AllowedJob(Job):
    """A job that runs one of our own functions, and nothing else.

    A JSON serializer keeps code out of arguments, but a job also *names* the function that runs, its callbacks,
    webhooks and dependencies: whoever writes to Redis could name any. Callbacks and webhooks are dropped when a job
    is read back, so that RQ never gets to them; the job itself then fails by RQ's own path.
    """

    ALLOWED: Final = frozenset({PROCESS_DELIVERY, NOTIFY})

    def restore(self, raw_data: Mapping[bytes | str, Any]) -> None:
        """Read the fields back from Redis, without what our jobs do not have. What cannot be read is not ours."""
        bombs = [name for name in raw_data if name in _COMPRESSED_FIELDS and _is_bomb(raw_data[name])]
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
        function, instance, (argument,), _ = orjson.loads(_decompress(data))
        if function != PROCESS_DELIVERY or instance is not None:
            raise ForbiddenJob("the job runs a function that is not ours")
        return AcceptedDelivery.from_job_argument(argument)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError, zlib.error) as error:
        raise ForbiddenJob("the job's argument is not a delivery") from error


#: The fields of a job that RQ unpacks when it reads one.
_COMPRESSED_FIELDS: Final = frozenset({"data", "exc_info", b"data", b"exc_info"})


def _is_bomb(packed: bytes) -> bool:
    """Whether what RQ is about to unpack would be too much. What is too small for that is not looked at."""
    if len(packed) * _MAX_DEFLATE_RATIO <= MAX_DECOMPRESSED_BYTES:
        return False
    try:
        _decompress(packed)
    except zlib.error:  # RQ takes it as it is
        return False
    except ValueError:
        return True
    return False


def _decompress(packed: bytes) -> bytes:
    stream = zlib.decompressobj()
    unpacked = stream.decompress(packed, MAX_DECOMPRESSED_BYTES)
    if not stream.eof:
        raise ValueError("it ends early, or becomes too much")
    return unpacked


def queue(redis: Redis, name: str) -> Queue:
    """The queue ``name`` as we read and write it: JSON arguments, allow-listed jobs."""
    return Queue(name, connection=redis, serializer=JSONSerializer, job_class=AllowedJob)
