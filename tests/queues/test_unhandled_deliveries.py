"""Deliveries with a valid signature of Sentry and an unknown meaning."""

import hmac
import json

import pytest
from flask.testing import FlaskClient
from redis import Redis

from signalcraft import tasks
from signalcraft.queues import dead_letters
from signalcraft.settings import Settings
from signalcraft.storage.database import session
from signalcraft.storage.delivery_models import FailedDelivery, UnhandledDelivery
from signalcraft.storage.models import AlertEvent
from tests.support import web_client
from tests.support.builders import accepted
from tests.support.queues import work
from tests.support.sentry_bodies import ABSENT, body_of, with_value
from tests.support.web_client import PATH, SECRET


@pytest.fixture
def client(environ: dict[str, str], settings: Settings, clean_redis: Redis) -> FlaskClient:
    web_client.add_workspace()
    tasks.configure_worker(settings, clean_redis)
    return web_client.web(environ)


def unhandled() -> list[UnhandledDelivery]:
    with session():
        return list(UnhandledDelivery.select().order_by(UnhandledDelivery.id))


@pytest.mark.parametrize(
    ("resource", "body", "reason"),
    [
        ("release", {"action": "created", "data": {"release": {"version": "1"}}}, "resource_unknown"),
        ("issue", {"action": "exploded", "data": {"issue": {"id": "1", "title": "x"}}}, "action_unknown"),
        ("event_alert", {"action": "triggered", "data": {"event": "x"}}, "body_incomplete"),
        ("activity_alert", {"action": "triggered", "data": {"activity": {}, "alert": {}}}, "body_incomplete"),
        ("installation", {"action": "created"}, "body_incomplete"),
    ],
)
def test_they_are_ignored_in_the_response_and_stored_raw(
    client: FlaskClient,
    clean_redis: Redis,
    resource: str,
    body: dict[str, object],
    reason: str,
) -> None:
    raw = json.dumps(body).encode()
    headers = {
        "Content-Type": "application/json",
        "Sentry-Hook-Resource": resource,
        "Sentry-Hook-Signature": hmac.new(SECRET.encode(), raw, "sha256").hexdigest(),
    }
    for _ in range(2):
        response = client.post(PATH, data=raw, headers=headers)
        assert (response.status_code, response.get_json()) == (200, {"status": "ignored", "reason": reason})
    work(clean_redis)
    (stored,) = unhandled()
    assert (stored.resource, bytes(stored.body)) == (resource, raw)
    with session():
        assert AlertEvent.select().count() == FailedDelivery.select().count() == 0


@pytest.mark.parametrize("name", ["event_alert.triggered", "issue.created", "metric_alert.critical"])
def test_an_alert_with_any_field_missing_is_stored_or_kept_raw(
    client: FlaskClient, clean_redis: Redis, name: str
) -> None:
    resource = name.partition(".")[0]
    own = {"event_alert": "event", "issue": "issue", "metric_alert": "metric_alert"}[resource]
    sent = 0
    inside = [f"data.{own}.{key}" for key in body_of(name)["data"][own]]
    for path in ("installation", "actor", f"data.{own}", *inside):
        for value in (ABSENT, None, {}, 7):
            body = with_value(body_of(name, event_id=f"{sent:032x}"), path, value)
            raw = json.dumps(body).encode()
            signature = hmac.new(SECRET.encode(), raw, "sha256").hexdigest()
            headers = {"Content-Type": "application/json", "Sentry-Hook-Resource": resource}
            response = client.post(PATH, data=raw, headers=headers | {"Sentry-Hook-Signature": signature})
            assert response.status_code in {200, 202}, (path, value)
            sent += 1
    work(clean_redis)
    with session():
        assert FailedDelivery.select().count() == 0
        assert AlertEvent.select().count() >= 1


def test_a_known_resource_without_alerts_is_not_stored(client: FlaskClient, clean_redis: Redis) -> None:
    assert web_client.send(client, web_client.sample("comment.created")).status_code == 200
    assert clean_redis.llen("rq:queue:alerts") == 0


def test_only_the_newest_of_a_workspace_are_stored(client: FlaskClient) -> None:  # noqa: ARG001 - for the workspace
    with session():
        for _ in range(3):
            dead_letters.add_unhandled([accepted() for _ in range(400)])
    stored = unhandled()
    assert len(stored) == dead_letters.MAX_UNHANDLED
    assert stored[0].id == 201
