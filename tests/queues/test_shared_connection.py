"""Many requests of a loop on one connection: each gets its reply, and none waits for a broken Redis."""

import contextlib
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from signalcraft.dev.embedded_servers import Servers, servers
from signalcraft.queues import redis_clients, shared_connection
from signalcraft.queues.redis_clients import deadline, run_idempotent
from tests.support.loop_thread import LoopThread, loop_thread
from tests.support.mail_server import self_signed


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    with loop_thread() as running:
        yield running


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for two seconds: longer than a turn of the loop may last that does not wait."""
    timeouts = {"socket_timeout": 2.0, "socket_connect_timeout": 2.0}
    monkeypatch.setattr(redis_clients, "_WEB", {**redis_clients._WEB, **timeouts})


@pytest.fixture
def web_redis(clean_redis: Redis, redis_url: str) -> Iterator[Redis]:  # noqa: ARG001 - for that it is clean
    with redis_clients.for_web(redis_url) as client:
        yield client


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers that only this file freezes and kills."""
    with servers(tmp_path_factory.mktemp("own"), durable=False) as running:
        yield running


def clients(redis: Redis) -> set[str]:
    """Return the addresses of all clients but this one."""
    own = redis.client_id()
    return {one["addr"] for one in redis.client_list() if int(one["id"]) != own}


def _shared(redis: Redis) -> Any:  # noqa: ANN401 - of the loop's thread, so from within it
    return redis_clients._own.shared[redis.connection_pool]


def results(futures: "list[Future[object]]") -> list[object]:
    return [future.exception(10) or future.result() for future in futures]


def test_each_of_a_thousand_commands_gets_its_own_reply(loop: LoopThread, web_redis: Redis, clean_redis: Redis) -> None:
    loop.share(web_redis)
    before = clients(clean_redis)
    echoes = [partial(run_idempotent, web_redis, "ECHO", str(number)) for number in range(1_000)]
    assert results(loop.serve(*echoes)) == [str(number).encode() for number in range(1_000)]
    assert clients(clean_redis) == before


def test_an_error_is_raised_for_its_command_alone(loop: LoopThread, web_redis: Redis) -> None:
    loop.share(web_redis)
    commands: list[tuple[str, ...]] = [("ECHO", "a"), ("LPOP",), ("EVALSHA", "0" * 40, "0"), ("ECHO", "b")]
    first, wrong, unknown, last = results(loop.serve(*(partial(run_idempotent, web_redis, *one) for one in commands)))
    assert (first, last) == (b"a", b"b")
    assert isinstance(wrong, ResponseError)
    assert type(unknown).__name__ == "NoScriptError"


def test_commands_over_the_bound_go_over_connections_of_their_own(
    loop: LoopThread, web_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.share(web_redis)
    monkeypatch.setattr(shared_connection, "MAX_UNANSWERED_BYTES", 100)
    echoes = [partial(run_idempotent, web_redis, "ECHO", f"{number:060}") for number in range(5)]
    assert results(loop.serve(*echoes)) == [f"{number:060}".encode() for number in range(5)]


def test_a_connection_that_redis_closes_costs_no_command_and_is_opened_again(
    loop: LoopThread, web_redis: Redis, clean_redis: Redis
) -> None:
    loop.share(web_redis)
    for addr in clients(clean_redis):
        clean_redis.client_kill(addr)
    assert set(results(loop.serve(*[partial(run_idempotent, web_redis, "INCR", "n")] * 20))) == set(range(1, 21))
    loop.share(web_redis)


def test_a_connection_that_closes_between_command_and_reply_costs_no_command(
    loop: LoopThread, web_redis: Redis, clean_redis: Redis
) -> None:
    loop.share(web_redis)

    def kill_and_ask() -> object:
        assert _shared(web_redis)._socket is not None
        clean_redis.client_kill_filter(_type="normal", skipme=True)
        return run_idempotent(web_redis, "SET", "key", "kept")

    assert results(loop.serve(kill_and_ask, partial(run_idempotent, web_redis, "SET", "other", "kept"))) == [b"OK"] * 2
    assert clean_redis.mget("key", "other") == [b"kept", b"kept"]


def test_a_connection_that_breaks_while_the_loop_is_busy_does_not_end_the_loop(
    loop: LoopThread, web_redis: Redis, clean_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one turn a command finds it broken, and then the loop comes to what it polled before: that it can be read."""
    monkeypatch.setattr(shared_connection, "REOPEN_INTERVAL_SECONDS", 0.0)
    loop.share(web_redis)
    busy, broken = threading.Event(), threading.Event()
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def keep_busy() -> None:
            ours.recv(1)
            busy.set()
            broken.wait(5)

        loop.loop.call_soon_threadsafe(lambda: loop.loop.add_reader(ours, keep_busy))
        theirs.send(b"x")
        assert busy.wait(5)
        commands = loop.serve(*[partial(run_idempotent, web_redis, "INCR", "n")] * 3)
        for addr in clients(clean_redis):
            clean_redis.client_kill(addr)
        broken.set()
        assert set(results(commands)) == {1, 2, 3}
        loop.loop.call_soon_threadsafe(lambda: loop.loop.remove_reader(ours))
        loop.share(web_redis)


def test_while_redis_is_frozen_each_command_ends_in_time_and_the_loop_never_waits(
    loop: LoopThread, own_servers: Servers
) -> None:
    def ask() -> float:
        began = time.monotonic()
        with pytest.raises(RedisError), deadline(2.5):
            run_idempotent(redis, "ECHO", "x" * 3_000)
        return time.monotonic() - began

    with redis_clients.for_web(own_servers.redis_url) as redis:
        loop.share(redis)
        own_servers.redis.freeze()
        try:
            with loop.watched():
                took = [future.result(10) for future in loop.serve(*[ask] * 30)]
        finally:
            own_servers.redis.thaw()
        assert all(seconds >= 2 for seconds in took)
        assert loop.longest_turn < 1
        loop.share(redis)


def test_a_command_that_the_kernel_does_not_take_holds_up_no_other(
    loop: LoopThread, own_servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_connection, "MAX_UNANSWERED_BYTES", 100_000_000)
    with redis_clients.for_web(own_servers.redis_url) as redis:
        loop.share(redis)
        own_servers.redis.freeze()
        try:
            with loop.watched():
                (error,) = results(loop.serve(partial(run_idempotent, redis, "ECHO", "x" * 20_000_000)))
        finally:
            own_servers.redis.thaw()
        assert isinstance(error, RedisError)
        assert loop.longest_turn < 1


def test_the_first_command_that_gets_no_reply_in_time_says_so(loop: LoopThread, own_servers: Servers) -> None:
    with redis_clients.for_web(own_servers.redis_url) as redis:
        loop.share(redis)
        own_servers.redis.freeze()
        try:
            (error,) = results(loop.serve(partial(run_idempotent, redis, "PING")))
        finally:
            own_servers.redis.thaw()
        assert isinstance(error, RedisTimeoutError)


def test_while_redis_is_away_commands_fail_at_once_and_the_connection_is_not_opened_for_each(
    loop: LoopThread, own_servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[float] = []
    connect: Callable[..., Any] = shared_connection.SharedConnection._connect

    def count(shared: shared_connection.SharedConnection) -> Any:  # noqa: ANN401 - as the original
        opened.append(time.monotonic())
        return connect(shared)

    with redis_clients.for_web(own_servers.redis_url) as redis:
        loop.share(redis)
        monkeypatch.setattr(shared_connection.SharedConnection, "_connect", count)
        own_servers.redis.kill()
        try:
            began = time.monotonic()
            errors = [
                result
                for _ in range(10)
                for result in results(loop.serve(*[partial(run_idempotent, redis, "PING")] * 10))
            ]
            took = time.monotonic() - began
        finally:
            own_servers.redis.start()
        assert all(isinstance(error, RedisError) for error in errors)
        assert len(opened) <= 2 + took
        loop.share(redis)


@pytest.mark.parametrize(
    "reply",
    [b"$100\r\nhalf", b"-MOVED\r\n", b"?\r\n", b"+OK\r\n+OK\r\n"],
    ids=["half", "no address", "no RESP", "two for one"],
)
def test_whatever_comes_instead_of_a_reply_the_loop_neither_waits_nor_ends(
    loop: LoopThread, web_redis: Redis, monkeypatch: pytest.MonkeyPatch, reply: bytes
) -> None:
    """And no later command gets what is left of it."""
    monkeypatch.setattr(shared_connection, "REOPEN_INTERVAL_SECONDS", 0.0)
    loop.share(web_redis)
    server, ours = socket.socketpair()

    def take_over() -> None:
        """Let ``server`` be Redis on the shared connection."""
        shared = _shared(web_redis)
        loop.loop.remove_reader(shared._socket)
        os.dup2(ours.fileno(), shared._socket.fileno())
        loop.loop.add_reader(shared._socket, shared._receive)

    with server, ours:
        server.settimeout(5)
        loop.loop.call_soon_threadsafe(take_over)
        command = loop.serve(partial(run_idempotent, web_redis, "ECHO", "a"))
        assert server.recv(65_536)
        with loop.watched():
            server.sendall(reply)
            results(command)
            assert results(loop.serve(partial(run_idempotent, web_redis, "ECHO", "b"))) == [b"b"]
        assert loop.longest_turn < 1
    loop.share(web_redis)


def test_a_connection_may_be_opened_more_often_than_its_pool_may_have_connections(
    loop: LoopThread, web_redis: Redis, clean_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One attempt a second of an outage: after 100 the pool had no more, and the web process ended."""
    monkeypatch.setattr(shared_connection, "REOPEN_INTERVAL_SECONDS", 0.0)
    web_redis.connection_pool.max_connections = 8  # the loop's, and one for each thread
    for _ in range(20):
        loop.share(web_redis)
        for addr in clients(clean_redis):
            clean_redis.client_kill(addr)
    assert results(loop.serve(partial(run_idempotent, web_redis, "ECHO", "a"))) == [b"a"]
    loop.share(web_redis)


def test_commands_go_to_the_database_of_the_url(loop: LoopThread, own_servers: Servers) -> None:
    url = f"{own_servers.redis_url}/3"
    with redis_clients.for_web(url) as redis, Redis.from_url(url) as third:
        loop.share(redis)
        assert results(loop.serve(partial(run_idempotent, redis, "SET", "in", "3"))) == [b"OK"]
        assert third.get("in") == b"3"


class _Tunnel(socketserver.BaseRequestHandler):
    """Passes on what comes encrypted, as Redis with TLS would read it, and encrypts its replies."""

    def handle(self) -> None:
        server: Any = self.server
        with (
            contextlib.suppress(OSError),
            server.context.wrap_socket(self.request, server_side=True) as client,
            socket.create_connection(server.target) as redis,
        ):
            threading.Thread(target=_copy, args=(redis, client), daemon=True).start()
            _copy(client, redis)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65_536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_RDWR)


def test_over_tls_each_command_gets_its_own_reply_too(loop: LoopThread, own_servers: Servers, tmp_path: Path) -> None:
    target = urlsplit(own_servers.redis_url)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Tunnel) as tunnel:
        tunnel.daemon_threads = True
        tunnel.context = self_signed(tmp_path, "127.0.0.1")  # type: ignore[attr-defined]
        tunnel.target = (target.hostname, target.port)  # type: ignore[attr-defined]
        threading.Thread(target=tunnel.serve_forever, daemon=True).start()
        url = f"rediss://:{target.password}@127.0.0.1:{tunnel.server_address[1]}"
        with redis_clients.for_web(url) as redis:
            loop.share(redis)
            echoes = [partial(run_idempotent, redis, "ECHO", f"{number:030}") for number in range(1_000)]
            assert results(loop.serve(*echoes)) == [f"{number:030}".encode() for number in range(1_000)]
        tunnel.shutdown()
