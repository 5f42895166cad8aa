"""Buttons of cards in Slack: a press changes the group, or says why not; and only Slack can press."""

import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient
from redis import Redis
from slack_sdk.signature import SignatureVerifier

from signalcraft.api import slack_requests, slack_routes
from signalcraft.api.slack_replies import SlackReplies
from signalcraft.dev import fake_slack
from signalcraft.dev.fake_slack import FakeSlack, Message, Press
from signalcraft.domain.alerts import Severity
from signalcraft.domain.errors import BadSignature, DatabaseUnavailable
from signalcraft.groups.reading import queries
from signalcraft.notify.delivery import Timing
from signalcraft.notify.notifier import Notifier
from signalcraft.notify.queries import insert_test
from signalcraft.storage.database import database, session
from tests.support import wsgi_server
from tests.support.builders import change_group, groups, pending_event, record
from tests.support.slack import buttons, notifier_of, read
from tests.support.waiting import wait_until
from tests.support.web_client import no_database, web

TIMING = Timing(lease=timedelta(), backoff=(0.0,), failed=0.0, rate_limited=0.0)
OLD_SECRET = "the-secret-before"


@dataclass
class World:
    """A fake Slack, a notifier that posts to it, and a web process that gets what is pressed."""

    slack: FakeSlack
    client: FlaskClient
    running: Notifier
    database_url: str = field(repr=False)

    def open_group(self, issue: str = "1", **fields: Any) -> int:  # noqa: ANN401 - of the alert
        event = pending_event(issue=issue, title=f"title {issue}", severity=Severity.HIGH, **fields)
        now = datetime.now(UTC)
        event = replace(event, alert=replace(event.alert, received_at=now))
        (group_id,) = record(event).group_ids
        self.running.run_until_idle()
        return group_id

    def press(self, message: Message, action: str, **options: Any) -> Press:  # noqa: ANN401 - of the fake
        press = self.slack.press(message, action, **options)
        self.running.run_until_idle()
        return press

    def send(self, body: bytes, **headers: str) -> int:
        signed = self.slack.sign(body)
        return self.client.post("/slack/actions", data=body, headers={**signed, **headers}).status_code

    def body_of(self, action: str, message: Message, **changes: object) -> bytes:
        payload = self.slack._payload(message, action, None, None, "U1") | changes
        return urlencode({"payload": json.dumps(payload)}).encode()

    @property
    def card(self) -> Message:
        return self.slack.messages()[0]

    def ephemerals(self) -> list[str]:
        wait_until(lambda: bool(self.slack.ephemerals))
        return [each.text for each in self.slack.ephemerals]


@pytest.fixture
def world(environ: dict[str, str], redis: Redis) -> Iterator[World]:  # noqa: ARG001 - for the workspace
    with ExitStack() as stack:
        slack = stack.enter_context(fake_slack.serving())
        secrets = f"{OLD_SECRET},{slack.signing_secret}"
        client = web(environ, SLACK_SIGNING_SECRET=secrets, SLACK_API_URL=slack.url)
        slack.request_url = stack.enter_context(wsgi_server.serving(client.application)) + "/slack/actions"
        yield World(slack, client, notifier_of(slack, TIMING), environ["DATABASE_URL"])


def status_of(group_id: int) -> str:
    return next(group.status for group in groups() if group.id == group_id)


def history_of(group_id: int) -> list[tuple[str, str, str]]:
    with session():
        page = queries.history(1, group_id, limit=10, after=None)
    return [(row["actor"], row["changed_by"], row["to_value"]) for row in page.rows if row["field"] == "status"]


def test_each_button_does_what_it_says_and_the_card_follows(world: World) -> None:
    group_id = world.open_group()
    assert buttons(world.card) == ["ack", "snooze", "resolve"]

    for action, status, shown, said in (
        ("ack", "ack", ["resolve", "snooze"], "Acknowledged by ann"),
        ("resolve", "resolved", ["reopen"], "Resolved by ann"),
        ("reopen", "open", ["ack", "snooze", "resolve"], "Reopened by ann"),
    ):
        press = world.press(world.card, action)
        assert (press.status, press.body) == (200, "")
        assert (status_of(group_id), buttons(world.card)) == (status, shown)
        assert said in read(world.card)
    assert len(world.slack.messages()) == 1
    assert history_of(group_id) == [("slack", "ann (U1)", status) for status in ("open", "resolved", "ack")]


def test_a_snooze_is_as_long_as_was_chosen(world: World) -> None:
    group_id = world.open_group()
    world.press(world.card, "snooze", option=f"{group_id}:14400")

    (group,) = groups()
    assert group.status == "snoozed"
    assert abs(group.snoozed_until - datetime.now(UTC) - timedelta(hours=4)) < timedelta(minutes=1)
    assert buttons(world.card) == ["reopen"]
    assert f"Snoozed by ann until {group.snoozed_until:%Y-%m-%d %H:%M}" in read(world.card)


def test_who_presses_what_another_one_has_done_is_told_that_alone(world: World) -> None:
    world.open_group()
    stale = world.card
    world.press(stale, "resolve", user="U1")
    press = world.press(stale, "resolve", user="U2")

    assert press.status == 200
    assert world.ephemerals() == ["Already resolved by ann, just now."]
    assert world.slack.ephemerals[0].user == "U2"


def test_who_presses_what_is_not_possible_is_told_why(world: World) -> None:
    group_id = world.open_group()
    stale = world.card
    world.press(stale, "resolve")
    press = world.press(stale, "ack", user="U2")

    assert (press.status, status_of(group_id)) == (200, "resolved")
    (told,) = world.ephemerals()
    assert told == "Already resolved by ann, just now. A resolved group cannot be acknowledged: reopen it first."


def test_the_same_request_twice_changes_nothing_more(world: World, clean_redis: Redis) -> None:
    group_id = world.open_group()
    body = world.body_of("resolve", world.card)
    signed = world.slack.sign(body)
    assert world.client.post("/slack/actions", data=body, headers=signed).status_code == 200
    change_group(group_id, status="open", resolved_at=None)
    assert world.client.post("/slack/actions", data=body, headers=signed).status_code == 200

    assert status_of(group_id) == "open"
    (key,) = clean_redis.keys("signalcraft:slack:*")
    assert 590 < clean_redis.ttl(key) <= 600


def test_without_redis_a_press_works_all_the_same(world: World, environ: dict[str, str]) -> None:
    group_id = world.open_group()
    client = web(environ, SLACK_SIGNING_SECRET=world.slack.signing_secret, REDIS_URL="redis://127.0.0.1:1/0")
    body = world.body_of("ack", world.card)

    assert client.post("/slack/actions", data=body, headers=world.slack.sign(body)).status_code == 200
    assert status_of(group_id) == "ack"


def test_without_postgresql_the_person_is_told_and_may_press_again(world: World) -> None:
    group_id = world.open_group()
    message = world.card
    with no_database(world.database_url):
        press = world.slack.press(message, "ack")
    assert (press.status, press.is_refused) == (503, True)
    assert world.press(message, "ack").status == 200
    assert status_of(group_id) == "ack"


def test_a_request_that_failed_may_be_sent_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its signature is not held against it."""
    group_id = world.open_group()
    body = world.body_of("ack", world.card)
    signed = world.slack.sign(body)

    def fail(*_: object) -> None:
        raise DatabaseUnavailable("of the test")

    with monkeypatch.context() as patch:
        patch.setattr(slack_routes.user_updates, "update_group", fail)
        assert world.client.post("/slack/actions", data=body, headers=signed).status_code == 503
    assert world.client.post("/slack/actions", data=body, headers=signed).status_code == 200
    assert status_of(group_id) == "ack"


def test_a_test_message_has_a_button_that_says_that_it_works(world: World) -> None:
    with session():
        insert_test("ops")
    world.running.run_until_idle()
    assert world.press(world.card, "test").status == 200
    assert world.ephemerals() == ["It works: SignalCraft got what you pressed."]


def test_a_message_whose_outcome_was_lost_can_be_pressed(world: World) -> None:
    """The notifier was killed after it had posted, so that the message has no name here."""
    world.open_group("1")
    group_id = world.open_group("2")
    orphan = world.slack.messages()[1]
    with session():
        database.execute_sql(
            "UPDATE notification SET external_id = NULL, external_channel = NULL WHERE alert_group_id = %s", (group_id,)
        )
    assert world.slack.press(orphan, "ack").status == 200
    assert status_of(group_id) == "ack"


def test_nothing_is_there_without_a_signing_secret(world: World, environ: dict[str, str]) -> None:
    world.open_group()
    body = world.body_of("ack", world.card)
    response = web(environ).post("/slack/actions", data=body, headers=world.slack.sign(body))
    assert (response.status_code, response.get_json()["code"]) == (404, "not_found")


NOT_OURS: Mapping[str, Mapping[str, object]] = {
    "team": {"team": {"id": "T0OTHER"}},
    "app": {"api_app_id": "A0OTHER"},
    "channel": {"channel": {"id": "C0OTHER"}},
    "no team": {"team": None},
    "channel of another form": {"channel": "C0ALERTS"},
    "unknown message": {"container": {}, "actions": [{"action_id": "ack", "value": "4711"}]},
}


def test_a_signed_press_that_is_no_receivers_is_refused(world: World) -> None:
    group_id = world.open_group()
    answers = {name: world.send(world.body_of("ack", world.card, **changes)) for name, changes in NOT_OURS.items()}

    assert answers == dict.fromkeys(NOT_OURS, 401)
    assert status_of(group_id) == "open"


def test_a_group_of_another_workspace_is_none(world: World) -> None:
    """The workspace is that of the message, whatever the value says."""
    world.open_group()
    with session():
        database.execute_sql("INSERT INTO workspace (slug) VALUES ('other')")
    (other,) = record(pending_event(issue="9", workspace_id=2)).group_ids
    body = world.body_of("ack", world.card, actions=[{"action_id": "ack", "value": str(other)}])

    assert world.send(body) == 200
    assert world.ephemerals() == ["SignalCraft does not have this group any more."]
    assert status_of(other) == "open"


def test_no_signed_body_is_an_error_of_ours(world: World) -> None:
    bodies = (
        b"",
        b"payload=",
        b"payload=%7B",
        b"payload=[]",
        b"payload=" + b"%5B" * 200,
        b"\xff\xfe",
        b"payload=%ff",
        b"&".join([b"payload=%7B%7D"] * 20),
        b"payload=%7B%22type%22%3A%22view_submission%22%7D",
        b"payload=%7B%22type%22%3A%22block_actions%22%2C%22actions%22%3A%5B1%5D%7D",
        b"payload=%7B%22type%22%3A%22block_actions%22%2C%22actions%22%3A%22ab%22%7D",
    )
    assert {world.send(body) for body in bodies} <= {200, 400, 401}


def test_a_body_that_is_too_large_or_has_no_length_is_refused(world: World) -> None:
    assert world.send(b"payload=" + b"a" * 300_000) == 413
    response = world.client.post(
        "/slack/actions", input_stream=io.BytesIO(b""), headers={"Transfer-Encoding": "chunked"}
    )
    assert response.status_code == 411


@pytest.mark.parametrize("secret", [OLD_SECRET, "fake-signing-secret"])
def test_each_live_secret_verifies(world: World, secret: str) -> None:
    group_id = world.open_group()
    world.slack.signing_secret = secret
    assert world.press(world.card, "ack").status == 200
    assert status_of(group_id) == "ack"


WRONG: Sequence[tuple[int, Mapping[str, str]]] = (
    (301, {}),
    (-330, {}),
    (0, {"X-Slack-Signature": "v0=" + "0" * 64}),
    (0, {"X-Slack-Signature": "v0=\u00e9"}),
    (0, {"X-Slack-Signature": ""}),
    (0, {"X-Slack-Request-Timestamp": "now"}),
    (0, {"X-Slack-Request-Timestamp": "\u0663"}),
    (0, {"X-Slack-Request-Timestamp": ""}),
    (0, {"X-Slack-Request-Timestamp": "9" * 400}),
)


def test_what_slack_did_not_sign_lately_is_a_401_without_a_word_more(world: World) -> None:
    group_id = world.open_group()
    body = world.body_of("ack", world.card)
    for age, changes in WRONG:
        headers = world.slack.sign(body, str(int(time.time()) - age))
        headers |= {name: value.encode().decode("latin-1") for name, value in changes.items()}
        response = world.client.post("/slack/actions", data=body, headers=headers)

        assert (response.status_code, status_of(group_id)) == (401, "open"), changes
        assert set(response.get_json()) == {"type", "title", "status", "code"}


@pytest.mark.parametrize("body", [b"payload=%7B%7D", b"", "payload=ü".encode()])
@pytest.mark.parametrize("age", [0, 299, 301, -301])
def test_slacks_own_verifier_says_the_same(body: bytes, age: int) -> None:
    now = time.time()
    moment = str(int(now) - age)
    verifier = SignatureVerifier("secret", clock=SimpleNamespace(now=lambda: now))  # type: ignore[arg-type]  # all it needs
    signature = verifier.generate_signature(timestamp=moment, body=body) or ""
    for offered in (signature, signature[:-1] + "x"):
        expected = verifier.is_valid(body, moment, offered)
        try:
            slack_requests.verify(body, signature=offered, time=moment, secrets=["other", "secret"], now=now)
            found = True
        except BadSignature:
            found = False
        assert found is expected


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.slack.com/actions/T0/x",
        "https://hooks.slack.com.evil.example/x",
        "https://hooks.slack.com@evil.example/x",
        "https://evil.example/x",
        "file:///etc/passwd",
        "https://hooks.slack.com:8443/x",
        "//hooks.slack.com/x",
        "https://hooks.slack.com/\n",
        "",
        "http://[",
    ],
)
def test_a_reply_goes_to_slack_alone(url: str) -> None:
    replies = SlackReplies("https://slack.com/api/")
    assert not replies._is_slack(url)
    assert replies._is_slack("https://hooks.slack.com/actions/T0/1/x")
