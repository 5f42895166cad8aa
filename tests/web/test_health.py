"""``/readyz``: the state of each component, within a second, whatever hangs."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.fernet import Fernet
from flask.testing import FlaskClient
from redis import Redis
from rq.utils import utcformat

from signalcraft import tasks
from signalcraft.dev import embedded_servers, server_process
from signalcraft.ingest import context
from signalcraft.queues import enqueue, jobs
from signalcraft.settings import Settings
from signalcraft.storage import tenants
from signalcraft.storage.database import database, session
from signalcraft.worker.batch_worker import BatchWorker
from tests.support.builders import accepted
from tests.support.stopwatch import stopwatch
from tests.support.waiting import wait_until
from tests.support.web_client import no_database, web

COMPONENTS = ("redis", "postgresql", "queue", "worker", "secrets", "receivers")


@contextmanager
def application(environ: Mapping[str, str], **changes: str) -> Iterator[FlaskClient]:
    """A client of an application that closes its connections at the end."""
    client = web(environ, **changes)
    yield client
    with client.application.app_context():
        context.current().redis.close()


@pytest.fixture
def client(environ: dict[str, str]) -> Iterator[FlaskClient]:
    with application(environ) as client:
        yield client


@pytest.fixture
def worker(clean_redis: Redis, settings: Settings) -> BatchWorker:
    """A registered worker that does not run."""
    tasks.configure_worker(settings, clean_redis)
    worker = BatchWorker(jobs.ALERTS, connection=clean_redis, stages=tasks.processor(), batch_size=10)
    worker.register_birth()
    return worker


@contextmanager
def frozen(*frozen_servers: server_process.Server) -> Iterator[None]:
    for server in frozen_servers:
        server.freeze()
    try:
        yield
    finally:
        for server in frozen_servers:
            server.thaw()


def ask(client: FlaskClient) -> tuple[int, dict[str, Any]]:
    response = client.get("/readyz")
    return response.status_code, response.get_json()


def states(client: FlaskClient) -> dict[str, str]:
    _, body = ask(client)
    return {name: body[name]["state"] for name in COMPONENTS}


def age_heartbeat(worker: BatchWorker, seconds: float) -> None:
    worker.heartbeat()
    left_ms: Any = worker.connection.pttl(worker.key)
    worker.connection.pexpire(worker.key, int(left_ms - seconds * 1000))


@pytest.mark.usefixtures("worker")
def test_it_is_ready_when_every_component_works_and_each_reports_its_duration(client: FlaskClient) -> None:
    began = time.monotonic()
    status, body = ask(client)
    took_ms = (time.monotonic() - began) * 1000
    assert (status, body["status"]) == (200, "ok")
    for name in COMPONENTS:
        assert body[name]["state"] == "ok"
        assert 0 < body[name]["ms"] < took_ms


def test_it_is_not_ready_without_a_worker(client: FlaskClient) -> None:
    status, body = ask(client)
    assert (status, body["status"], body["worker"]["state"]) == (503, "unavailable", "missing")


def test_a_worker_without_a_recent_heartbeat_is_missing(client: FlaskClient, worker: BatchWorker) -> None:
    age_heartbeat(worker, 44)
    assert states(client)["worker"] == "ok"
    age_heartbeat(worker, 46)
    assert states(client)["worker"] == "missing"


def test_one_living_worker_is_enough(client: FlaskClient, clean_redis: Redis, worker: BatchWorker) -> None:
    age_heartbeat(worker, 300)
    other = BatchWorker(jobs.ALERTS, connection=clean_redis, stages=tasks.processor(), batch_size=10)
    other.register_birth()
    assert states(client)["worker"] == "ok"


@pytest.mark.usefixtures("worker")
def test_a_job_that_has_waited_too_long_makes_it_not_ready(client: FlaskClient, clean_redis: Redis) -> None:
    waiting = accepted()
    enqueue.enqueue_once(clean_redis, waiting, ttl_seconds=60)
    assert states(client)["queue"] == "ok"
    then = utcformat(datetime.now(UTC) - timedelta(seconds=61))
    clean_redis.hset(f"rq:job:{waiting.delivery_id}", "created_at", then)
    assert states(client)["queue"] == "behind"


@pytest.mark.usefixtures("worker")
def test_a_redis_that_responds_and_refuses_writes_is_away(client: FlaskClient, clean_redis: Redis) -> None:
    clean_redis.config_set("min-replicas-to-write", 1)
    try:
        assert clean_redis.ping()
        assert states(client)["redis"] == "away"
    finally:
        clean_redis.config_set("min-replicas-to-write", 0)
    assert states(client)["redis"] == "ok"


def test_a_database_that_lacks_a_migration_is_behind(client: FlaskClient) -> None:
    with session():
        database.execute_sql("DELETE FROM schema_migration WHERE name = '0001_create_tables'")
    try:
        assert states(client)["postgresql"] == "behind"
    finally:
        with session():
            database.execute_sql("INSERT INTO schema_migration (name, applied) VALUES ('0001_create_tables', now())")
    assert states(client)["postgresql"] == "ok"


@pytest.mark.usefixtures("worker")
def test_secrets_that_no_key_decrypts_make_it_not_ready_are_counted_and_not_named(client: FlaskClient) -> None:
    assert states(client)["secrets"] == "ok"
    with session():
        tenants.create_workspace("acme")
        for name in ("main", "other"):
            tenants.add_secret("acme", "integration", "a secret of acme", [Fernet.generate_key().decode()], name)
    context.of(client.application).credentials.refresh()
    status, body = ask(client)
    assert (status, body["secrets"]["state"]) == (503, "undecryptable")
    assert body["secrets"]["loses"] == ["deliveries signed with secrets that ENCRYPTION_KEY does not decrypt: 2"]
    assert "acme" not in json.dumps(body)
    assert "signalcraft_undecryptable_secrets 2.0" in client.get("/metrics").get_data(as_text=True)
    with session():
        for name in ("main", "other"):
            tenants.retire_secret("acme", name)
    context.of(client.application).credentials.refresh()
    assert ask(client)[0] == 200


@pytest.mark.usefixtures("worker")
def test_a_broken_receiver_degrades_it_is_counted_and_not_named_while_alerts_are_still_received(
    client: FlaskClient,
) -> None:
    with session():
        database.execute_sql("INSERT INTO receiver_state (receiver, broken_since) VALUES ('pay', now()), ('ops', NULL)")
    status, body = ask(client)
    assert (status, body["status"], body["receivers"]["state"]) == (200, "degraded", "broken")
    assert "Broken receivers: 1" in body["receivers"]["reason"]
    assert "pay" not in json.dumps(body)
    metrics = client.get("/metrics").get_data(as_text=True)
    assert 'signalcraft_receiver_broken{receiver="pay"} 1.0' in metrics
    assert 'signalcraft_receiver_broken{receiver="ops"} 0.0' in metrics
    with session():
        database.execute_sql("UPDATE receiver_state SET broken_since = NULL")
    assert ask(client)[1]["status"] == "ok"


def test_unreachable_components_are_away(environ: dict[str, str]) -> None:
    with application(environ, REDIS_URL="redis://127.0.0.1:1/0") as client, no_database(environ["DATABASE_URL"]):
        assert states(client) == dict.fromkeys(COMPONENTS, "away")


def states_within_a_second(client: FlaskClient) -> dict[str, str]:
    with stopwatch() as watch:
        found = states(client)
    assert watch.seconds < 1
    return found


@pytest.mark.usefixtures("product_timeouts", "worker")
def test_frozen_servers_cost_a_second_at_most_for_each_request(
    client: FlaskClient, environ: dict[str, str], servers: embedded_servers.Servers
) -> None:
    """On a busy machine one of those that work may be too slow for once."""
    if urlsplit(environ["DATABASE_URL"]).netloc != urlsplit(servers.database_url).netloc:
        pytest.skip("the database is not one that can be frozen")
    all_ok = dict.fromkeys(COMPONENTS, "ok")
    wait_until(lambda: states_within_a_second(client) == all_ok)
    with frozen(servers.postgres, servers.redis):
        for _ in range(6):
            found = states_within_a_second(client)
            assert found["postgresql"] == "silent"
            assert found["redis"] in ("away", "silent")
    with frozen(servers.postgres):
        hung = {"postgresql": "", "receivers": ""}
        for _ in range(6):
            wait_until(lambda: states_within_a_second(client) | hung == all_ok | hung)
    wait_until(lambda: states_within_a_second(client) == all_ok)
