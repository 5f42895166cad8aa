"""Finding groups and events by the sender's ids, by tag and by rule; counts by facet."""

from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from signalcraft.domain.alerts import Severity
from signalcraft.groups.bursts import PendingEvent
from signalcraft.groups.reading import event_queries, summary
from signalcraft.storage import tenants
from signalcraft.storage.database import session
from tests.support.builders import at, change_group, pending_event, record
from tests.support.web_client import add_workspace, ask, code_of, web

EVENT = "fc6d8c0c43fc4630ad850ee518f1b9d0"


@pytest.fixture
def client(environ: dict[str, str]) -> FlaskClient:
    add_workspace()
    return web(environ)


def found(client: FlaskClient, query: str) -> list[str]:
    response = ask(client, f"/events?{query}")
    assert response.status_code == 200, response.text
    return [event["source_event_id"] for event in response.get_json()["events"]]


def tagged_event(event_id: str, minute: float, *tags: tuple[str, str], rule: str = "") -> PendingEvent:
    pending = pending_event(event_id, minute, rule=rule)
    return replace(pending, alert=replace(pending.alert, tags=tags))


def test_groups_are_found_by_issue_and_by_fingerprint(client: FlaskClient) -> None:
    record(pending_event(issue="1"), pending_event(issue="2"), pending_event(issue="3"))

    def issues(query: str) -> list[str]:
        return sorted(group["issue_id"] for group in ask(client, f"/groups?{query}").get_json()["groups"])

    assert issues("issue_id=2") == issues("fingerprint=issue:2") == ["2"]
    assert issues("issue_id=2&issue_id=3") == ["2", "3"]
    assert issues("issue_id=!2") == ["1", "3"]
    assert issues("issue_id=none") == []


def test_a_group_without_an_issue_passes_the_exclusion_of_an_issue(client: FlaskClient) -> None:
    record(pending_event(issue="1"))
    change_group(1, issue_id=None)
    assert len(ask(client, "/groups?issue_id=!1").get_json()["groups"]) == 1


def test_all_events_of_the_workspace_are_listed_newest_first(client: FlaskClient) -> None:
    record(*(pending_event(f"e{minute}", minute, issue=str(minute % 2)) for minute in range(5)))
    assert found(client, "") == ["e4", "e3", "e2", "e1", "e0"]
    first = ask(client, "/events?limit=2").get_json()
    assert "payload" not in first["events"][0]
    assert found(client, f"limit=9&cursor={first['next_cursor']}") == ["e2", "e1", "e0"]
    assert found(client, "since=2026-03-01T12:01:00Z&until=2026-03-01T12:03:00Z") == ["e2", "e1"]


@pytest.mark.parametrize("stored", [EVENT, f"{EVENT}:4509"])
def test_events_are_found_by_the_senders_id_with_or_without_what_follows_it(client: FlaskClient, stored: str) -> None:
    record(pending_event(stored), pending_event(f"{EVENT}0"), pending_event(EVENT[:-1]))
    assert found(client, f"source_event_id={EVENT}") == [stored]
    assert found(client, f"source_event_id={stored}&source_event_id=none") == [stored]
    assert stored not in found(client, f"source_event_id=!{EVENT}")
    assert found(client, "source_event_id=none") == []


def test_events_are_found_by_their_delivery(client: FlaskClient) -> None:
    record(pending_event("a", 1), pending_event("b", 2))
    assert found(client, "delivery_id=delivery-of-a") == ["a"]
    assert found(client, "delivery_id=delivery-of-a&delivery_id=delivery-of-b") == ["b", "a"]
    assert found(client, "delivery_id=!delivery-of-a") == ["b"]
    assert found(client, "delivery_id=delivery-of-a&source_event_id=b") == []


def test_events_are_found_by_tag(client: FlaskClient) -> None:
    record(
        tagged_event("a", 1, ("release", "1.0"), ("os", "linux")),
        tagged_event("b", 2, ("release", "2.0"), ("query", "a=b")),
        tagged_event("c", 3, ("1.0", "release")),
    )
    assert found(client, "tag=release=1.0") == ["a"]
    assert found(client, "tag=release=1.0&tag=release=2.0") == ["b", "a"]
    assert found(client, "tag=!release=1.0") == ["c", "b"]
    assert found(client, "tag=query=a=b") == ["b"]
    assert found(client, "tag=release=") == found(client, "tag=Release=1.0") == []


def test_events_are_found_by_the_rule_that_sent_them(client: FlaskClient) -> None:
    record(tagged_event("a", 1, rule="Errors"), tagged_event("b", 2), tagged_event("c", 3, rule="Errors in prod"))
    assert found(client, "rule=Errors") == ["a"]
    assert found(client, "rule=!Errors") == ["c", "b"]


def test_a_filter_by_tag_reads_a_part_of_the_events_at_a_time(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_queries, "MAX_EVENTS", 3)
    record(*(tagged_event(f"e{minute}", minute, ("even", str(minute % 2 == 0))) for minute in range(8)))
    path, pages = "/events?tag=even=True&limit=1", []
    page = ask(client, path).get_json()
    while True:
        pages.append([event["source_event_id"] for event in page["events"]])
        if page["next_cursor"] is None:
            break
        page = ask(client, f"{path}&cursor={page['next_cursor']}").get_json()
    assert [event for events in pages for event in events] == ["e6", "e4", "e2", "e0"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [("tag=release", "tag"), ("tag=", "tag"), ("delivery_id=%00", "delivery_id"), ("status=open", "status")],
)
def test_a_bad_parameter_of_the_list_of_events_is_named(client: FlaskClient, query: str, parameter: str) -> None:
    response = ask(client, f"/events?{query}")
    assert (response.status_code, code_of(response)) == (422, "fields_invalid")
    assert list(response.get_json()["errors"]) == [parameter]


@pytest.mark.parametrize("path", ["/events?source_event_id=a", "/events?delivery_id=delivery-of-a", "/events"])
def test_events_of_another_workspace_are_not_found(client: FlaskClient, path: str) -> None:
    add_workspace("acme")
    with session():
        stranger = tenants.create_token("acme", can_write=False, name="acme")
    record(pending_event("a"))
    assert len(ask(client, path).get_json()["events"]) == 1
    assert ask(client, path, stranger).get_json()["events"] == []


# --- summary


def counts(client: FlaskClient, facet: str, query: str = "") -> dict[str, int]:
    body = ask(client, f"/groups/summary?{query}").get_json()
    return {row[facet]: row["groups"] for row in body[f"by_{facet}"]}


def test_a_summary_counts_groups_by_every_facet(client: FlaskClient) -> None:
    record(
        pending_event(issue="1"),
        pending_event(issue="2", environment="dev", severity=Severity.LOW),
        pending_event(issue="3"),
        pending_event(issue="4"),
    )
    change_group(3, status="ack")
    change_group(4, status="snoozed", snoozed_until=at(0))  # has ended: open
    body = ask(client, "/groups/summary").get_json()
    assert (body["groups"], body["complete"]) == (4, True)
    assert counts(client, "status") == {"open": 3, "ack": 1, "resolved": 0, "snoozed": 0}
    assert counts(client, "severity") == {"info": 0, "low": 1, "med": 0, "high": 3, "critical": 0}
    assert counts(client, "environment") == {"prod": 3, "dev": 1}
    assert counts(client, "project") == {"api": 4}
    assert counts(client, "source") == {"sentry": 4}


def test_a_facet_ignores_its_own_filter_and_heeds_the_others(client: FlaskClient) -> None:
    record(pending_event(issue="1"), pending_event(issue="2", environment="dev"), pending_event(issue="3"))
    change_group(1, status="ack")
    query = "status=ack&environment=prod&severity_min=high"
    assert ask(client, f"/groups/summary?{query}").get_json()["groups"] == 1
    assert counts(client, "status", query) == {"open": 1, "ack": 1, "resolved": 0, "snoozed": 0}
    assert counts(client, "environment", query) == {"prod": 1}
    assert counts(client, "environment", "environment=dev") == {"prod": 2, "dev": 1}
    assert counts(client, "severity", "severity_min=critical")["high"] == 3


def test_a_summary_of_nothing_counts_nothing(client: FlaskClient) -> None:
    body = ask(client, "/groups/summary?q=nothing").get_json()
    assert (body["groups"], body["complete"], body["by_project"]) == (0, True, [])


def test_a_summary_of_too_many_groups_counts_those_seen_last(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "MAX_GROUPS", 2)
    record(*(pending_event(issue=str(minute), minute=minute) for minute in range(4)))
    change_group(4, status="ack")
    body: Any = ask(client, "/groups/summary").get_json()
    assert (body["groups"], body["complete"]) == (2, False)
    assert counts(client, "status")["ack"] == 1
