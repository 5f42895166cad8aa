"""The fake's page in a browser: it follows what happens, its buttons press, and everybody can read it."""

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, expect
from slack_sdk import WebClient

from signalcraft.dev.fake_slack import FakeSlack
from tests.support import http_server
from tests.support.browser import browser
from tests.support.browsing import Visitor, visit
from tests.support.waiting import wait_until


def _plain(text: str) -> dict[str, str]:
    return {"type": "plain_text", "text": text}


BLOCKS: list[dict[str, Any]] = [
    {"type": "header", "text": _plain("It broke")},
    {"type": "context", "elements": [_plain("payments · prod")]},
    {
        "type": "actions",
        "elements": [
            {"type": "button", "action_id": "ack", "text": _plain("Acknowledge"), "value": "41", "style": "primary"},
            {"type": "button", "action_id": "drop", "text": _plain("Resolve"), "value": "41", "style": "danger"},
            {
                "type": "static_select",
                "action_id": "snooze",
                "placeholder": _plain("Snooze"),
                "options": [{"text": _plain("1 hour"), "value": "1h"}, {"text": _plain("1 day"), "value": "1d"}],
            },
        ],
    },
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as launched:
        yield launched


@pytest.fixture
def visitor(slack: FakeSlack, client: WebClient, chromium: Browser) -> Iterator[Visitor]:
    """Somebody who looks at a channel with a card and a reply to it."""
    attachments = [{"color": "#b3261e", "blocks": BLOCKS}]
    card = client.chat_postMessage(channel="C0ALERTS", text="the card", attachments=attachments)
    text = "<https://alerts.example.org|It broke> `code` <@U1>"
    client.chat_postMessage(channel="C0ALERTS", text=text, thread_ts=card["ts"], reply_broadcast=True)
    with http_server.serving() as app:
        slack.request_url = f"{app.url}/slack/actions"
        visitor = visit(chromium, slack.root.rstrip("/"))
        visitor.open("/channels/alerts")
        yield visitor
        visitor.check()
        visitor.context.close()


@pytest.fixture
def page(visitor: Visitor) -> Page:
    return visitor.page


def test_a_pressed_button_and_a_chosen_option_reach_the_app(slack: FakeSlack, page: Page) -> None:
    page.get_by_role("button", name="Acknowledge").click()
    wait_until(lambda: len(slack.presses) == 1)
    page.wait_for_url("**/channels/alerts#*")
    page.get_by_role("combobox", name="Snooze").select_option("1 day")
    wait_until(lambda: [(press.user, press.status) for press in slack.presses] == [("U1", 200)] * 2)
    expect(page.locator("article")).to_have_count(3)


def test_the_page_follows_edits_and_new_messages_and_leaves_a_thread_open(
    slack: FakeSlack, client: WebClient, page: Page
) -> None:
    page.locator("summary").click()
    client.chat_update(channel="C0ALERTS", ts=slack.messages()[0].ts, text="It is resolved", attachments=[])
    slack.whisper("C0ALERTS", "U1", "only for you", slack.messages()[0].ts)
    client.chat_postMessage(channel="C0ALERTS", text="another one")
    for text in ("It is resolved", "only for you", "another one"):
        expect(page.get_by_text(text).first).to_be_visible()
    expect(page.locator("details[open]")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_and_use_it(slack: FakeSlack, visitor: Visitor, scheme: Literal["light", "dark"]) -> None:
    slack.whisper("C0ALERTS", "U1", "only for you", slack.messages()[0].ts)
    visitor.page.emulate_media(color_scheme=scheme)
    for path in ("/channels/alerts", "/"):
        page = visitor.open(path)
        for thread in page.locator("summary").all():
            thread.click()
        visitor.check_accessibility()
