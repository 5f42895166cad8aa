"""Explanation of an event's group, and preview of a delivery."""

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from signalcraft.domain.alerts import Severity
from tests.support import web_client
from tests.support.builders import at, change_group, groups, pending_event, record
from tests.support.web_client import TOKEN, ask, code_of, sample


@pytest.fixture
def client(environ: dict[str, str]) -> FlaskClient:
    web_client.add_workspace()
    return web_client.web(environ)


def explanation(client: FlaskClient, event_id: int | str) -> dict[str, object]:
    response = ask(client, f"/events/{event_id}/explain")
    assert response.status_code == 200
    found: dict[str, object] = response.get_json()
    return found


def preview(client: FlaskClient, **params: object) -> TestResponse:
    sent = sample(**params)
    headers = {**sent.headers, "Sentry-Hook-Signature": "none of ours", "Authorization": f"Bearer {TOKEN}"}
    return client.post("/api/v1/preview", data=sent.body, headers=headers)


def event_of(minute: float, **fields: object) -> int:
    return record(pending_event(minute=minute, **fields)).events[0].event_id  # type: ignore[arg-type]


def test_it_names_the_components_of_the_key(client: FlaskClient) -> None:
    found = explanation(client, event_of(0))
    assert found["key_parts"] == {
        "source": "sentry",
        "project": "api",
        "environment": "prod",
        "fingerprint": "issue:1",
    }
    assert found["group_key"] == groups()[0].group_key
    assert "issue 1, and an issue is Sentry's own grouping" in str(found["explanation"])


@pytest.mark.parametrize(
    ("state", "minute", "decision", "words"),
    [
        ({}, 10, "joined", "it joined group 1"),
        ({}, 100, "window_expired", "group 1 had been quiet for longer than the window of 60 minutes"),
        ({"status": "resolved", "resolved_at": at(5), "is_current": False}, 10, "after_resolved", "as a regression"),
        ({"status": "snoozed", "snoozed_until": at(90)}, 100, "snooze_ended", "the snooze of group 1 was over"),
    ],
)
def test_it_states_the_decision_and_the_reason(
    client: FlaskClient,
    state: dict[str, object],
    minute: float,
    decision: str,
    words: str,
) -> None:
    event_of(0)
    if state:
        change_group(1, **state)
    found = explanation(client, event_of(minute))
    assert found["decision"] == decision
    assert words in str(found["explanation"])


def test_it_states_the_later_status_of_the_group(client: FlaskClient) -> None:
    event_id = event_of(0, event_id="one", rule="a")
    record(pending_event("one", 0, rule="b"))
    change_group(1, status="resolved", resolved_at=at(5), is_current=False, spiked=True)
    sentences = str(explanation(client, event_id)["explanation"])
    for words in ("2 rules sent it; it counts once", "because it spiked", "was resolved at 2026-03-01 12:05:00 UTC"):
        assert words in sentences
    change_group(1, status="open", resolved_at=None, spiked=False)
    assert "takes no new alerts any more" in str(explanation(client, event_id)["explanation"])


def test_it_says_where_the_environment_of_an_alert_that_names_none_is_from(client: FlaskClient) -> None:
    created = event_of(0, names_environment=False)
    assert "prod is the default, until one does" in str(explanation(client, created)["explanation"])
    alert = event_of(1, environment="staging")
    found = explanation(client, created)
    assert "has their project and environment (staging)" in str(found["explanation"])
    assert (found["group_key"], found["key_parts"]) == (groups()[0].group_key, explanation(client, alert)["key_parts"])
    assert "names no environment" not in str(explanation(client, alert)["explanation"])


@pytest.mark.parametrize("name", ["a", "1:a", "delivery-of-1:a", "1"])
def test_an_event_may_be_named_by_the_senders_id_or_by_its_delivery(client: FlaskClient, name: str) -> None:
    """What is also an id of ours means that."""
    stored = "1:a" if name.startswith(("1", "d")) else "a:4509"
    first = event_of(0, event_id=stored)
    response = ask(client, f"/events/{name}/explain")
    assert (response.status_code, response.get_json()["event_id"]) == (200, first)


def test_of_several_events_with_the_senders_id_the_latest_is_explained(client: FlaskClient) -> None:
    event_of(0, event_id="abc:1")
    latest = event_of(5, event_id="abc:2")
    event_of(3, event_id="abc:3")
    assert explanation(client, "abc")["event_id"] == latest


@pytest.mark.parametrize("name", ["1", "none", "%00", "x" * 300, str(2**70), "\N{ARABIC-INDIC DIGIT ONE}"])
def test_an_unknown_event_is_not_found(client: FlaskClient, name: str) -> None:
    assert ask(client, f"/events/{name}/explain").status_code == 404


class TestPreview:
    def test_a_delivery_that_would_open_a_group_has_no_group_yet_and_stores_nothing(self, client: FlaskClient) -> None:
        (outcome,) = preview(client, issue="7").get_json()["outcomes"]
        assert (outcome["decision"], outcome["group_id"], outcome["duplicate"]) == ("new", None, False)
        assert outcome["key_parts"]["fingerprint"] == "issue:7"
        assert groups() == []

    def test_a_delivery_that_would_join_names_the_group(self, client: FlaskClient) -> None:
        body = preview(client, issue="7").get_json()["outcomes"][0]
        stored = pending_event(severity=Severity.HIGH)
        record(stored)
        (group,) = groups()
        change_group(group.id, group_key=body["group_key"], status="snoozed")
        (outcome,) = preview(client, issue="7").get_json()["outcomes"]
        assert (outcome["decision"], outcome["group_id"]) == ("joined", group.id)
        assert groups()[0].count == 1

    def test_a_known_alert_names_the_group_that_it_is_in(self, client: FlaskClient) -> None:
        key = preview(client, issue="7").get_json()["outcomes"][0]["source_event_id"]
        record(pending_event("another"), pending_event(key, issue="8"))
        (outcome,) = preview(client, issue="7", event_id=key.partition(":")[0]).get_json()["outcomes"]
        (group,) = (group for group in groups() if group.fingerprint == "issue:8")
        assert (outcome["duplicate"], outcome["decision"], outcome["group_id"]) == (True, None, group.id)

    def test_a_status_change_is_reported_as_one(self, client: FlaskClient) -> None:
        (outcome,) = preview(client, name="issue.resolved", issue="7").get_json()["outcomes"]
        assert outcome == {"kind": "status_change", "change": "resolved", "fingerprint": "issue:7"}

    def test_a_delivery_that_cannot_be_read_is_refused_with_the_field(self, client: FlaskClient) -> None:
        headers = {
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": "application/json",
            "Sentry-Hook-Resource": "event_alert",
        }
        body = b'{"action":"triggered"}'
        response = client.post("/api/v1/preview", data=body, headers=headers)
        assert (response.status_code, code_of(response)) == (422, "fields_invalid")
        assert response.get_json()["errors"]

    def test_it_needs_a_token(self, client: FlaskClient) -> None:
        assert client.post("/api/v1/preview", data=b"{}").status_code == 401
