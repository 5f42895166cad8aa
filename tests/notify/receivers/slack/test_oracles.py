"""slack_sdk's models, which know Slack's limits, and the fake accept every form of a message, whatever its texts."""

from collections.abc import Iterator

import pytest
from slack_sdk.models.blocks import Block

from signalcraft.dev import fake_slack
from signalcraft.dev.fake_slack import FakeSlack
from signalcraft.notify.contract import Message, OutcomeKind, Secret
from signalcraft.notify.receivers.slack import SlackReceiver
from tests.support.messages import HOSTILE, every_form, group_message

FORMS = every_form() | {
    f"{status}, {name}": group_message(status=status, title=text, assignee_user_id=text, runbook_url=text, link=text)
    for status in ("open", "ack", "snoozed", "resolved")
    for name, text in HOSTILE.items()
}


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    with fake_slack.serving() as serving:
        yield serving


def _sent(slack: FakeSlack, message: Message) -> fake_slack.Message:
    receiver = SlackReceiver("alerts", Secret(slack.token), "C0ALERTS", Secret(slack.url))
    outcome = receiver.send(message)
    assert (outcome.kind, outcome.code) == (OutcomeKind.SENT, ""), "the form was refused, and sent as plain text"
    (stored,) = slack.messages()
    return stored


@pytest.mark.parametrize("name", FORMS)
def test_slacks_own_models_accept_the_blocks_of_every_form(slack: FakeSlack, name: str) -> None:
    message = _sent(slack, FORMS[name])
    for blocks in (message.blocks, *(each.get("blocks", []) for each in message.attachments)):
        parsed = Block.parse_all(list(blocks))
        assert [block.to_dict()["type"] for block in parsed] == [block["type"] for block in blocks]


@pytest.mark.parametrize("name", FORMS)
def test_no_text_of_a_sender_pings_anybody_or_links_anywhere(slack: FakeSlack, name: str) -> None:
    message = _sent(slack, FORMS[name])
    assert message.pings == []
    ours = ("https://alerts.example.org/", "https://sentry.io/", "https://wiki.example.org/")
    assert [link.target for link in message.links if not link.target.startswith(ours)] == []
