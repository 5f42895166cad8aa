"""The kind webhook: Standard Webhooks, verified by the library of those who wrote it."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from signalcraft.domain.errors import InvalidSetting
from signalcraft.notify import config, messages
from signalcraft.notify.contract import Message
from tests.notify.receivers.conftest import SIGNING_SECRETS, receiver_of
from tests.support.builders import at
from tests.support.http_server import HttpServer, answer
from tests.support.messages import (
    HOSTILE,
    digest_message,
    group_message,
    group_row,
    notification_row,
    own_test_message,
    trouble_message,
)


def now(message: Message) -> Message:
    """The message as if it were sent now: the library refuses what is old."""
    return replace(message, attempted_at=datetime.now(UTC))


@pytest.mark.parametrize("secret", SIGNING_SECRETS)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_each_of_two_secrets_verifies_the_message(server: HttpServer, secret: str, text: str) -> None:
    receiver_of("webhook", server.url).send(now(group_message(title=text)))
    (request,) = server.requests

    assert Webhook(secret).verify(request.body, dict(request.headers))["data"]["group"]["title"] == text
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "A" * 32).verify(request.body, dict(request.headers))


def test_an_attempt_has_the_id_of_the_last_and_a_time_of_its_own(server: HttpServer) -> None:
    server.behaviours.append(answer(503))
    receiver = receiver_of("webhook", server.url)
    for minute in (7, 8):
        receiver.send(group_message(minute=minute))
    first, second = (request.headers for request in server.requests)

    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 60
    assert first["webhook-signature"] != second["webhook-signature"]


def test_the_same_number_in_another_database_is_another_id(server: HttpServer) -> None:
    receiver = receiver_of("webhook", server.url)
    for happened_at in (at(0), at(1)):
        row = notification_row(happened_at=happened_at)
        receiver.send(messages.of_group(row, group_row(), attempted_at=at(7), public_url=""))

    assert len({request.headers["webhook-id"] for request in server.requests}) == 2


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (group_message(), "group.opened"),
        (group_message("resolved", status="resolved"), "group.resolved"),
        (digest_message(), "groups.digest"),
        (trouble_message(), "signalcraft.receiver_broken"),
        (own_test_message(), "signalcraft.test"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_type_names_the_subject_and_the_reason(server: HttpServer, message: Message, name: str) -> None:
    receiver_of("webhook", server.url).send(message)
    (request,) = server.requests
    body = json.loads(request.body)

    assert (body["type"], request.headers["content-type"]) == (name, "application/json")
    assert body["data"]["notification_id"] == request.headers["webhook-id"]


def test_a_digest_of_10_000_groups_is_under_20_kb(server: HttpServer) -> None:
    longest = {"title": "t" * 500, "link": "https://sentry.io/" + "l" * 300}
    receiver_of("webhook", server.url).send(digest_message(10_000, **longest))
    (request,) = server.requests
    digest = json.loads(request.body)["data"]["digest"]

    assert len(request.body) < 20_000
    assert (digest["opened"], len(digest["groups"]), len(digest["group_ids"])) == (10_000, 10, 200)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_short", "c2VjcmV0LW9mLXRoZS10ZXN0cy1vbmUt", "whsec_!!!!"])
def test_a_secret_that_is_none_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(InvalidSetting, match=r"receivers\.ops\.secret: must be whsec_") as raised:
        config.load(f'[receivers.ops]\nkind = "webhook"\nurl = "https://a.example"\nsecret = "{secret}"', {})
    assert not secret or secret not in str(raised.value).replace("must be whsec_", "")
