"""Real servers fail and recover under a real worker; nothing is lost, and every worker goes on processing.

Outages are short here; ``make outages`` and ``make chaos`` run longer ones.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from werkzeug.test import TestResponse

from signalcraft import tasks, thread_budgets
from signalcraft.dev import embedded_servers, server_process
from signalcraft.dev.fake_slack import FakeSlack
from signalcraft.dev.fake_slack.workspace import SIGNING_SECRET
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.queues import backlog, enqueue, inbox, jobs
from signalcraft.settings import Settings
from signalcraft.storage.database import database, open_database, session
from signalcraft.storage.delivery_models import FailedDelivery, Inbox
from signalcraft.storage.models import AlertEvent
from signalcraft.web import bulkhead
from signalcraft.worker import inbox_consumer
from signalcraft.worker.batch_worker import BatchWorker
from signalcraft.worker.self_alerts import IncidentMonitor
from tests.support import ROOT
from tests.support.builders import accepted, groups
from tests.support.crash import CrashingProcess
from tests.support.processes import exit_code
from tests.support.queues import let_time_pass, waits_for_jobs, work_after_a_crash
from tests.support.waiting import keeps_time, wait_until
from tests.support.web_client import TOKEN, ask, no_database, sample, send, web

pytestmark = pytest.mark.skipif(
    bool(os.environ.get("TEST_DATABASE_URL") or os.environ.get("TEST_REDIS_URL")),
    reason="kills servers, so it needs the embedded ones",
)


@pytest.fixture
def started() -> list[subprocess.Popen[bytes]]:
    """The workers of ``worker``."""
    return []


@pytest.fixture
def worker(
    environ: dict[str, str],
    redis: Redis,  # noqa: ARG001 - for the workspace
    servers: embedded_servers.Servers,
    started: list[subprocess.Popen[bytes]],
) -> Iterator[Callable[..., None]]:
    """Start ``python worker.py``; at the end it is killed, and the servers run again."""

    def start(*arguments: str) -> None:
        command = [sys.executable, "worker.py", *arguments]
        started.append(subprocess.Popen(command, cwd=ROOT, env=os.environ | environ))

    yield start
    for process in started:
        process.kill()
        process.wait()
    for server in (servers.redis, servers.postgres):
        try:
            server.thaw()
        except server_process.EmbeddingError:  # a failed test did not restart it
            server.start()


@pytest.fixture
def idle_worker(worker: Callable[[], None], redis: Redis) -> Redis:
    """A worker that has processed a job, and waits for the next."""
    worker()
    enqueue_deliveries(redis, accepted())
    wait_for_events(1)
    wait_until(lambda: is_clean(redis))
    return redis


def enqueue_deliveries(redis: Redis, *deliveries: AcceptedDelivery) -> None:
    for delivery in deliveries:
        enqueue.enqueue_once(redis, delivery, ttl_seconds=60)


def wait_for_events(number: int, *, seconds: float = 30) -> None:
    wait_until(lambda: count_events() == number, seconds=seconds)


def count_events() -> int:
    try:
        with session():
            return int(AlertEvent.select().count())
    except DatabaseUnavailable:
        return -1


def is_clean(redis: Redis) -> bool:
    return redis.exists("rq:queue:alerts", "rq:queue:alerts:intermediate", "rq:wip:alerts", "rq:failed:alerts") == 0


def test_an_outage_of_postgresql_uses_no_retries_and_all_is_stored(
    idle_worker: Redis, servers: embedded_servers.Servers
) -> None:
    servers.postgres.kill()
    deliveries = [accepted() for _ in range(20)]
    enqueue_deliveries(idle_worker, *deliveries)
    time.sleep(4)
    left = {idle_worker.hget(f"rq:job:{delivery.delivery_id}", "retries_left") for delivery in deliveries}
    servers.postgres.start()
    wait_for_events(21)
    assert left == {str(jobs.MAX_RETRIES).encode()}
    assert Queue("alerts", connection=idle_worker).failed_job_registry.count == 0


def test_redis_killed_while_a_worker_idles(idle_worker: Redis, servers: embedded_servers.Servers) -> None:
    servers.redis.kill()
    time.sleep(2)
    servers.redis.start()
    enqueue_deliveries(idle_worker, accepted())
    wait_for_events(2)


@pytest.mark.parametrize("queue", [jobs.ALERTS, jobs.NOTIFICATIONS])
def test_work_is_taken_up_within_three_seconds_of_the_return_of_redis(
    worker: Callable[..., None], redis: Redis, servers: embedded_servers.Servers, queue: str
) -> None:
    """RQ doubles its pauses, up to a minute: after an outage of half a minute the notifier came 28 s late."""
    worker(queue)
    wait_until(lambda: backlog.heartbeat_seconds(redis, queue) is not None, seconds=15)
    time.sleep(1)

    def take_up(_: int) -> float:
        servers.redis.kill()
        time.sleep(20)
        servers.redis.start()
        returned_at = time.monotonic()
        if queue == jobs.ALERTS:
            enqueue_deliveries(redis, accepted())
        else:
            enqueue.enqueue_notification(redis, {"reason": "new"}, description="a notification")
        wait_until(lambda: not redis.exists(f"rq:queue:{queue}"), seconds=60)
        return time.monotonic() - returned_at

    keeps_time(take_up, seconds=3)


def test_redis_frozen_while_a_worker_idles(idle_worker: Redis, servers: embedded_servers.Servers) -> None:
    servers.redis.freeze()
    time.sleep(3)
    servers.redis.thaw()
    enqueue_deliveries(idle_worker, accepted())
    wait_for_events(2)


@pytest.mark.parametrize("queue", [jobs.ALERTS, jobs.NOTIFICATIONS])
@pytest.mark.parametrize("outage", ["freeze", "kill"])
def test_a_worker_stops_in_time_while_redis_is_unavailable(
    worker: Callable[..., None],
    redis: Redis,
    servers: embedded_servers.Servers,
    started: list[subprocess.Popen[bytes]],
    *,
    queue: str,
    outage: str,
) -> None:
    worker(queue)
    (process,) = started
    wait_until(lambda: waits_for_jobs(redis))
    assert backlog.heartbeat_seconds(redis, queue) is not None
    getattr(servers.redis, outage)()
    process.terminate()
    assert exit_code(process) == 0


def test_redis_unavailable_when_a_worker_starts(
    worker: Callable[[], None], redis: Redis, servers: embedded_servers.Servers
) -> None:
    servers.redis.kill()
    worker()
    time.sleep(3)
    servers.redis.start()
    enqueue_deliveries(redis, accepted())
    wait_for_events(1)


def test_redis_killed_during_a_batch_and_at_its_end(idle_worker: Redis, servers: embedded_servers.Servers) -> None:
    """The batch is stored, but its jobs cannot be finished: they run again, and are not counted again."""
    with session(), database.atomic():
        database.execute_sql("LOCK TABLE alert_event IN ACCESS EXCLUSIVE MODE")
        enqueue_deliveries(idle_worker, *(accepted(issue="1") for _ in range(5)))
        wait_until(lambda: idle_worker.zcard("rq:wip:alerts") > 0)
        in_flight = idle_worker.zcard("rq:wip:alerts")
        servers.redis.kill()
    wait_for_events(1 + in_flight)
    servers.redis.start()
    wait_until(lambda: is_clean(idle_worker), seconds=45)
    assert sum(group.count for group in groups()) == 6


def test_the_inbox_is_processed_while_redis_is_unavailable(
    idle_worker: Redis, servers: embedded_servers.Servers
) -> None:
    servers.redis.kill()
    with session():
        for _ in range(3):
            inbox.add(accepted())
    wait_for_events(4, seconds=10)
    with pytest.raises(RedisError):
        idle_worker.ping()
    servers.redis.start()


def test_a_delivery_that_kills_every_worker_is_dead_lettered_and_its_neighbours_are_stored(
    environ: dict[str, str],
    redis: Redis,
) -> None:
    poison, *neighbours = (accepted() for _ in range(5))
    enqueue_deliveries(redis, neighbours[0], poison, *neighbours[1:])
    doomed = CrashingProcess(environ)
    deaths = 0
    while doomed.play("worker", 0, poison=poison.delivery_id).killed:
        deaths += 1
        let_time_pass(redis)
    doomed.end()
    work_after_a_crash(redis)
    assert deaths == jobs.MAX_RETRIES + 1
    assert count_events() == 4
    with session():
        (dead_letter,) = FailedDelivery.select()
    assert (dead_letter.delivery_id, bytes(dead_letter.body)) == (poison.delivery_id, poison.delivery.body)
    assert dead_letter.code == "worker_killed"
    assert is_clean(redis)


def test_an_inbox_delivery_that_kills_every_worker_is_dead_lettered_and_its_neighbours_are_stored(
    environ: dict[str, str],
    redis: Redis,  # noqa: ARG001 - for the workspace
) -> None:
    poison, *neighbours = (accepted() for _ in range(5))
    with session():
        for delivery in (neighbours[0], poison, *neighbours[1:]):
            inbox.add(delivery)
    doomed = CrashingProcess(environ)
    deaths = 0
    while doomed.play("inbox_consumer", 0, poison=poison.delivery_id).killed:
        deaths += 1
        wait_until(_no_inbox_row_is_locked, seconds=10)
        with session():  # as if the two seconds of its claim had passed
            Inbox.update(claimed_at=None).execute()
    doomed.end()
    assert deaths == inbox_consumer.MAX_TRIES
    assert count_events() == 4
    with session():
        (dead_letter,) = FailedDelivery.select()
        assert inbox.depth() == 0
    assert (dead_letter.delivery_id, bytes(dead_letter.body)) == (poison.delivery_id, poison.delivery.body)
    assert (dead_letter.code, dead_letter.stage) == ("worker_killed", "drain")


def _no_inbox_row_is_locked() -> bool:
    """Whether PostgreSQL has released the locks of the killed process."""
    with session(), database.atomic():
        free = Inbox.select(Inbox.id).for_update(skip_locked=True)
        return len(list(free)) == inbox.depth()


def test_a_job_that_cannot_be_dead_lettered_yet_stays_in_its_registry(redis: Redis, settings: Settings) -> None:
    delivery = accepted()
    enqueue_deliveries(redis, delivery)
    redis.delete("rq:queue:alerts")
    redis.zadd("rq:failed:alerts", {delivery.delivery_id: 2e10})
    open_database("postgresql://127.0.0.1:1/nowhere")
    database.close_idle()
    worker = BatchWorker(jobs.ALERTS, connection=redis, stages=tasks.processor(), batch_size=9)
    worker.clean_registries()
    assert redis.zcard("rq:failed:alerts") == 1
    open_database(settings.database_url)
    worker.clean_registries()
    assert redis.zcard("rq:failed:alerts") == 0
    with session():
        assert FailedDelivery.select().count() == 1


def test_a_recovered_redis_is_used_at_once_if_postgresql_is_unavailable(
    environ: dict[str, str], servers: embedded_servers.Servers, redis: Redis
) -> None:
    """The breaker would stay open for two seconds more, which is right only while PostgreSQL is available."""
    client = web(environ)
    servers.redis.kill()
    assert send(client, sample()).status_code == 202  # into the inbox; the breaker is open
    servers.redis.start()
    with no_database(environ["DATABASE_URL"]):
        assert send(client, sample()).status_code == 202
    assert redis.llen("rq:queue:alerts") == 1


@pytest.mark.usefixtures("product_timeouts")
def test_with_both_frozen_the_response_is_a_503_within_a_second(
    environ: dict[str, str], servers: embedded_servers.Servers, redis: Redis
) -> None:
    client = web(environ)
    assert send(client, sample()).status_code == 202

    def slowest(_: int) -> float:
        servers.redis.freeze()
        servers.postgres.freeze()
        try:
            return max(seconds_of_refusal() for _ in range(5))
        finally:
            servers.redis.thaw()
            servers.postgres.thaw()
            assert redis.ping()
            time.sleep(2.1)

    def seconds_of_refusal() -> float:
        began = time.monotonic()
        assert send(client, sample()).status_code == 503
        return time.monotonic() - began

    keeps_time(slowest, seconds=1)
    assert send(client, sample()).status_code == 202


@pytest.mark.usefixtures("product_timeouts")
def test_a_recovered_redis_is_used_at_once_without_an_inbox(
    environ: dict[str, str], servers: embedded_servers.Servers, redis: Redis
) -> None:
    client = web(environ, INGEST_DURABILITY="redis")
    servers.redis.freeze()
    assert send(client, sample()).status_code == 503  # and the breaker is open
    servers.redis.thaw()
    assert redis.ping()
    assert send(client, sample()).status_code == 202
    assert redis.llen("rq:queue:alerts") == 1


def press(client: FlaskClient) -> TestResponse:
    """Press a button that is no receiver's, as PostgreSQL says."""
    actions = [{"action_id": "ack", "value": "1"}]
    body = urlencode({"payload": json.dumps({"type": "block_actions", "actions": actions})}).encode()
    return client.post("/slack/actions", data=body, headers=FakeSlack().sign(body))


def test_while_api_requests_pages_and_presses_hang_on_a_frozen_postgresql_deliveries_find_a_thread(
    environ: dict[str, str], servers: embedded_servers.Servers, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = web(environ, SLACK_SIGNING_SECRET=SIGNING_SECRET)
    assert send(client, sample()).status_code == 202
    assert ask(client, "/groups").status_code == 200
    assert client.post("/login", data={"token": TOKEN}).status_code == 303
    assert client.get("/alerts").status_code == 200
    taken: list[threading.BoundedSemaphore] = []
    acquire = bulkhead._Permits.acquire

    def take(permits: bulkhead._Permits, semaphore: threading.BoundedSemaphore) -> None:
        acquire(permits, semaphore)
        taken.append(semaphore)

    monkeypatch.setattr(bulkhead._Permits, "acquire", take)
    servers.postgres.freeze()
    asks = (partial(ask, client, "/groups"), partial(client.get, "/alerts"), partial(press, client))
    hanging = [
        threading.Thread(target=asks[number % 3], daemon=True) for number in range(thread_budgets.MAX_API_REQUESTS)
    ]
    try:
        for thread in hanging:
            thread.start()
        wait_until(lambda: len(taken) == len(hanging))
        assert [call().status_code for call in asks] == [503] * 3, "the limit is reached"
        assert client.get("/healthz").status_code == 200
        assert send(client, sample()).status_code == 202
    finally:
        servers.postgres.thaw()
    for thread in hanging:
        thread.join(10)
    assert ask(client, "/groups").status_code == 200
    assert redis.llen("rq:queue:alerts") == 2


@pytest.mark.usefixtures("product_timeouts")
def test_a_frozen_postgresql_costs_a_scrape_two_seconds_and_its_own_gauges(
    environ: dict[str, str],
    servers: embedded_servers.Servers,
    redis: Redis,  # noqa: ARG001 - for the workspace
) -> None:
    client = web(environ)
    assert b"signalcraft_inbox_depth 0.0" in client.get("/metrics").data

    def seconds_of_scrape() -> float:
        began = time.monotonic()
        scraped = client.get("/metrics").data
        took = time.monotonic() - began
        assert b"\nsignalcraft_inbox_depth " not in scraped
        assert b'\nsignalcraft_queue_depth{queue="alerts"} ' in scraped
        return took

    servers.postgres.freeze()
    try:
        keeps_time(lambda _: max(seconds_of_scrape() for _ in range(3)), seconds=2.5)
    finally:
        servers.postgres.thaw()
    wait_until(lambda: b"signalcraft_inbox_depth 0.0" in client.get("/metrics").data, seconds=10)


def test_a_worker_reports_a_frozen_postgresql_as_unavailable(servers: embedded_servers.Servers, redis: Redis) -> None:
    notified: list[str] = []
    monitor = IncidentMonitor(lambda reason, _: notified.append(reason), redis, unavailable_seconds=0)
    monitor.check()
    assert notified == []
    servers.postgres.freeze()
    try:
        monitor.check()
    finally:
        servers.postgres.thaw()
    assert notified == ["database_away"]


def test_a_worker_stops_in_time_while_postgresql_is_frozen_and_requeues_its_jobs(
    idle_worker: Redis,
    servers: embedded_servers.Servers,
    started: list[subprocess.Popen[bytes]],
) -> None:
    servers.postgres.freeze()
    deliveries = [accepted() for _ in range(3)]
    enqueue_deliveries(idle_worker, *deliveries)
    wait_until(lambda: idle_worker.zcard("rq:wip:alerts") > 0, seconds=10)
    (process,) = started
    process.terminate()
    try:
        assert exit_code(process) == 0
        assert idle_worker.zcard("rq:wip:alerts") == 0
        assert sorted(idle_worker.lrange("rq:queue:alerts", 0, -1)) == sorted(
            delivery.delivery_id.encode() for delivery in deliveries
        )
    finally:
        servers.postgres.thaw()
    work_after_a_crash(idle_worker)
    assert count_events() == 4
    assert sum(group.count for group in groups()) == 4
