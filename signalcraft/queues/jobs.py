"""RQ queues and jobs: names, limits, and the job class that runs only allow-listed functions.

Jobs are ordinary RQ jobs, so ``rq info``, rq-dashboard and a plain worker see them.
"""

import re
import zlib
from collections.abc import Mapping
from typing import Any, Final

import orjson
from isal import isal_zlib
from redis import Redis
from redis.exceptions import ResponseError
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

#: A job id of RQ, as it is in Redis.
JOB_ID: Final = re.compile(rb"[A-Za-z0-9_-]+")

#: A batch of the largest deliveries takes seconds.
JOB_TIMEOUT_SECONDS: Final = 120
#: RQ's TTL of an idle worker's key. A pop of RQ blocks for 15 s less, and maintenance runs between two pops.
WORKER_TTL_SECONDS: Final = 23
#: How often a job is requeued after its worker died while processing it. Nothing else consumes a retry.
MAX_RETRIES: Final = 5
#: How long RQ keeps a failed job that could not be dead-lettered.
FAILURE_TTL_SECONDS: Final = 30 * 86_400

#: Size limit of a decompressed job: a body of the largest allowed MAX_BODY_BYTES with each byte written as two
#: characters, plus headers. A planted job of a few megabytes could decompress to gigabytes.
MAX_DECOMPRESSED_BYTES: Final = 2 * 256 * 1024 * 1024 + 1024 * 1024
#: Maximum compression ratio of zlib: https://zlib.net/zlib_tech.html.
_MAX_DEFLATE_RATIO: Final = 1032


class ForbiddenJob(PermanentError):  # noqa: N818 - reads as the errors of errors.py do
    """The job is not ours: another function, a callback, a webhook or a dependency."""

    code = "job_forbidden"


class AllowedJob(Job):
    """A job that runs one of our own functions, and nothing else.

    A JSON serializer keeps code out of arguments, but a job also *names* the function that runs, its callbacks,
    webhooks and dependencies: a client that can write to Redis could name any. Callbacks and webhooks are dropped
    when a job is read, so RQ never runs them; the job itself then fails by RQ's own path.
    """

    ALLOWED: Final = frozenset({PROCESS_DELIVERY, NOTIFY})

    def refresh(self) -> None:
        """Read the job from Redis.

        Raises:
            NoSuchJobError: there is none; a key of another type is none.
        """
        try:
            super().refresh()  # type: ignore[no-untyped-call] # RQ's
        except ResponseError as error:
            raise NoSuchJobError(self.key) from error

    def restore(self, raw_data: Mapping[bytes | str, Any]) -> None:
        """Read only the fields of our jobs from Redis.

        Unreadable jobs are marked as forbidden.
        """
        bombs = [name for name in raw_data if name in _COMPRESSED_FIELDS and _is_bomb(raw_data[name])]
        unreadable = bool(bombs)
        try:
            super().restore({**raw_data, **dict.fromkeys(bombs, b"")})
        except NoSuchJobError:
            raise
        except Exception:  # noqa: BLE001 - RQ and its libraries raise many types
            unreadable = True  # raising would end the worker, and its other claimed jobs would wait
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
        self.retry_intervals = None  # ours have none; a value that is not a list would end every worker in maintenance

    def check(self) -> None:
        """Check that the job is ours.

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
        """Function that the job runs.

        Raises:
            ForbiddenJob: it is not one of ours.
        """
        self.check()
        return super().func


_IsalError: type[Exception] = isal_zlib.error  # type: ignore[assignment] # the stubs have an instance


def read_delivery(data: bytes) -> AcceptedDelivery:
    """Return the delivery in a job's ``data``, RQ's compressed JSON.

    Raises:
        ForbiddenJob: it is not the data of a ``process_delivery`` job.
    """
    try:
        function, instance, (argument,), _ = orjson.loads(_decompress(isal_zlib.decompressobj(), data))
        if function != PROCESS_DELIVERY or instance is not None:
            raise ForbiddenJob("the job runs a function that is not ours")
        return AcceptedDelivery.from_job_argument(argument)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError, _IsalError) as error:
        raise ForbiddenJob("the job's argument is not a delivery") from error


#: The fields that RQ decompresses when it reads a job.
_COMPRESSED_FIELDS: Final = frozenset({"data", "exc_info", b"data", b"exc_info"})


def _is_bomb(packed: bytes) -> bool:
    """Return whether RQ would decompress too much.

    Values too small for that are not decompressed.
    """
    if len(packed) * _MAX_DEFLATE_RATIO <= MAX_DECOMPRESSED_BYTES:
        return False
    try:
        _decompress(zlib.decompressobj(), packed)
    except zlib.error:  # RQ uses such a value as it is
        return False
    except ValueError:
        return True
    return False


def _decompress(stream: Any, packed: bytes) -> bytes:  # noqa: ANN401 - of either library
    decompressed: bytes = stream.decompress(packed, MAX_DECOMPRESSED_BYTES)
    if not stream.eof:
        raise ValueError("truncated or too large")
    return decompressed


def queue(redis: Redis, name: str) -> Queue:
    """Return the queue ``name`` with JSON arguments and allow-listed jobs."""
    return Queue(name, connection=redis, serializer=JSONSerializer, job_class=AllowedJob)
