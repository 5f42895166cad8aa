"""slack_sdk's models, which know Slack's limits, and the fake accept the blocks of a card whatever its texts are."""

from collections.abc import Iterator

import pytest
from slack_sdk.models.blocks import Block

from signalcraft.dev import fake_slack
from signalcraft.dev.fake_slack import FakeSlack
from signalcraft.notify.contract import OutcomeKind, Secret
from signalcraft.notify.receivers.slack import SlackReceiver
from tests.support.messages import HOSTILE, group_message


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    with fake_slack.serving() as serving:
        yield serving


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_slacks_own_models_accept_a_card_of_hostile_texts(slack: FakeSlack, text: str) -> None:
    receiver = SlackReceiver("alerts", Secret(slack.token), "C0ALERTS", Secret(slack.url))
    for status in ("open", "ack", "snoozed", "resolved"):
        outcome = receiver.send(
            group_message(status=status, title=text, assignee_user_id=text, runbook_url=text, link=text)
        )
        assert (outcome.kind, outcome.code) == (OutcomeKind.SENT, ""), "the form was refused, and sent as plain text"
    for message in slack.messages():
        for blocks in (message.blocks, *(each["blocks"] for each in message.attachments)):
            parsed = Block.parse_all(list(blocks))
            assert [block.to_dict()["type"] for block in parsed] == [block["type"] for block in blocks]
