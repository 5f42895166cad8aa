"""Who is pinged and what is linked, as Slack's parser has it."""

from typing import Any

import pytest
from slack_sdk import WebClient

from signalcraft.dev.fake_slack import FakeSlack, markup


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _rich(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": list(elements)}]}


@pytest.mark.parametrize(
    ("content", "pings", "links"),
    [
        ({"text": "<!channel> <!here|here> <@U1> <!subteam^S1>"}, ["channel", "here", "U1", "S1"], []),
        (
            {"text": "<https://a.example|b> https://c.example <#C1>"},
            [],
            ["https://a.example", "C1", "https://c.example"],
        ),
        ({"text": "&lt;!channel&gt; @here"}, [], []),
        ({"text": "@here https://c.example", "link_names": True, "parse": "none"}, ["here"], []),
        ({"text": "<@U1> https://c.example", "blocks": [{"type": "divider"}]}, ["U1"], []),
        ({"text": "x", "blocks": [_mrkdwn("<@U1> <https://a.example>")]}, ["U1"], ["https://a.example"]),
        ({"text": "x", "blocks": [{"type": "header", "text": {"type": "plain_text", "text": "<!channel>"}}]}, [], []),
        ({"text": "x", "blocks": [_rich({"type": "text", "text": "<!channel> https://a.example"})]}, [], []),
        ({"text": "x", "blocks": [_rich({"type": "broadcast", "range": "here"})]}, ["here"], []),
        ({"text": "x", "blocks": [_rich({"type": "link", "url": "https://a.example"})]}, [], ["https://a.example"]),
        ({"text": "x", "attachments": [{"text": "<!here>", "blocks": [_mrkdwn("<@U2>")]}]}, ["here", "U2"], []),
        ({"text": "<!date^1795863686^{date}|then>"}, [], []),
    ],
)
def test_pings_and_links_are_found_where_slack_finds_them(
    slack: FakeSlack, client: WebClient, content: dict[str, Any], pings: list[str], links: list[str]
) -> None:
    client.chat_postMessage(channel="C0ALERTS", **content)
    (message,) = slack.messages()
    assert [each.target for each in message.pings] == pings
    assert [each.target for each in message.links] == links


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("*a* _b_ ~c~ `d`", "<b>a</b> <i>b</i> <s>c</s> <code>d</code>"),
        ("&lt;b&gt; <script>alert(1)</script>", "&lt;b&gt; scriptalert(1)/script"),
        ("<https://a.example/?x=1&amp;y=2|here>", '<a href="https://a.example/?x=1&amp;y=2" rel="noreferrer">here</a>'),
        ("<javascript:alert(1)|here>", "here"),
        ("<@U1> :warning: :none:", '<span class="ping">@U1</span> ⚠️ :none:'),
        ("<!date^0^{date_num} {time}|then>", "1970-01-01 00:00"),
    ],
)
def test_a_text_is_shown_as_slack_shows_it_and_never_as_html(text: str, html: str) -> None:
    assert str(markup.shown(text)) == html
