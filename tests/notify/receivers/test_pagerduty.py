"""The kind pagerduty: one incident a group."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.notify.receivers.conftest import ENVIRON, receiver_of
from tests.support.http_server import HttpServer
from tests.support.messages import HOSTILE, digest_message, group_message, own_test_message, trouble_message


def events(server: HttpServer) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in server.requests]


def test_an_incident_has_one_key_from_trigger_to_resolve(server: HttpServer) -> None:
    receiver = receiver_of("pagerduty", server.url)
    for status in ("open", "ack", "snoozed", "resolved", "open"):
        receiver.send(group_message(status=status))

    assert [event["event_action"] for event in events(server)] == [
        "trigger",
        "acknowledge",
        "acknowledge",
        "resolve",
        "trigger",
    ]
    assert len({event["dedup_key"] for event in events(server)}) == 1
    assert {event["routing_key"] for event in events(server)} == {ENVIRON["ROUTING_KEY"]}


def test_the_key_is_the_id_by_which_the_card_is_edited(server: HttpServer) -> None:
    outcome = receiver_of("pagerduty", server.url).send(group_message())
    other = receiver_of("pagerduty", server.url).send(group_message(id=42))

    assert outcome.external_id == events(server)[0]["dedup_key"]
    assert other.external_id != outcome.external_id


def test_a_digest_is_one_incident_until_all_its_groups_are_resolved(server: HttpServer) -> None:
    receiver = receiver_of("pagerduty", server.url)
    key = receiver.send(digest_message()).external_id
    for status in ("ack", "resolved"):
        receiver.send(replace(digest_message(status=status), external_id=key))

    assert [event["event_action"] for event in events(server)] == ["trigger", "acknowledge", "resolve"]
    assert {event["dedup_key"] for event in events(server)} == {key}


@pytest.mark.parametrize(
    ("severity", "expected"),
    [("critical", "critical"), ("high", "error"), ("med", "warning"), ("low", "info"), ("info", "info")],
)
def test_each_severity_is_one_of_pagerduty_and_a_digest_has_the_worst(
    server: HttpServer, severity: str, expected: str
) -> None:
    receiver_of("pagerduty", server.url).send(group_message(severity=severity))
    receiver_of("pagerduty", server.url).send(digest_message(severity=severity))

    assert [event["payload"]["severity"] for event in events(server)] == [expected, expected]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_summary_is_one_line_of_1_024_characters_and_never_empty(server: HttpServer, text: str) -> None:
    receiver_of("pagerduty", server.url).send(group_message(title=text))
    summary = events(server)[0]["payload"]["summary"]

    assert 0 < len(summary) <= 1_024
    assert not set(summary) & set("\r\n\x00\x1b")


def test_what_is_about_no_group_is_an_incident_of_its_own(server: HttpServer) -> None:
    receiver = receiver_of("pagerduty", server.url)
    for message in (digest_message(), trouble_message(), own_test_message()):
        receiver.send(message)

    assert {event["event_action"] for event in events(server)} == {"trigger"}
    assert all(event["payload"]["source"] and event["payload"]["severity"] for event in events(server))
