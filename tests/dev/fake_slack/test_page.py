"""What a person sees on the fake's page, without a browser; test_browser.py has one."""

import urllib3
from slack_sdk import WebClient

from signalcraft.dev.fake_slack import FakeSlack

BUTTON = {"type": "button", "action_id": "ack", "value": "41", "text": {"type": "plain_text", "text": "Acknowledge"}}
HOSTILE = "<script>alert(1)</script> <!channel> <javascript:alert(1)|x> \"'& {{ slack.token }}"


def _get(url: str) -> str:
    with urllib3.PoolManager() as pool:
        answer = pool.request("GET", url)
    assert answer.status == 200
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    return answer.data.decode()


def _press(slack: FakeSlack, **fields: str) -> urllib3.BaseHTTPResponse:
    with urllib3.PoolManager() as pool:
        url = f"{slack.page}channels/alerts"
        return pool.request("POST", url, fields=fields, encode_multipart=False, redirect=False)


def test_the_first_page_lists_the_channels_and_says_where_the_api_is(slack: FakeSlack) -> None:
    slack.add_channel("secret", is_private=True)
    page = _get(slack.page)
    assert all(text in page for text in ("alerts", "payments", "secret", "C0ALERTS", slack.url))


def test_a_channel_shows_its_messages_with_what_happened_to_them(slack: FakeSlack, client: WebClient) -> None:
    root = client.chat_postMessage(channel="C0ALERTS", text="first")["ts"]
    client.chat_update(channel="C0ALERTS", ts=root, text="second")
    client.chat_postMessage(channel="C0ALERTS", text="quiet reply", thread_ts=root)
    client.chat_postMessage(channel="C0ALERTS", text="loud reply", thread_ts=root, reply_broadcast=True)
    page = _get(f"{slack.page}channels/alerts")
    assert "first" not in page
    assert all(text in page for text in ("second", "(edited)", "2 replies", "replied to a thread"))
    assert (page.count("quiet reply"), page.count("loud reply")) == (1, 2)


def test_no_text_of_a_message_becomes_part_of_the_page(slack: FakeSlack, client: WebClient) -> None:
    plain = {"type": "plain_text", "text": HOSTILE}
    rich = {
        "type": "rich_text",
        "elements": [{"type": "rich_text_section", "elements": [{"type": "text", "text": HOSTILE}]}],
    }
    blocks = [
        {"type": "header", "text": plain},
        {"type": "section", "text": {"type": "mrkdwn", "text": HOSTILE}, "fields": [plain]},
        {"type": "context", "elements": [plain]},
        rich,
    ]
    client.chat_postMessage(channel="C0ALERTS", text=HOSTILE)
    client.chat_postMessage(
        channel="C0ALERTS",
        text="x",
        blocks=blocks,
        attachments=[{"color": '"><script>', "title": HOSTILE, "title_link": "javascript:alert(1)", "text": HOSTILE}],
    )
    slack.whisper("C0ALERTS", "U1", HOSTILE, slack.messages()[0].ts)
    page = _get(f"{slack.page}channels/alerts")
    assert page.count("<script") == 1  # the page's own
    assert 'href="javascript' not in page
    assert slack.token not in page


def test_a_button_on_the_page_presses_and_the_page_says_what_came_of_it(slack: FakeSlack, client: WebClient) -> None:
    slack.request_url = "http://127.0.0.1:9/slack/actions"  # where no server listens
    client.chat_postMessage(channel="C0ALERTS", text="x", blocks=[{"type": "actions", "elements": [BUTTON]}])
    (message,) = slack.messages()
    answer = _press(slack, ts=message.ts, action_id="ack", value="41")
    assert (answer.status, answer.headers["Location"]) == (303, f"/channels/alerts#m{message.ts}")
    page = _get(f"{slack.page}channels/alerts")
    assert "Only visible to ann" in page
    assert "This app did not respond." in page


def test_a_button_that_is_gone_cannot_be_pressed_from_an_old_page(slack: FakeSlack, client: WebClient) -> None:
    ts = client.chat_postMessage(channel="C0ALERTS", text="x")["ts"]
    assert _press(slack, ts=ts, action_id="ack", value="41").status == 409
    assert _press(slack, ts="1.0", action_id="ack", value="41").status == 409
    assert slack.presses == []
