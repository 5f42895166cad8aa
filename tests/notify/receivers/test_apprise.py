"""The kind apprise: whatever Apprise can reach, within a deadline."""

import json

import pytest

from signalcraft.domain.errors import InvalidSetting
from signalcraft.notify.contract import OutcomeKind
from tests.notify.receivers.conftest import receiver_of
from tests.support.http_server import HttpServer, answer
from tests.support.messages import digest_message, group_message

pytest.importorskip("apprise", reason="Apprise is not installed: requirements-apprise.txt")


def test_the_text_and_its_links_arrive(server: HttpServer) -> None:
    receiver_of("apprise", server.url.replace("http", "json")).send(group_message(title="@everyone <b>"))
    body = json.loads(server.requests[0].body)

    assert body["title"] == "New: @\u2060everyone <b>"
    assert body["message"].splitlines()[1:] == [
        "https://alerts.example.org/alerts/41",
        "https://sentry.io/organizations/acme/issues/1/",
    ]
    assert body["type"] == "failure"


def test_a_digest_lists_the_worst(server: HttpServer) -> None:
    receiver_of("apprise", server.url.replace("http", "json")).send(digest_message())

    assert json.loads(server.requests[0].body)["message"].count("alerts)") == 10


def test_a_redirect_is_not_followed(server: HttpServer) -> None:
    server.behaviours.append(answer(307, Location=f"{server.url}/elsewhere"))
    outcome = receiver_of("apprise", server.url.replace("http", "json")).send(group_message())

    assert (outcome.kind, len(server.requests)) == (OutcomeKind.RETRY, 1)


def test_a_url_that_apprise_does_not_know_is_refused_without_showing_it() -> None:
    with pytest.raises(InvalidSetting, match=r"receivers\.ops\.urls: has a URL that Apprise does not know") as raised:
        receiver_of("apprise", "nothing://token-of-somebody")
    assert "token-of-somebody" not in str(raised.value)
