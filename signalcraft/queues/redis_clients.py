"""Two ways to reach Redis: the web process's, which answers in time or fails, and the worker's, which waits.

Never share a client between the two.
"""

import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from signalcraft.domain.errors import QueueUnavailable

#: No retries, and 0.5 s in all: connecting and then reading from a server that is frozen. Without a password,
#: RESP2 and no driver information make connecting free of round trips.
_WEB: Mapping[str, Any] = MappingProxyType(
    {
        "socket_connect_timeout": 0.2,
        "socket_timeout": 0.3,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,
    }
)
#: A read waits longer than RQ's blocking pop does; a connection that idled is pinged before it is used.
_WORKER: Mapping[str, Any] = MappingProxyType(
    {
        "socket_connect_timeout": 5,
        "socket_timeout": 60,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry": Retry(ExponentialWithJitterBackoff(cap=2, base=0.1), 5, (RedisConnectionError, RedisTimeoutError)),
        "protocol": 2,
    }
)

_WRITTEN: Final = "signalcraft:written"


class _Deadline(threading.local):
    """When the answers that this thread waits for are due, on the monotonic clock."""

    at = math.inf


_current_deadline: Final = _Deadline()


class _InTime(AbstractConnection):
    """A connection that waits for no answer past the thread's deadline."""

    def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - redis-py's
        """Read an answer; what is left until the deadline is the most that it may take."""
        left = _current_deadline.at - time.monotonic()
        if left < _WEB["socket_timeout"]:
            options["timeout"] = max(0.001, left)
        return super().read_response(*args, **options)


def for_web(url: str) -> Redis:
    """A client for the web process: it answers within 0.5 s, or fails. Connects to nothing yet."""
    redis = Redis.from_url(url, **_WEB, **_tls(url))
    pool = redis.connection_pool
    pool.connection_class = type("InTime", (_InTime, pool.connection_class), {})
    return redis


def for_worker(url: str) -> Redis:
    """A client for the worker: it waits, checks and tries again. Connects to nothing yet."""
    return Redis.from_url(url, **_WORKER, **_tls(url))


def _tls(url: str) -> dict[str, Any]:
    """Platforms such as Heroku give Redis a self-signed certificate: encrypted, and not verifiable.

    https://devcenter.heroku.com/articles/connecting-heroku-redis. ``?ssl_cert_reqs=required`` in the URL wins.
    """
    return {"ssl_cert_reqs": "none", "ssl_check_hostname": False} if url.startswith("rediss://") else {}


def check_writable(redis: Redis) -> None:
    """See whether Redis takes writes: one that is full or a replica answers pings all the same.

    Raises:
        QueueUnavailable: it does not.
    """
    with redis_errors_as_unavailable():
        redis.set(_WRITTEN, "1", ex=60)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """All answers that the block waits for are due within so many seconds together."""
    _current_deadline.at = time.monotonic() + seconds
    try:
        yield
    finally:
        _current_deadline.at = math.inf


@contextmanager
def redis_errors_as_unavailable() -> Iterator[None]:
    """Whatever is wrong with Redis in the block, raise it as QueueUnavailable."""
    try:
        yield
    except RedisError as error:
        raise QueueUnavailable(type(error).__name__) from error
