"""The product: a signed request goes in over HTTP and comes out as a group in JSON, processed by a real RQ worker."""

import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from flask.testing import FlaskClient
from redis import Redis
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from signalcraft import tasks
from signalcraft.queues import jobs
from signalcraft.settings import Settings
from signalcraft.storage import tenants
from signalcraft.storage.database import session
from signalcraft.storage.delivery_models import FailedDelivery
from signalcraft.storage.models import AlertEvent, AlertGroup
from signalcraft.worker.batch_worker import BatchWorker
from tests.support import web_client
from tests.support.web_client import PATH, SECRET, TOKEN, ask, code_of, sample, send

Deliver = Callable[..., int]
Json = dict[str, object]

FERNET_KEY = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="


@pytest.fixture
def client(environ: dict[str, str]) -> FlaskClient:
    web_client.add_workspace()
    return web_client.web(environ)


@pytest.fixture
def deliver(client: FlaskClient) -> Deliver:
    """Send a sample and return the status."""

    def post(name: str = "event_alert.triggered", *, path: str = PATH, **params: object) -> int:
        return send(client, sample(name, **params), path).status_code

    return post


@pytest.fixture
def work(clean_redis: Redis, settings: Settings) -> Callable[[], None]:
    """Process all queued jobs."""

    def run() -> None:
        tasks.configure_worker(settings, clean_redis)
        worker = BatchWorker(
            jobs.ALERTS,
            connection=clean_redis,
            stages=tasks.processor(),
            batch_size=50,
        )
        worker.work(burst=True)

    return run


def listed(client: FlaskClient, query: str = "", token: str = TOKEN) -> list[Json]:
    response = ask(client, f"/groups{query}", token)
    assert response.status_code == 200
    found: list[Json] = response.get_json()["groups"]
    return found


def make_older(minutes: float) -> None:
    """Move all stored timestamps ``minutes`` back."""
    shift = timedelta(minutes=minutes)
    with session():
        AlertGroup.update(
            first_seen_at=AlertGroup.first_seen_at - shift,
            last_seen_at=AlertGroup.last_seen_at - shift,
        ).execute()
        AlertEvent.update(received_at=AlertEvent.received_at - shift).execute()


class TestTheSixScenarios:
    def test_a_new_alert_makes_a_group(self, client: FlaskClient, deliver: Deliver, work: Callable[[], None]) -> None:
        assert deliver(issue="7001", project="checkout", environment="production", level="fatal") == 202
        assert listed(client) == []
        work()
        (group,) = listed(client)
        assert group["count"] == 1
        assert (group["source"], group["project"], group["environment"]) == ("sentry", "checkout", "prod")
        assert (group["severity"], group["status"], group["issue_id"]) == ("critical", "open", "7001")
        assert group["fingerprint"] == "issue:7001"
        assert group["link"] == "https://sentry.io/organizations/northwind/issues/7001/"
        assert group["first_seen_at"] == group["last_seen_at"]
        assert datetime.now(UTC) - datetime.fromisoformat(str(group["last_seen_at"])) < timedelta(seconds=30)

    def test_the_same_fingerprint_inside_the_window_updates_it(
        self,
        client: FlaskClient,
        deliver: Deliver,
        work: Callable[[], None],
    ) -> None:
        for _ in range(3):
            assert deliver(issue="7001") == 202
            work()
            make_older(59)
        (group,) = listed(client)
        assert group["count"] == 3

    def test_outside_the_window_it_makes_a_new_one(
        self,
        client: FlaskClient,
        deliver: Deliver,
        work: Callable[[], None],
    ) -> None:
        deliver(issue="7001")
        work()
        make_older(61)
        deliver(issue="7001")
        work()
        new, old = listed(client)
        assert (new["count"], old["count"]) == (1, 1)
        assert new["previous_group_id"] == old["id"]
        assert new["group_key"] == old["group_key"]

    def test_the_same_in_another_workspace_is_separate(
        self,
        client: FlaskClient,
        work: Callable[[], None],
        environ: dict[str, str],
    ) -> None:
        with session():
            tenants.create_workspace("second")
            tenants.add_secret("second", "integration", SECRET, [FERNET_KEY])
            token = tenants.create_token("second", can_write=False, name="test")
        other = web_client.web(environ, ENCRYPTION_KEY=FERNET_KEY)
        twice = sample(issue="7001")
        assert send(client, twice).status_code == 202
        assert send(other, twice, f"{PATH}/second").status_code == 202
        work()
        assert [group["count"] for group in listed(other)] == [1]
        assert [group["count"] for group in listed(other, token=token)] == [1]
        assert listed(other)[0]["id"] != listed(other, token=token)[0]["id"]

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            (b" ", 400, "body_not_json"),
            (b"not json", 400, "body_not_json"),
            (b"\xff\xfe", 400, "body_not_json"),
            (b"[]", 400, "body_not_object"),
            (b'"text"', 400, "body_not_object"),
            (b"[" * 100_000, 400, "body_too_deep"),
            (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "body_too_deep"),
            (b'{"data":{"event":{}}}', 422, "fields_invalid"),
            (b'{"action":"triggered"}', 422, "fields_invalid"),
            (b'{"action":7,"data":{"event":{}}}', 422, "fields_invalid"),
            (b'{"action":"triggered","data":[]}', 422, "fields_invalid"),
        ],
    )
    def test_a_malformed_payload_is_a_clear_refusal_and_the_next_delivery_works(
        self,
        client: FlaskClient,
        deliver: Deliver,
        work: Callable[[], None],
        body: bytes,
        status: int,
        code: str,
    ) -> None:
        response = post_signed(client, body)
        assert (response.status_code, code_of(response)) == (status, code)
        assert deliver() == 202
        work()
        assert [group["count"] for group in listed(client)] == [1]

    def test_the_same_event_id_again_is_acknowledged_and_counted_once(
        self,
        client: FlaskClient,
        deliver: Deliver,
        work: Callable[[], None],
        clean_redis: Redis,
    ) -> None:
        event_id = "0123456789abcdef0123456789abcdef"
        assert deliver(event_id=event_id) == 202
        assert deliver(event_id=event_id) == 200
        work()
        clean_redis.flushdb()  # as if the delivery key had expired
        assert deliver(event_id=event_id) == 202
        work()
        assert [group["count"] for group in listed(client)] == [1]


def test_two_issues_whose_fingerprint_is_the_default_are_two_groups(
    client: FlaskClient,
    deliver: Deliver,
    work: Callable[[], None],
) -> None:
    for issue in ("1", "2", "1"):
        deliver(issue=issue, fingerprint=["{{ default }}"])
    work()
    assert sorted(int(str(group["count"])) for group in listed(client)) == [1, 2]


def test_one_error_that_comes_as_error_and_by_two_rules_is_one_event_with_both_rules(
    client: FlaskClient,
    deliver: Deliver,
    work: Callable[[], None],
) -> None:
    event_id = "fedcba9876543210fedcba9876543210"
    assert deliver("error.created", event_id=event_id, issue="9") == 202
    for rule in ("Pager", "Chat"):
        assert deliver(event_id=event_id, issue="9", rule=rule) == 202
    work()
    (group,) = listed(client)
    assert group["count"] == 1
    with session():
        (event,) = AlertEvent.select()
    assert event.triggered_rules == ["Chat", "Pager"]


@pytest.mark.parametrize(
    ("action", "severity"),
    [("critical", "critical"), ("warning", "med"), ("open", "med")],
)
def test_a_metric_alert_has_the_severity_of_its_action_and_is_resolved_by_its_resolution(
    client: FlaskClient,
    deliver: Deliver,
    work: Callable[[], None],
    action: str,
    severity: str,
) -> None:
    deliver(f"metric_alert.{action}")
    work()
    (group,) = listed(client)
    assert (group["severity"], group["status"]) == (severity, "open")
    assert str(group["fingerprint"]).startswith("metric_rule:")
    deliver("metric_alert.resolved")
    work()
    assert [group["status"] for group in listed(client)] == ["resolved"]


@pytest.mark.parametrize("name", ["installation.created", "comment.created", "seer.pr_created"])
def test_what_is_no_alert_is_verified_and_ignored(
    client: FlaskClient,
    work: Callable[[], None],
    name: str,
) -> None:
    response = send(client, sample(name))
    assert (response.status_code, response.get_json()["status"]) == (200, "ignored")
    work()
    assert listed(client) == []


@pytest.mark.parametrize(
    "nasty",
    ["\\u0000", "\\ud800", "\\udfff\\ud800", "\\u001b[31m", "\\u2028\\u2029", "<script>alert(1)</script>", "\\ufeff"],
)
def test_text_that_postgresql_or_a_terminal_cannot_take_is_cleaned_and_the_bytes_are_kept(
    client: FlaskClient,
    work: Callable[[], None],
    nasty: str,
) -> None:
    body = sample(title="TITLE", project="checkout").body.replace(b"TITLE", nasty.encode() + b" went wrong")
    assert post_signed(client, body).status_code == 202
    work()
    (group,) = listed(client)
    assert str(group["title"]).endswith("went wrong")
    assert not {"\0", "\x1b", "\u2028"} & set(str(group["title"]))
    with session():
        (event,) = AlertEvent.select()
    assert event.payload_json == body


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e400", b"-" + b"9" * 30, b"9" * 5_000])
def test_numbers_that_nothing_can_hold_are_accepted_and_lose_nothing(
    client: FlaskClient,
    work: Callable[[], None],
    number: bytes,
) -> None:
    body = sample().body
    start = body.index(b'"timestamp":') + len(b'"timestamp":')
    body = body[:start] + number + body[body.index(b",", start) :]
    response = post_signed(client, body)
    assert response.status_code in {202, 400}
    work()
    if response.status_code == 202:
        with session():
            assert AlertEvent.select().count() + FailedDelivery.select().count() == 1


def test_an_event_can_be_read_with_its_tags_and_what_was_sent(
    client: FlaskClient,
    work: Callable[[], None],
) -> None:
    sent = sample(issue="5")
    send(client, sent)
    work()
    (group,) = listed(client)
    (event,) = ask(client, f"/groups/{group['id']}/events").get_json()["events"]
    whole = ask(client, f"/events/{event['id']}").get_json()
    assert ["environment", "production"] in whole["tags"]
    assert whole["payload"] == json.loads(sent.body)


def test_the_legacy_plugin_is_authenticated_by_its_token_alone(
    client: FlaskClient,
    environ: dict[str, str],
    work: Callable[[], None],
) -> None:
    assert send(client, sample("legacy.modern", secret="guess"), f"{PATH}?token=guess").status_code == 401
    with session():
        tenants.add_secret("default", "legacy", "url-token", [FERNET_KEY])
    other = web_client.web(environ, ENCRYPTION_KEY=FERNET_KEY)
    assert send(other, sample("legacy.modern", secret="x"), f"{PATH}?token=wrong").status_code == 401
    assert send(other, sample("legacy.modern", secret="x"), PATH).status_code == 401
    assert send(other, sample("legacy.modern", secret="x"), f"{PATH}?token=url-token").status_code == 202
    work()
    assert [group["count"] for group in listed(client)] == [1]


def post_signed(client: FlaskClient, body: bytes) -> TestResponse:
    headers = {
        "Content-Type": "application/json",
        "Sentry-Hook-Resource": "event_alert",
        "Sentry-Hook-Signature": hmac.new(SECRET.encode(), body, "sha256").hexdigest(),
    }
    return client.post(PATH, data=body, headers=headers)


def test_one_id_follows_a_delivery_from_the_request_to_its_group(client: FlaskClient, work: Callable[[], None]) -> None:
    sent = sample(issue="5")
    with capture_logs() as lines:
        receipt = send(client, sent).get_json()
        work()
    (group,) = listed(client)
    answered, processed = (
        next(line for line in lines if line["event"] == event) for event in ("delivery answered", "delivery processed")
    )
    assert answered["delivery_id"] == processed["delivery_id"] == receipt["delivery_id"]
    both = {"workspace": "default", "source": "sentry", "resource": "event_alert", "bytes": len(sent.body)}
    assert both.items() <= answered.items()
    assert both.items() <= processed.items()
    assert (answered["stage"], answered["status"], answered["address"]) == ("receive", 202, "127.0.0.1")
    assert (processed["stage"], processed["group_id"], processed["decision"]) == ("store", group["id"], "new")
    assert processed["event_id"] > 0
    assert min(answered["duration_ms"], processed["duration_ms"]) > 0
