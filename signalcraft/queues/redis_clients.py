"""Redis clients: for the web process, which must respond or fail in time, and for the worker, which waits.

Never share a client between the two: the web client must fail within the second that a sender waits, the worker's
client must sit in a blocking pop.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

import hiredis
from redis import ConnectionPool, Redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from signalcraft import greenlets
from signalcraft.domain.errors import QueueUnavailable
from signalcraft.queues.shared_connection import SharedConnection, deadline_at

#: No retries, and 0.5 s for connecting to and reading from a frozen server. Without a password, RESP2 and no driver
#: information make connecting free of round trips.
_WEB: Final[Mapping[str, Any]] = {
    "socket_connect_timeout": 0.2,
    "socket_timeout": 0.3,
    "retry": Retry(NoBackoff(), 0),
    "protocol": 2,
    "driver_info": None,
}
#: A read waits longer than RQ's blocking pop; an idle connection is pinged before use.
_WORKER: Final[Mapping[str, Any]] = {
    "socket_connect_timeout": 5,
    "socket_timeout": 60,
    "socket_keepalive": True,
    "health_check_interval": 15,
    "retry": Retry(ExponentialWithJitterBackoff(cap=1, base=0.1), 5, (RedisConnectionError, RedisTimeoutError)),
    "protocol": 2,
}

_WRITE_CHECK_KEY: Final = "signalcraft:written"


class _DeadlineConnection(AbstractConnection):
    """A connection that waits for no reply past the deadline of its caller."""

    def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - redis-py's
        """Read a reply within the time left until the deadline."""
        left = deadline_at.get() - time.monotonic()
        if left < _WEB["socket_timeout"]:
            options["timeout"] = max(0.001, left)
        return super().read_response(*args, **options)


def for_web(url: str) -> Redis:
    """Return a client for the web process.

    It fails after 0.5 s, and does not connect yet.
    """
    redis = Redis.from_url(url, **_WEB, **_tls(url))
    pool = redis.connection_pool
    pool.connection_class = type("DeadlineConnection", (_DeadlineConnection, pool.connection_class), {})
    return redis


def for_worker(url: str) -> Redis:
    """Return a client for the worker.

    It waits, checks connections and retries, and does not connect yet.
    """
    return Redis.from_url(url, **_WORKER, **_tls(url))


class _OwnConnections(threading.local):
    """The connections of this thread, and those that its loop shares, by the pool whose options they have."""

    def __init__(self) -> None:
        self.of_pool: WeakKeyDictionary[ConnectionPool, Any] = WeakKeyDictionary()
        self.shared: WeakKeyDictionary[ConnectionPool, SharedConnection] = WeakKeyDictionary()

    def forget(self) -> None:
        """Reset, as a forked process must: the connections are its parent's."""
        self.of_pool.clear()
        self.shared.clear()


_own: Final = _OwnConnections()
os.register_at_fork(after_in_child=_own.forget)


def run_idempotent(redis: Redis, *command: Any) -> Any:  # noqa: ANN401 - as redis-py's
    """Run ``command`` on a connection that this thread keeps, or that the requests of its loop share.

    ``redis`` itself would take one from its pool, poll it, and hand it back. Here a connection that Redis has closed is
    found out by its error, and the command, which may have run already, is sent once more on another one.

    Raises:
        RedisError: as from ``redis``.
    """
    pool, packed = redis.connection_pool, hiredis.pack_command(command)
    request = greenlets.running()
    if request is None:
        return _run_on_own(pool, packed)
    shared = _own.shared.get(pool)
    if shared is None:
        shared = SharedConnection(request.loop, pool, timeout_seconds=_WEB["socket_timeout"])
        _own.shared[pool] = shared
    try:
        return shared.run(request, packed)
    except RedisConnectionError:
        return greenlets.run_blocking(partial(_run_on_own, pool, packed))


def _run_on_own(pool: ConnectionPool, packed: bytes) -> Any:  # noqa: ANN401 - as redis-py's
    connection = _own.of_pool.get(pool) or _own.of_pool.setdefault(pool, pool.make_connection())
    was_open = connection.is_connected
    try:
        connection.send_packed_command([packed])
        return connection.read_response()
    except RedisConnectionError:
        if not was_open:
            raise
    connection.send_packed_command([packed])
    return connection.read_response()


def _tls(url: str) -> dict[str, Any]:
    """Return the TLS options for ``url``.

    On platforms such as Heroku Redis has a self-signed certificate, which cannot be verified:
    https://devcenter.heroku.com/articles/connecting-heroku-redis. ``?ssl_cert_reqs=required`` in the URL wins.
    """
    return {"ssl_cert_reqs": "none", "ssl_check_hostname": False} if url.startswith("rediss://") else {}


def check_writable(redis: Redis) -> None:
    """Check that Redis accepts writes.

    A full Redis or a replica responds to pings only.

    Raises:
        QueueUnavailable: it does not.
    """
    with redis_errors_as_unavailable():
        redis.set(_WRITE_CHECK_KEY, "1", ex=60)


def server_version(redis: Redis) -> str:
    """Return Redis's version.

    Raises:
        QueueUnavailable: Redis is unavailable.
    """
    with redis_errors_as_unavailable():
        information: Any = redis.info("server")
    return str(information["redis_version"])


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Limit the block's total wait for its Redis replies."""
    token = deadline_at.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        deadline_at.reset(token)


@contextmanager
def redis_errors_as_unavailable() -> Iterator[None]:
    """Raise any Redis error of the block as QueueUnavailable."""
    try:
        yield
    except RedisError as error:
        raise QueueUnavailable(reason(error)) from error


def reason(error: RedisError) -> str:
    """Return the first line of Redis's message, without the arguments that it may quote."""
    return str(error).partition("\n")[0].partition(", with args")[0] or type(error).__name__
