"""The kind slack: posted once, edited in place, found again, and whatever Slack answers has a meaning."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from slack_sdk.models.blocks import ActionsBlock, Block, ContextBlock, SectionBlock

from signalcraft.dev import fake_slack
from signalcraft.dev.fake_slack import FakeSlack, Fault, FaultKind
from signalcraft.domain.errors import InvalidSetting
from signalcraft.notify import config, slack_buttons
from signalcraft.notify.contract import Message, OutcomeKind, Receiver, Reply
from signalcraft.notify.receivers.slack import card, errors
from signalcraft.notify.slack_buttons import Action
from tests.notify.receivers.conftest import receiver_of as configured
from tests.support import http_server
from tests.support.messages import HOSTILE, digest_message, every_form, group_message, own_test_message
from tests.support.slack import buttons, read, receiver_of

CLASSES = {
    "invalid_auth": OutcomeKind.BROKEN,
    "account_inactive": OutcomeKind.BROKEN,
    "token_revoked": OutcomeKind.BROKEN,
    "missing_scope": OutcomeKind.BROKEN,
    "channel_not_found": OutcomeKind.BROKEN,
    "is_archived": OutcomeKind.BROKEN,
    "not_in_channel": OutcomeKind.BROKEN,
    "restricted_action": OutcomeKind.BROKEN,
    "internal_error": OutcomeKind.UNKNOWN,
    "fatal_error": OutcomeKind.UNKNOWN,
    "service_unavailable": OutcomeKind.RETRY,
    "message_limit_exceeded": OutcomeKind.RETRY,
    "a_new_error_of_slack": OutcomeKind.RETRY,
    "ratelimited": OutcomeKind.RATE_LIMITED,
}


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    with fake_slack.serving() as serving:
        yield serving


@pytest.fixture
def ops(slack: FakeSlack) -> Receiver:
    return receiver_of(slack)


def now(**fields: Any) -> Message:  # noqa: ANN401 - of the group
    """A message of this moment, as the look-up of earlier attempts needs it."""
    return replace(group_message(mode="card", **fields), attempted_at=datetime.now(UTC))


def methods(slack: FakeSlack) -> list[str]:
    return [call.method for call in slack.calls]


def fail(slack: FakeSlack, error: str, *, method: str = "chat.*", times: int = 1) -> None:
    slack.faults.add(Fault(kind=FaultKind.ERROR, error=error, method=method, times=times))


def test_a_card_is_posted_once_and_edited_after_that(slack: FakeSlack, ops: Receiver) -> None:
    posted = ops.send(now())
    edited = ops.send(
        replace(now(status="ack"), external_id=posted.external_id, external_channel=posted.external_channel)
    )

    (message,) = slack.messages()
    assert (message.edits, posted.external_id, edited.external_id) == (1, message.ts, message.ts)
    assert (posted.external_channel, posted.external_account) == ("C0ALERTS", "T0FAKE A0FAKE")
    assert methods(slack) == ["chat.postMessage", "chat.update"]
    assert "Acknowledged" in read(message)


@pytest.mark.parametrize(
    ("status", "colour", "shown"),
    [
        ("open", "#b3261e", ["ack", "snooze", "resolve"]),
        ("ack", "#e0a100", ["resolve", "snooze"]),
        ("snoozed", "#8a9199", ["reopen"]),
        ("resolved", "#2b7a3e", ["reopen"]),
    ],
)
def test_colour_and_buttons_are_those_of_the_status(
    slack: FakeSlack, ops: Receiver, status: str, colour: str, shown: list[str]
) -> None:
    ops.send(now(status=status))
    (message,) = slack.messages()
    assert (message.attachments[0]["color"], buttons(message)) == (colour, shown)


def test_a_card_says_where_how_often_and_of_what_it_is_a_regression_and_links(slack: FakeSlack, ops: Receiver) -> None:
    ops.send(
        now(previous_group_id=7, previous_resolved_at=now().attempted_at, runbook_url="https://wiki.example.org/x")
    )
    (message,) = slack.messages()
    text = read(message)
    assert "payments · prod · high · 41 alerts since 2026-03-01 12:00 UTC · regression of #7, resolved" in text
    assert {link.target for link in message.links} == {
        "https://alerts.example.org/alerts/41",
        "https://sentry.io/organizations/acme/issues/1/",
        "https://wiki.example.org/x",
    }


@pytest.mark.parametrize(("error", "kind"), CLASSES.items())
def test_each_error_of_slack_has_a_meaning(slack: FakeSlack, ops: Receiver, error: str, kind: OutcomeKind) -> None:
    fail(slack, error)
    outcome = ops.send(now())
    assert (outcome.kind, slack.messages()) == (kind, [])
    assert outcome.code == (f"slack_{error}" if error in errors.SLACK_ERRORS else "slack_error")
    assert outcome.detail == error


def test_retry_after_is_told(slack: FakeSlack, ops: Receiver) -> None:
    slack.faults.add(Fault(kind=FaultKind.RATE_LIMITED, retry_after=17, times=1))
    outcome = ops.send(now())
    assert (outcome.kind, outcome.retry_after) == (OutcomeKind.RATE_LIMITED, 17)


@pytest.mark.parametrize("error", sorted(errors.FORM))
def test_a_form_that_is_refused_arrives_as_plain_text(slack: FakeSlack, ops: Receiver, error: str) -> None:
    fail(slack, error)
    posted = ops.send(now())
    fail(slack, error)
    edited = ops.send(replace(now(status="ack"), external_id=posted.external_id))

    (message,) = slack.messages()
    assert [(outcome.kind, outcome.code) for outcome in (posted, edited)] == [(OutcomeKind.SENT, "plain_text")] * 2
    assert (list(message.blocks), list(message.attachments), message.edits) == ([], [], 1)
    assert "TypeError: cannot read property" in message.text
    assert "Acknowledged" in message.text


def test_a_plain_text_that_is_refused_is_refused(slack: FakeSlack, ops: Receiver) -> None:
    fail(slack, "msg_too_long", times=2)
    assert ops.send(now()).kind is OutcomeKind.REFUSED


@pytest.mark.parametrize("error", sorted(errors.GONE))
def test_a_card_that_is_gone_is_posted_anew_once(slack: FakeSlack, ops: Receiver, error: str) -> None:
    fail(slack, error, method="chat.update")
    outcome = ops.send(replace(now(), external_id="1.000001", external_channel="C0ALERTS"))
    assert methods(slack)[-1:] == ["chat.postMessage"]
    assert [message.ts for message in slack.messages()] == [outcome.external_id]


@pytest.mark.parametrize("kind", [FaultKind.RESET, FaultKind.HANG, FaultKind.STATUS], ids=str)
def test_a_message_that_has_arrived_is_found_and_says_what_is_so_now(
    slack: FakeSlack, ops: Receiver, kind: FaultKind
) -> None:
    slack.faults.add(Fault(kind=kind, is_accepted=True, times=1, hang_seconds=5.5))
    assert ops.send(now()).kind in (OutcomeKind.UNKNOWN, OutcomeKind.RETRY)
    second = ops.send(replace(now(status="ack"), may_have_arrived=True))

    (message,) = slack.messages()
    assert (second.kind, second.external_id, message.edits) == (OutcomeKind.SENT, message.ts, 1)
    assert "Acknowledged" in read(message)


def test_a_message_that_has_not_arrived_is_posted_after_the_look_up(slack: FakeSlack, ops: Receiver) -> None:
    ops.send(replace(now(), key="another"))
    outcome = ops.send(replace(now(), may_have_arrived=True))
    assert (outcome.kind, outcome.code, len(slack.messages())) == (OutcomeKind.SENT, "", 2)
    assert methods(slack) == ["chat.postMessage", "conversations.history", "chat.postMessage"]


def test_a_message_that_is_found_and_cannot_be_edited_is_posted_again(slack: FakeSlack, ops: Receiver) -> None:
    """It is of an app that was installed before."""
    ops.send(now())
    fail(slack, "cant_update_message", method="chat.update")
    outcome = ops.send(replace(now(), may_have_arrived=True))
    assert (outcome.kind, outcome.external_id) == (OutcomeKind.SENT, slack.messages()[1].ts)


def test_a_busy_channel_is_looked_through(slack: FakeSlack, ops: Receiver) -> None:
    ops.send(now())
    channel = slack.channel("alerts")
    for number in range(450):
        slack.post(channel, {"text": str(number)})
    assert ops.send(replace(now(), may_have_arrived=True)).external_id == slack.messages()[0].ts
    assert methods(slack).count("conversations.history") == 3


def test_without_the_scope_a_message_is_posted_again_and_that_is_said(slack: FakeSlack, ops: Receiver) -> None:
    slack.scopes = {"chat:write"}
    ops.send(now())
    outcome = ops.send(replace(now(), may_have_arrived=True))
    assert (outcome.kind, outcome.code, len(slack.messages())) == (OutcomeKind.SENT, "look_up_not_allowed", 2)


@pytest.mark.parametrize("error", ["internal_error", "a_new_error_of_slack", "service_unavailable"])
def test_a_look_up_that_fails_posts_nothing(slack: FakeSlack, ops: Receiver, error: str) -> None:
    fail(slack, error, method="conversations.history")
    outcome = ops.send(replace(now(), may_have_arrived=True))
    assert (outcome.kind, slack.messages()) == (OutcomeKind.RETRY, [])
    assert outcome.code.startswith("look_up_slack_")


@pytest.mark.parametrize("is_broadcast", [True, False])
def test_a_reply_is_in_the_thread_and_is_found_again(slack: FakeSlack, ops: Receiver, *, is_broadcast: bool) -> None:
    parent = ops.send(now())
    reply = replace(
        now(),
        card=None,
        reply=Reply(is_broadcast=is_broadcast),
        external_id=parent.external_id,
        external_channel=parent.external_channel,
        key="of the reply",
        text="Its severity is critical now.",
    )
    first = ops.send(reply)
    second = ops.send(replace(reply, may_have_arrived=True))

    _, message = slack.messages()
    assert (message.thread_ts, message.is_broadcast) == (parent.external_id, is_broadcast)
    assert (first.external_id, second.external_id, message.edits) == (message.ts, message.ts, 0)
    assert "Its severity is critical now." in read(message)


def test_a_digest_names_ten_and_links_the_rest(slack: FakeSlack, ops: Receiver) -> None:
    ops.send(digest_message(80))
    (message,) = slack.messages()
    links = [link.target for link in message.links]
    assert links == [
        *(f"https://alerts.example.org/alerts/{number}" for number in range(1, 11)),
        "https://alerts.example.org/alerts?status=open",
    ]
    assert "80 groups open" in read(message)


def test_a_test_message_has_a_button(slack: FakeSlack, ops: Receiver) -> None:
    ops.send(own_test_message())
    assert buttons(slack.messages()[0]) == ["test"]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nobody_is_pinged_nothing_is_refused_and_no_link_is_made(slack: FakeSlack, ops: Receiver, text: str) -> None:
    hostile = {"title": text, "project": text or "p", "environment": text or "e", "assignee_user_id": text}
    hostile |= {"status_by": text, "status_at": now().attempted_at, "status_actor": "slack", "status_to": "ack"}
    hostile |= {"status_note": text}
    plain = {"link": None}
    forms = [now(**hostile, **plain), now(status="ack", **hostile, **plain), digest_message(12, **hostile)]
    forms += [replace(forms[0], card=None, reply=Reply(is_broadcast=False), external_id=None)]
    outcomes = [ops.send(form) for form in forms[:3]]
    outcomes.append(ops.send(replace(forms[3], external_id=outcomes[0].external_id)))
    fail(slack, "invalid_blocks")
    outcomes.append(ops.send(replace(forms[0], key="plain")))

    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.SENT] * 5
    assert [outcome.code for outcome in outcomes] == [""] * 4 + ["plain_text"]
    ours = "https://alerts.example.org/"
    for message in slack.messages():
        assert message.pings == []
        assert [link for link in message.links if not link.target.startswith(ours)] == []


@pytest.mark.parametrize("form", every_form())
def test_slacks_own_models_accept_the_blocks(form: str) -> None:
    """An oracle: slack_sdk checks lengths and numbers."""
    rendered = card.render(every_form()[form])
    blocks = [*rendered["blocks"], *(block for each in rendered["attachments"] for block in each["blocks"])]
    known = {"actions": ActionsBlock, "context": ContextBlock, "section": SectionBlock}
    for block in blocks:
        model = known.get(block["type"])
        parsed = model(**{key: value for key, value in block.items() if key != "type"}) if model else Block.parse(block)
        assert parsed is not None
        parsed.validate_json()


@pytest.mark.parametrize(
    ("source", "words"),
    [("sentry", "Sentry"), ("alertmanager", "Alertmanager"), ("generic", "the source"), ("newer", "the source")],
)
def test_the_link_to_its_source_names_it_as_people_write_it(source: str, words: str) -> None:
    rendered = card.render(group_message(source=source))
    assert f"'Show in {words}'" in str(rendered["attachments"])


def test_what_is_pressed_is_what_was_shown() -> None:
    for status, actions in slack_buttons._SHOWN.items():
        elements = slack_buttons.block_of_group({"id": 41, "status": status})["elements"]
        for element, action in zip(elements, actions, strict=True):
            options = element.pop("options", [None])
            for option in options:
                choice = slack_buttons.choice_of(element | ({"selected_option": option} if option else {}))
                assert choice is not None
                assert (choice.action, choice.group_id, choice.snooze is None) == (action, 41, option is None)


@pytest.mark.parametrize(
    "pressed",
    [
        {},
        {"action_id": "ack"},
        {"action_id": "ack", "value": 41},
        {"action_id": "ack", "value": "41:60"},
        {"action_id": "ack", "value": "-1"},
        {"action_id": "ack", "value": "0"},
        {"action_id": "ack", "value": "9" * 30},
        {"action_id": "ack", "value": "41; DROP TABLE"},
        {"action_id": "snooze", "value": "41"},
        {"action_id": "snooze", "selected_option": {"value": "41:99999999"}},
        {"action_id": ["ack"], "value": "41"},
        {"action_id": "delete", "value": "41"},
    ],
)
def test_what_is_no_button_of_ours_means_nothing(pressed: dict[str, object]) -> None:
    assert slack_buttons.choice_of(pressed) is None


def test_each_action_has_a_label() -> None:
    assert set(slack_buttons._LABELS) == set(Action)


def test_a_redirect_is_not_followed() -> None:
    """The token would go with it."""
    with http_server.serving() as server:
        server.behaviours.append(http_server.answer(302, Location="/elsewhere"))
        outcome = configured("slack", server.url).send(now())
        assert (outcome.kind, outcome.code, len(server.requests)) == (OutcomeKind.BROKEN, "http_302", 1)


@pytest.mark.parametrize(
    "body", ["", "[]", "null", "<html>", '{"ok":false}', '{"ok":true}', '{"ok":false,"error":"E <b>"}', "[" * 99_999]
)
def test_an_answer_that_is_none_of_slacks_is_unknown(body: str) -> None:
    with http_server.serving() as server:
        server.behaviours.append(http_server.answer(200, body))
        outcome = configured("slack", server.url).send(now())
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "answer_unreadable")


def test_check_says_what_is_missing(slack: FakeSlack, ops: Receiver) -> None:
    assert ops.check() == []
    slack.scopes = {"channels:history"}
    assert ["chat:write" in problem for problem in ops.check()] == [True]
    slack.scopes = {"chat:write"}
    assert ["add channels:history" in problem for problem in ops.check()] == [True]
    slack.scopes = {"chat:write", "channels:history"}
    slack.channel("alerts").is_member = False
    assert ["/invite the app" in problem for problem in ops.check()] == [True]
    slack.token = "another"
    assert ["the token does not work" in problem for problem in ops.check()] == [True]


def test_a_channel_is_named_by_its_id() -> None:
    toml = '[receivers.ops]\nkind = "slack"\ntoken = "env:T"\nchannel = "#alerts"'
    with pytest.raises(InvalidSetting, match=r"receivers\.ops\.channel: must be the id of a channel"):
        config.load(toml, {"T": "xoxb-1"})


def test_nobody_pays_for_slack_sdk_without_a_receiver_of_this_kind() -> None:
    code = (
        "import sys; from signalcraft.web import app; from signalcraft.notify import config; "
        "config.load('[receivers.a]\\nkind = \"log\"', {}); print('slack_sdk' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
