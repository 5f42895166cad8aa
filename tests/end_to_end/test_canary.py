"""A canary passes the whole pipeline on real servers, and no client sees it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from signalcraft import http_client, metrics, tasks
from signalcraft.domain import deliveries
from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.ingest import canary
from signalcraft.queues import canary_proof, enqueue, jobs
from signalcraft.settings import Settings
from signalcraft.sources import sentry
from signalcraft.storage.database import session
from signalcraft.storage.delivery_models import FailedDelivery
from signalcraft.storage.models import AlertEvent, AlertGroup, HourlyCount
from signalcraft.storage.notification_models import Happening
from signalcraft.web import prometheus
from signalcraft.worker.batch_worker import BatchWorker
from tests.support.builders import accepted
from tests.support.web_client import SECRET, add_workspace, ask, send, web

Work = Callable[[], None]


@pytest.fixture
def http(environ: dict[str, str], settings: Settings, clean_redis: Redis) -> FlaskClient:
    add_workspace()
    tasks.configure_worker(settings, clean_redis)
    metrics._registry.forget()
    return web(environ)


@pytest.fixture
def work(clean_redis: Redis) -> Work:
    def run() -> None:
        worker = BatchWorker(jobs.ALERTS, connection=clean_redis, stages=tasks.processor(), batch_size=50)
        worker.work(burst=True)

    return run


@pytest.fixture
def through_http(http: FlaskClient, monkeypatch: pytest.MonkeyPatch, work: Work) -> FlaskClient:
    """Posts go to the test web process, and are processed at once."""

    def post(url: str, body: bytes, headers: dict[str, str]) -> http_client.Response:
        response = http.post(url, data=body, headers=headers)
        work()
        return http_client.Response(response.status_code, response.get_json())

    monkeypatch.setattr(http_client, "post", post)
    return http


def rows() -> tuple[int, ...]:
    with session():
        return tuple(int(table.select().count()) for table in (AlertEvent, AlertGroup, FailedDelivery))


def samples_of(redis: Redis) -> dict[tuple[str, ...], float]:
    while metrics._registry._unsent or metrics._registry._sums:
        metrics.flush(redis)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(prometheus.as_text(redis, {}))
        for sample in family.samples
    }


def test_it_is_stored_proved_and_deleted_without_a_notification(
    http: FlaskClient, clean_redis: Redis, work: Work
) -> None:
    answer = send(http, sentry.build_canary(SECRET))
    assert answer.status_code == 202
    work()
    canary_proof.await_proof(clean_redis, answer.get_json()["delivery_id"], timeout_seconds=0)
    assert rows() == (0, 0, 0)
    assert ask(http, "/groups").get_json()["groups"] == []
    with session():
        assert HourlyCount.select().count() == Happening.select().count() == 0
    assert jobs.queue(clean_redis, jobs.NOTIFICATIONS).count == 0
    counted = samples_of(clean_redis)
    assert counted["signalcraft_alerts_total",] == counted["signalcraft_groups_created_total",] == 0
    assert counted["signalcraft_webhooks_total", "accepted", "canary", "sentry"] == 1


def test_alerts_in_the_same_batch_are_stored_as_usual(http: FlaskClient, clean_redis: Redis, work: Work) -> None:
    delivery_id = send(http, sentry.build_canary(SECRET)).get_json()["delivery_id"]
    for delivery in (accepted(issue="1"), accepted(issue="1")):
        enqueue.enqueue_once(clean_redis, delivery, ttl_seconds=60)
    work()
    canary_proof.await_proof(clean_redis, delivery_id, timeout_seconds=0)
    assert rows() == (2, 1, 0)


def test_an_alert_that_only_mentions_a_canary_is_an_alert(http: FlaskClient, clean_redis: Redis, work: Work) -> None:  # noqa: ARG001 - configures the worker
    enqueue.enqueue_once(clean_redis, accepted(title=f"No such project: {deliveries.CANARY_PROJECT}"), ttl_seconds=60)
    broken = accepted()
    broken = replace(broken, delivery=replace(broken.delivery, body=b'{"data":{"event":{"t":"signalcraft-canary"}}}'))
    enqueue.enqueue_once(clean_redis, broken, ttl_seconds=60)
    work()
    assert rows() == (1, 1, 1)


def test_a_canary_that_was_not_stored_is_not_proved(http: FlaskClient, clean_redis: Redis) -> None:
    delivery_id = send(http, sentry.build_canary(SECRET)).get_json()["delivery_id"]
    with pytest.raises(canary_proof.CanaryLost, match="not processed"):
        canary_proof.await_proof(clean_redis, delivery_id, timeout_seconds=0.05)


def test_while_postgresql_is_unavailable_the_worker_keeps_it(
    http: FlaskClient, clean_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert http.get("/healthz").status_code == 200

    def unavailable(*_: object) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr("signalcraft.groups.record.record", unavailable)
    delivery = sentry.build_canary(SECRET).as_delivery(accepted().delivery.received_at)
    with pytest.raises(DatabaseUnavailable):
        tasks.processor().process([replace(accepted(), delivery=delivery)])
    assert clean_redis.keys("signalcraft:canary:*") == []


@pytest.mark.usefixtures("through_http")
def test_of_many_processes_one_sends_it_and_measures_its_latency(environ: dict[str, str], clean_redis: Redis) -> None:
    settings = Settings.from_environ({**environ, "CANARY_SECONDS": "60"})
    for _ in range(3):
        canary.send_if_leader(settings, clean_redis)
    counted = samples_of(clean_redis)
    assert counted["signalcraft_canaries_total", "came_through"] == 1
    assert counted["signalcraft_canary_seconds_count",] == 1


@pytest.mark.usefixtures("through_http")
def test_a_refused_canary_counts_as_lost(environ: dict[str, str], clean_redis: Redis) -> None:
    settings = Settings.from_environ({**environ, "CANARY_SECONDS": "60", "SENTRY_CLIENT_SECRET": "another"})
    canary.send_if_leader(settings, clean_redis)
    assert samples_of(clean_redis)["signalcraft_canaries_total", "lost"] == 1


def test_none_is_sent_unless_canary_seconds_says_so(settings: Settings, clean_redis: Redis) -> None:
    stop = canary.start(settings, clean_redis)
    stop()
    assert settings.canary_seconds == 0
    assert clean_redis.keys("signalcraft:canary*") == []
