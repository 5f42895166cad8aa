"""The fake answers Slack's own client as Slack does."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from signalcraft.dev.fake_slack import FakeSlack, RateLimit, faults

CHANNEL = "C0ALERTS"
METADATA = {"event_type": "notification", "event_payload": {"id": "41"}}


def _error(call: Callable[..., object], **arguments: object) -> str:
    with pytest.raises(SlackApiError) as caught:
        call(**arguments)
    code: str = caught.value.response["error"]
    return code


def test_the_token_says_whose_it_is_and_what_it_may(client: WebClient) -> None:
    answer = client.auth_test()
    assert (answer["team_id"], answer["bot_id"], answer["user_id"]) == ("T0FAKE", "B0FAKE", "U0BOT")
    assert answer.headers["x-oauth-scopes"] == "channels:history,chat:write,chat:write.public"


def test_a_message_is_posted_edited_and_read_with_its_metadata(slack: FakeSlack, client: WebClient) -> None:
    posted = client.chat_postMessage(channel=CHANNEL, text="open", metadata=METADATA)
    client.chat_update(channel=posted["channel"], ts=posted["ts"], text="resolved")
    (read,) = client.conversations_history(channel=CHANNEL, include_all_metadata=True, limit=5)["messages"]
    assert (read["text"], read["ts"], read["metadata"]) == ("resolved", posted["ts"], METADATA)
    assert "metadata" not in client.conversations_history(channel=CHANNEL)["messages"][0]
    assert [(message.text, message.edits) for message in slack.messages()] == [("resolved", 1)]


def test_an_edit_keeps_the_blocks_and_attachments_it_does_not_name(slack: FakeSlack, client: WebClient) -> None:
    blocks = [{"type": "divider"}]
    posted = client.chat_postMessage(channel=CHANNEL, text="open", blocks=blocks, attachments=[{"text": "more"}])
    client.chat_update(channel=CHANNEL, ts=posted["ts"], text="plain", attachments=[])
    assert (slack.messages()[0].blocks, slack.messages()[0].attachments) == (blocks, ())


def test_history_has_the_newest_first_from_a_moment_on_and_in_pages(client: WebClient) -> None:
    stamps = [client.chat_postMessage(channel=CHANNEL, text=str(number))["ts"] for number in range(4)]
    page = client.conversations_history(channel=CHANNEL, limit=2, oldest=stamps[0])
    assert [each["text"] for each in page["messages"]] == ["3", "2"]
    rest = client.conversations_history(
        channel=CHANNEL, limit=2, oldest=stamps[0], cursor=page["response_metadata"]["next_cursor"]
    )
    assert ([each["text"] for each in rest["messages"]], rest["has_more"]) == (["1"], False)


def test_a_reply_is_in_its_thread_and_only_a_broadcast_in_the_channel_too(slack: FakeSlack, client: WebClient) -> None:
    root = client.chat_postMessage(channel=CHANNEL, text="root")["ts"]
    client.chat_postMessage(channel=CHANNEL, text="quiet", thread_ts=root)
    client.chat_postMessage(channel=CHANNEL, text="loud", thread_ts=root, reply_broadcast=True)
    assert [each["text"] for each in client.conversations_history(channel=CHANNEL)["messages"]] == ["loud", "root"]
    replies = client.conversations_replies(channel=CHANNEL, ts=root)["messages"]
    assert [each["text"] for each in replies] == ["root", "quiet", "loud"]
    assert [each.is_broadcast for each in slack.messages()] == [False, False, True]


def test_a_form_is_as_good_as_json(slack: FakeSlack) -> None:
    fields = {"channel": "#alerts", "text": "hello", "blocks": json.dumps([{"type": "divider"}]), "token": slack.token}
    with urllib3.PoolManager() as pool:
        answer = pool.request("POST", f"{slack.url}chat.postMessage", fields=fields, encode_multipart=False).json()
    assert (answer["ok"], answer["channel"]) == (True, CHANNEL)
    assert slack.messages()[0].blocks == [{"type": "divider"}]


def test_whoever_has_no_right_is_told_which(slack: FakeSlack, client: WebClient) -> None:
    stranger = WebClient(token="xoxb-another", base_url=slack.url, retry_handlers=[])
    assert _error(stranger.auth_test) == "invalid_auth"
    assert _error(WebClient(base_url=slack.url, retry_handlers=[]).auth_test) == "not_authed"
    assert _error(client.conversations_info, channel=CHANNEL) == "missing_scope"
    slack.scopes = {"chat:write", "channels:read"}
    assert client.conversations_info(channel=CHANNEL)["channel"]["name"] == "alerts"
    assert _error(client.conversations_history, channel=CHANNEL) == "missing_scope"


def test_a_channel_refuses_as_slacks_do(slack: FakeSlack, client: WebClient) -> None:
    slack.add_channel("secret", is_private=True, is_member=False)
    slack.add_channel("public", is_member=False)
    slack.add_channel("old", is_archived=True)
    assert _error(client.chat_postMessage, channel="C0NONE", text="x") == "channel_not_found"
    assert _error(client.chat_postMessage, channel="C0SECRET", text="x") == "channel_not_found"
    assert _error(client.chat_postMessage, channel="C0OLD", text="x") == "is_archived"
    assert _error(client.conversations_history, channel="C0PUBLIC") == "not_in_channel"
    assert client.chat_postMessage(channel="C0PUBLIC", text="x")["ok"]
    slack.scopes.remove("chat:write.public")
    assert _error(client.chat_postMessage, channel="C0PUBLIC", text="x") == "not_in_channel"
    assert _error(client.chat_update, channel=CHANNEL, ts="1.0", text="x") == "message_not_found"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"text": ""}, "no_text"),
        ({"text": "x" * 40_001}, "msg_too_long"),
        ({"text": "x", "metadata": {"event_type": "x"}}, "invalid_metadata_schema"),
        ({"text": "x", "attachments": [{"text": "x"}] * 101}, "too_many_attachments"),
        ({"text": "x", "attachments": [{"blocks": [{"type": "header"}]}]}, "invalid_attachments"),
        ({"text": "x", "blocks": "{"}, "invalid_blocks_format"),
        (
            {"text": "x", "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 2_500}}] * 5},
            "msg_blocks_too_long",
        ),
    ],
)
def test_a_message_that_slack_would_refuse_is_refused(client: WebClient, content: dict[str, Any], code: str) -> None:
    assert _error(client.api_call, api_method="chat.postMessage", json={"channel": CHANNEL, **content}) == code


def test_the_text_of_an_edit_may_be_shorter_than_that_of_a_post(client: WebClient) -> None:
    posted = client.chat_postMessage(channel=CHANNEL, text="x" * 4_001)
    assert _error(client.chat_update, channel=CHANNEL, ts=posted["ts"], text="x" * 4_001) == "msg_too_long"


def test_with_the_rate_limit_on_a_channel_takes_a_burst_then_one_message_a_second(
    slack: FakeSlack, client: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "time", SimpleNamespace(monotonic=lambda: 0.0))
    slack.rate_limit = RateLimit(burst=2)
    for _ in range(2):
        client.chat_postMessage(channel=CHANNEL, text="x")
    with pytest.raises(SlackApiError) as caught:
        client.chat_postMessage(channel=CHANNEL, text="x")
    assert (caught.value.response.status_code, caught.value.response.headers["retry-after"]) == (429, "1")
    assert client.chat_postMessage(channel="C0PAYMENTS", text="x")["ok"]
    assert len(slack.messages()) == 2
