"""The kind slack_webhook: text stays text, for Slack and those that understand its form."""

import json
import re
from typing import Any

import pytest

from signalcraft.notify.contract import Message, OutcomeKind
from tests.notify.receivers.conftest import receiver_of
from tests.support.http_server import HttpServer, answer
from tests.support.messages import HOSTILE, PUBLIC_URL, digest_message, every_form, group_message, trouble_message


def posted(server: HttpServer, message: Message) -> dict[str, Any]:
    receiver_of("slack_webhook", server.url).send(message)
    body: dict[str, Any] = json.loads(server.requests[-1].body)
    return body


def texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for key, each in value.items() if key not in ("title_link", "color") for text in texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nobody_is_pinged_and_nothing_is_formatted(server: HttpServer, text: str) -> None:
    hostile = {"title": text, "project": text, "environment": text, "assignee_user_id": text}
    for message in (group_message(**hostile), digest_message(3, **hostile), trouble_message(text)):
        body = posted(server, message)
        shown = "\n".join(texts(body))

        assert not re.search(r"[<>]|@\S(?<!@\u2060)|\]\(", shown)
        assert body["mrkdwn"] is False
        assert all(not attachment["mrkdwn_in"] for attachment in body.get("attachments", ()) if "text" in attachment)
        assert len(body["text"]) < 4_000


def test_a_form_that_is_refused_is_followed_by_a_plain_one(server: HttpServer) -> None:
    server.behaviours.append(answer(400, "invalid_attachments"))
    outcome = receiver_of("slack_webhook", server.url).send(group_message())
    first, second = (json.loads(request.body) for request in server.requests)

    assert outcome.kind is OutcomeKind.SENT
    assert second == {"text": first["text"], "mrkdwn": False}


def test_a_plain_form_that_is_refused_too_is_given_up(server: HttpServer) -> None:
    server.behaviours.extend([answer(400, "invalid_payload"), answer(400, "invalid_payload")])
    outcome = receiver_of("slack_webhook", server.url).send(group_message())

    assert (outcome.kind, outcome.detail) == (OutcomeKind.REFUSED, "invalid_payload")


@pytest.mark.parametrize("link", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "//evil", "", None])
def test_only_links_of_the_web_are_links(server: HttpServer, link: str | None) -> None:
    message = group_message(link=link)

    assert message.link is None
    assert posted(server, message)["attachments"][0]["title_link"] == f"{PUBLIC_URL}/alerts/41"


def test_the_message_says_what_where_since_when_and_how_often(server: HttpServer) -> None:
    body = posted(server, every_form()["opened"])
    (attachment,) = body["attachments"]

    assert body["text"] == "New: TypeError: cannot read property 'amount' of undefined"
    assert attachment["text"] == (
        "A new problem in payments, prod (severity high). "
        "41 alerts since 2026-03-01 12:00 UTC, 7 minutes ago; the last one 1 minute ago."
    )


def test_what_is_over_is_green(server: HttpServer) -> None:
    open_, over = (posted(server, every_form()[form])["attachments"][0]["color"] for form in ("opened", "late"))

    assert (open_, over) == ("#c2410c", "#2b7a3e")
