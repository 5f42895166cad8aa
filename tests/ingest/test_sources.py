"""Receiving by source: each path has its own secrets, and a sender gets the answer that it understands."""

import json
import time
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from cryptography.fernet import Fernet
from flask.testing import FlaskClient
from redis import Redis
from structlog.testing import capture_logs

from signalcraft import tasks
from signalcraft.domain.errors import UnexpectedShape
from signalcraft.queues import dead_letters
from signalcraft.settings import Settings
from signalcraft.sources import SOURCES
from signalcraft.sources.alertmanager import samples
from signalcraft.storage import tenants
from signalcraft.storage.database import database, session
from signalcraft.storage.delivery_models import FailedDelivery, Inbox
from signalcraft.storage.models import AlertEvent
from signalcraft.worker import replay
from signalcraft.worker.context import WorkerContext
from tests.support.builders import accepted, groups
from tests.support.queues import work
from tests.support.web_client import TOKEN, add_workspace, ask, code_of, no_database, sample, send, web

PATH = "/webhooks/alertmanager"
BEARER = "alertmanager-token-long-enough"
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def client(environ: dict[str, str]) -> FlaskClient:
    add_workspace()
    return web(environ, ALERTMANAGER_TOKEN=f"old-one,{BEARER}")


@pytest.fixture
def worked(clean_redis: Redis, settings: Settings) -> Redis:
    tasks.configure_worker(settings, clean_redis)
    return clean_redis


def test_every_source_has_its_path_and_without_a_secret_refuses_everything(environ: dict[str, str]) -> None:
    add_workspace()
    client = web({name: value for name, value in environ.items() if name != "SENTRY_CLIENT_SECRET"})
    for name, source in SOURCES.items():
        response = send(client, source.build_sample(source.SAMPLES[0], secret="x"), f"/webhooks/{name}")
        assert (response.status_code, code_of(response)) == (401, "signature_invalid")
        assert response.headers["WWW-Authenticate"]
    assert client.post("/webhooks/unheardof").status_code == 404


@pytest.mark.usefixtures("clean_redis")
def test_a_secret_of_one_source_verifies_no_delivery_of_another(client: FlaskClient) -> None:
    assert send(client, samples.build("alertmanager.firing", secret=BEARER), PATH).status_code == 202
    assert send(client, samples.build("alertmanager.firing", secret="old-one", title="b"), PATH).status_code == 202
    assert send(client, samples.build("alertmanager.firing", secret="test-client-secret"), PATH).status_code == 401
    assert send(client, sample(secret=BEARER)).status_code == 401
    assert send(client, sample(), PATH).status_code == 401


@pytest.mark.usefixtures("clean_redis")
def test_a_stored_secret_is_of_its_workspace_source_and_kind(environ: dict[str, str]) -> None:
    key = Fernet.generate_key().decode()
    add_workspace("acme")
    client = web(environ, ENCRYPTION_KEY=key)
    with session():
        tenants.add_secret("acme", "bearer", BEARER, [key], source="alertmanager")
    firing = samples.build("alertmanager.firing", secret=BEARER)
    assert send(client, firing, f"{PATH}/acme").status_code == 202
    assert send(client, firing, PATH).status_code == 401
    assert send(client, sample(secret=BEARER), "/webhooks/sentry/acme").status_code == 401


def test_a_token_is_stored_nowhere(client: FlaskClient, clean_redis: Redis, environ: dict[str, str]) -> None:
    send(client, samples.build("alertmanager.firing", secret=BEARER), PATH)
    keys = clean_redis.keys("rq:job:*")
    assert keys
    with session():
        assert not Inbox.select().count()
    work(clean_redis, stages=_Kept())
    assert _Kept.headers == [{}]
    away = web(environ, ALERTMANAGER_TOKEN=BEARER, REDIS_URL=NOWHERE)
    assert send(away, samples.build("alertmanager.firing", secret=BEARER, title="b"), PATH).status_code == 202
    with session():
        assert [row.headers_json for row in Inbox.select()] == [{}]


class _Kept:
    headers: ClassVar[list[dict[str, str]]] = []

    def prepare(self, deliveries: Any) -> Any:  # noqa: ANN401 - of any kind
        _Kept.headers += [dict(accepted.delivery.headers) for accepted in deliveries]

    def record(self, batch: Any) -> Any:  # noqa: ANN401
        return batch

    def conclude(self, _: Any) -> None:  # noqa: ANN401
        return None


@pytest.mark.usefixtures("clean_redis")
def test_a_sender_that_sends_again_after_a_5xx_alone_gets_one_over_the_limit_and_others_a_429(
    environ: dict[str, str],
) -> None:
    add_workspace()
    client = web(environ, ALERTMANAGER_TOKEN=BEARER, RATELIMIT_WEBHOOK="1/hour")
    answers = [send(client, samples.build("alertmanager.firing", secret=BEARER), PATH) for _ in range(3)]
    assert [answer.status_code for answer in answers[1:]] == [503, 503]
    assert answers[-1].headers["Retry-After"]
    assert send(client, sample()).status_code == 429


def test_while_the_queue_and_the_inbox_are_unavailable_the_answer_is_503(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ, ALERTMANAGER_TOKEN=BEARER, REDIS_URL=NOWHERE)
    firing = samples.build("alertmanager.firing", secret=BEARER)
    assert send(client, firing, PATH).status_code == 202
    with no_database(environ["DATABASE_URL"]):
        assert send(client, firing, PATH).status_code == 503


def test_of_500_alerts_20_are_junk_and_480_are_stored(client: FlaskClient, worked: Redis) -> None:
    alerts: list[Any] = [samples.alert("firing", pod=f"pod-{number}") for number in range(500)]
    for number in range(0, 500, 25):
        alerts[number] = {**alerts[number], "startsAt": "yesterday"}
    large = samples.sample(alerts, secret=BEARER)
    send(client, sample())  # the first request reads the credentials
    began = time.process_time()  # of this process: others may have the processor meanwhile
    response = send(client, large, PATH)
    took = time.process_time() - began
    assert response.status_code == 202
    assert took < 0.1, f"{took:.3f} s"
    work(worked)
    with session():
        assert AlertEvent.select().where(AlertEvent.source == "alertmanager").count() == 480
        failed = list(FailedDelivery.select().order_by(FailedDelivery.id))
    assert [row.reason for row in failed] == [
        f"alerts[{number}].startsAt: must be a time" for number in range(0, 500, 25)
    ]
    assert all(row.code == "shape_unexpected" for row in failed)
    assert all(len(json.loads(bytes(row.body))["alerts"]) == 1 for row in failed), "a dead letter is one alert"
    (group,) = [group for group in groups() if group.source == "alertmanager"]
    assert (group.count, group.status, group.runbook_url) == (480, "open", "https://runbooks.example.org/PodRestarts")


def test_a_delivery_of_more_than_10_000_alerts_is_refused_on_receipt_and_by_a_preview(client: FlaskClient) -> None:
    many = samples.sample([{"status": "firing"}] * 10_001, secret=BEARER)
    preview = {**many.headers, "Authorization": f"Bearer {TOKEN}"}
    for response in (
        send(client, many, PATH),
        client.post("/api/v1/preview?source=alertmanager", data=many.body, headers=preview),
    ):
        assert (response.status_code, code_of(response)) == (422, "fields_invalid")
        assert [*response.get_json()["errors"]] == ["alerts"]


def test_3_000_dead_letters_of_one_delivery_are_30_statements_and_each_is_logged_once(
    client: FlaskClient,  # noqa: ARG001 - for the workspace
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = accepted()
    failures = [
        (replace(one, delivery_id=f"{one.delivery_id}:{number}"), UnexpectedShape("it has none"))
        for number in range(3_000)
    ]
    statements: list[str] = []
    execute = database.execute_sql
    monkeypatch.setattr(database, "execute_sql", lambda sql, *rest: (statements.append(sql), execute(sql, *rest))[1])
    with session(), capture_logs() as lines:
        dead_letters.add_all([*failures, failures[-1]], stage="normalize")
        dead_letters.add_all(failures, stage="normalize")
        assert FailedDelivery.select().count() == 3_000
    assert sum("INSERT" in sql for sql in statements) == 31 + 30
    logged = [line["delivery_id"] for line in lines if line["event"] == "delivery dead-lettered"]
    assert logged == [failed.delivery_id for failed, _ in failures]


def test_the_dead_letter_of_one_alert_is_replayed_alone(
    client: FlaskClient, worked: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts = [samples.alert("firing", pod=pod) for pod in ("a", "b")]
    with monkeypatch.context() as broken:
        broken.setattr("signalcraft.groups.validation.MAX_LENGTHS", {"title": 10})
        send(client, samples.sample([alerts[0], samples.alert("firing", pod="b", title="short")], secret=BEARER), PATH)
        work(worked)
    with session():
        assert AlertEvent.select().count() == 1
        (page,) = replay.retained_deliveries(replay.Selection(failed=True))
        total = replay.ReplayResult()
        replay.replay(page, WorkerContext.from_settings(settings), total)
        assert (total.alerts, total.still_failing) == (1, 0)
        assert AlertEvent.select().count() == 2


def test_lists_filter_and_show_the_source(client: FlaskClient, worked: Redis) -> None:
    send(client, sample())
    send(client, samples.build("alertmanager.firing", secret=BEARER), PATH)
    work(worked)
    (found,) = ask(client, "/groups?source=alertmanager").get_json()["groups"]
    assert found["source"] == "alertmanager"
    assert {group["source"] for group in ask(client, "/groups").get_json()["groups"]} == {"alertmanager", "sentry"}
    (event,) = ask(client, f"/groups/{found['id']}/events").get_json()["events"]
    said = ask(client, f"/events/{event['id']}/explain").get_json()["explanation"]
    assert "its labels, without those of single machines, are the same" in said[0]


@pytest.mark.usefixtures("worked")
def test_a_preview_names_its_source(client: FlaskClient) -> None:
    firing = samples.build("alertmanager.two_firing", secret=BEARER)
    headers = {**firing.headers, "Authorization": f"Bearer {TOKEN}"}
    response = client.post("/api/v1/preview?source=alertmanager", data=firing.body, headers=headers)
    assert response.status_code == 200, response.text
    assert len(response.get_json()["outcomes"]) == 2
    refused = client.post("/api/v1/preview?source=unheardof", data=firing.body, headers=headers)
    assert (refused.status_code, "source" in refused.get_json()["errors"]) == (422, True)
