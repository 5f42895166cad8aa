"""People press buttons on the fake, and it asks the app as Slack does."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest
import urllib3
from slack_sdk import WebClient
from slack_sdk.signature import SignatureVerifier

from signalcraft.dev.fake_slack import FakeSlack, Message
from tests.support import http_server
from tests.support.http_server import HttpServer

PLAIN = {"type": "plain_text", "text": "x"}
BUTTONS: list[dict[str, Any]] = [
    {
        "type": "actions",
        "block_id": "group",
        "elements": [
            {"type": "button", "action_id": "ack", "text": PLAIN, "value": "41"},
            {
                "type": "static_select",
                "action_id": "snooze",
                "placeholder": PLAIN,
                "options": [{"text": PLAIN, "value": "1h"}, {"text": PLAIN, "value": "1d"}],
            },
        ],
    }
]


@pytest.fixture
def app(slack: FakeSlack) -> Iterator[HttpServer]:
    """What Slack calls when a button is pressed."""
    with http_server.serving() as server:
        slack.request_url = f"{server.url}/slack/actions"
        yield server


@pytest.fixture
def message(slack: FakeSlack, client: WebClient) -> Message:
    attachments = [{"color": "#e01e5a", "blocks": BUTTONS}]
    client.chat_postMessage(channel="C0ALERTS", text="a card", attachments=attachments)
    return slack.messages()[0]


def _payload(app: HttpServer) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(parse_qs(app.requests[-1].body.decode())["payload"][0])
    return payload


def test_a_press_is_a_signed_form_with_who_pressed_what(slack: FakeSlack, app: HttpServer, message: Message) -> None:
    press = slack.press(message, "ack")
    assert (press.status, press.body, press.is_refused) == (200, "ok", False)
    request, payload = app.requests[0], _payload(app)
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert SignatureVerifier(slack.signing_secret).is_valid_request(request.body, dict(request.headers))
    assert (payload["type"], payload["team"]["id"], payload["api_app_id"]) == ("block_actions", "T0FAKE", "A0FAKE")
    assert (payload["user"]["id"], payload["user"]["name"]) == ("U1", "ann")
    assert (payload["channel"]["id"], payload["message"]["ts"]) == ("C0ALERTS", message.ts)
    (action,) = payload["actions"]
    assert (action["action_id"], action["block_id"], action["value"]) == ("ack", "group", "41")


def test_an_option_is_chosen_by_its_value(slack: FakeSlack, app: HttpServer, message: Message) -> None:
    slack.press(message, "snooze", option="1d", user="U2")
    (action,) = _payload(app)["actions"]
    assert (action["selected_option"]["value"], _payload(app)["user"]["name"]) == ("1d", "ben")
    assert "options" not in action


def test_what_a_message_does_not_have_cannot_be_pressed(
    slack: FakeSlack, client: WebClient, app: HttpServer, message: Message
) -> None:
    for action_id, option in (("resolve", None), ("snooze", "7d"), ("snooze", None)):
        with pytest.raises(LookupError):
            slack.press(message, action_id, option=option)
    client.chat_update(channel=message.channel_id, ts=message.ts, text="resolved", attachments=[])
    with pytest.raises(LookupError):
        slack.press(slack.messages()[0], "ack")
    assert slack.press(message, "ack").status == 200  # an old client still shows the old button
    assert len(app.requests) == 1


def test_an_answer_by_response_url_is_seen_by_whoever_pressed_five_times_at_most(
    slack: FakeSlack, app: HttpServer, message: Message
) -> None:
    slack.press(message, "ack", user="U2")
    url = _payload(app)["response_url"]
    with urllib3.PoolManager() as pool:
        answers = [pool.request("POST", url, json={"text": "already resolved"}).status for _ in range(6)]
    assert answers == [200] * 5 + [404]
    assert [(each.user, each.text, each.ts) for each in slack.ephemerals[:1]] == [
        ("U2", "already resolved", message.ts)
    ]


def test_a_press_that_is_refused_or_not_answered_is_said_to_be(
    slack: FakeSlack, app: HttpServer, message: Message
) -> None:
    app.behaviours += [http_server.answer(503), http_server.close]
    assert [slack.press(message, "ack").status for _ in range(2)] == [503, None]
    assert all(press.is_refused for press in slack.presses)
