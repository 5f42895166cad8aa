"""Updating groups over HTTP: allowed and refused updates, versions, history, bulk updates, scopes."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from signalcraft.domain import grouping
from signalcraft.domain.alerts import Change, GroupStatus, Severity, StatusChange
from signalcraft.groups import record as groups_record
from signalcraft.groups import source_updates, user_updates
from signalcraft.groups.reading import queries
from signalcraft.groups.reading.filters import GroupFilter, ValueFilter
from signalcraft.groups.user_updates import GroupUpdate
from signalcraft.storage import tenants
from signalcraft.storage.database import session
from signalcraft.storage.models import AlertGroup, GroupChange
from tests.support.builders import at, change_group, groups, pending_event, record
from tests.support.web_client import TOKEN, add_workspace, ask, code_of, web


@pytest.fixture
def client(environ: dict[str, str]) -> FlaskClient:
    add_workspace()
    return web(environ)


def change(client: FlaskClient, group_id: int, token: str = TOKEN, *, tag: str = "", **fields: Any) -> TestResponse:  # noqa: ANN401 - as JSON has it
    headers = {"Authorization": f"Bearer {token}"} | ({"If-Match": tag} if tag else {})
    return client.patch(f"/api/v1/groups/{group_id}", json=fields, headers=headers)


def bulk(client: FlaskClient, body: Any, token: str = TOKEN) -> TestResponse:  # noqa: ANN401 - likewise
    return client.post("/api/v1/groups/bulk", json=body, headers={"Authorization": f"Bearer {token}"})


def history(client: FlaskClient, group_id: int) -> list[tuple[str, str, str | None, str | None]]:
    """Return actor, field, old and new value of each change; oldest first."""
    rows = ask(client, f"/groups/{group_id}/history").get_json()["changes"]
    return [(row["by"], row["field"], row["from"], row["to"]) for row in reversed(rows)]


#: Copies a group as the current one of its key; the caller commits.
_COPY_AS_CURRENT = """
    INSERT INTO alert_group (workspace_id, group_key, source, project, environment, fingerprint, title, severity,
                             alert_severity, count, first_seen_at, last_seen_at)
    SELECT workspace_id, group_key, source, project, environment, fingerprint, title, severity,
           alert_severity, count, first_seen_at, last_seen_at
    FROM alert_group WHERE id = %s"""


def wait_for_lock(database_url: str) -> None:
    """Wait until a transaction waits for another."""
    deadline = time.monotonic() + 5
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        waiting = False
        while not waiting:
            assert time.monotonic() < deadline
            cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
            (waiting,) = cursor.fetchone()
            time.sleep(0.01)


def soon(minutes: float = 60) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()


# --- allowed updates


def test_a_group_is_acknowledged_assigned_and_given_a_runbook(client: FlaskClient) -> None:
    record(pending_event())
    response = change(client, 1, status="ack", assignee_user_id="ann", runbook_url="https://wiki.example/api")
    assert response.status_code == 200
    group = response.get_json()
    assert (group["status"], group["assignee_user_id"], group["runbook_url"]) == (
        "ack",
        "ann",
        "https://wiki.example/api",
    )
    assert ask(client, "/groups/1").get_json() == group
    assert change(client, 1, assignee_user_id=None).get_json()["assignee_user_id"] is None


def test_resolving_closes_the_group_and_the_next_alert_opens_another(client: FlaskClient) -> None:
    record(pending_event("a", 0))
    assert change(client, 1, status="resolved").get_json()["status"] == "resolved"
    (group,) = groups()
    assert not group.is_current
    assert abs(group.resolved_at - datetime.now(UTC)) < timedelta(minutes=1)
    record(pending_event("b", 10))  # received long before the resolution: it belongs to the group
    assert len(groups()) == 1
    later = (datetime.now(UTC) + timedelta(minutes=1) - at(0)) / timedelta(minutes=1)
    record(pending_event("c", later))
    assert [group.status for group in groups()] == ["resolved", "open"]


def test_resolving_again_leaves_the_time_of_resolution(client: FlaskClient) -> None:
    record(pending_event())
    change(client, 1, status="resolved")
    before = groups()[0].resolved_at
    assert change(client, 1, status="resolved").status_code == 200
    assert groups()[0].resolved_at == before


def test_a_resolved_group_is_reopened_and_takes_alerts_again(client: FlaskClient) -> None:
    record(pending_event("a", 0))
    change(client, 1, status="resolved")
    assert change(client, 1, status="open").get_json()["status"] == "open"
    record(pending_event("b", 5))
    (group,) = groups()
    assert (group.count, group.is_current, group.resolved_at) == (2, True, None)


def test_a_snooze_outlasts_the_window_and_breaks_on_a_worse_alert(client: FlaskClient) -> None:
    record(pending_event("a", 0))
    change(client, 1, status="snoozed")
    record(pending_event("b", 500))
    assert [(group.status, group.count) for group in groups()] == [("snoozed", 2)]
    record(pending_event("c", 501, severity=Severity.CRITICAL))
    assert groups()[0].status == "open"
    assert history(client, 1)[-1] == ("sentry", "status", "snoozed", "open")


def test_a_group_that_is_no_longer_current_is_made_so_by_a_snooze(client: FlaskClient) -> None:
    record(pending_event("a", 0))
    change_group(1, is_current=False)
    change(client, 1, status="snoozed")
    record(pending_event("b", 500))
    assert [(group.count, group.is_current) for group in groups()] == [(2, True)]


def test_an_expired_snooze_is_open_to_a_user_too(client: FlaskClient) -> None:
    record(pending_event())
    change_group(1, status="snoozed", snoozed_until=at(1))
    assert ask(client, "/groups/1").get_json()["status"] == "open"
    assert code_of(change(client, 1, snoozed_until=soon())) == "conflict"
    assert change(client, 1, status="ack").get_json()["status"] == "ack"


def test_the_end_of_a_snooze_can_be_moved(client: FlaskClient) -> None:
    record(pending_event())
    until = soon(90)
    assert change(client, 1, status="snoozed", snoozed_until=soon(60)).status_code == 200
    moved = change(client, 1, snoozed_until=until).get_json()["snoozed_until"]
    assert datetime.fromisoformat(moved) == datetime.fromisoformat(until)
    assert change(client, 1, snoozed_until=None).get_json()["snoozed_until"] is None


# --- refused updates


@pytest.mark.parametrize("status", ["ack", "snoozed"])
def test_a_resolved_group_must_be_reopened_first(client: FlaskClient, status: str) -> None:
    record(pending_event())
    change(client, 1, status="resolved")
    response = change(client, 1, status=status)
    assert (response.status_code, code_of(response)) == (409, "conflict")
    done = {"ack": "acknowledged", "snoozed": "snoozed"}[status]
    assert response.get_json()["detail"] == f"A resolved group cannot be {done}: reopen it first."


@pytest.mark.parametrize("status", ["open", "snoozed"])
def test_a_group_cannot_be_reopened_while_a_newer_one_is_current(client: FlaskClient, status: str) -> None:
    record(pending_event("a", 0))
    if status == "open":
        change_group(1, status="resolved", resolved_at=at(1), is_current=False)
    record(pending_event("b", 500))
    response = change(client, 1, status=status)
    assert (response.status_code, code_of(response)) == (409, "conflict")
    assert f"Group {groups()[1].id} is newer" in response.get_json()["detail"]
    assert [group.is_current for group in groups()] == [False, True]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"status": "closed"}, "status"),
        ({"status": None}, "status"),
        ({"status": ["open"]}, "status"),
        ({"status": "snoozed", "snoozed_until": "tomorrow"}, "snoozed_until"),
        ({"status": "snoozed", "snoozed_until": 5}, "snoozed_until"),
        ({"status": "snoozed", "snoozed_until": "2026-03-01T12:00:00"}, "snoozed_until"),
        ({"status": "snoozed", "snoozed_until": "2001-03-01T12:00:00Z"}, "snoozed_until"),
        ({"status": "ack", "snoozed_until": "2999-03-01T12:00:00Z"}, "snoozed_until"),
        ({"assignee_user_id": ""}, "assignee_user_id"),
        ({"assignee_user_id": "x" * 201}, "assignee_user_id"),
        ({"assignee_user_id": "a\0b"}, "assignee_user_id"),
        ({"assignee_user_id": "\ud800"}, "assignee_user_id"),
        ({"assignee_user_id": 7}, "assignee_user_id"),
        ({"runbook_url": "javascript:alert(1)"}, "runbook_url"),
        ({"runbook_url": "ftp://example.com/"}, "runbook_url"),
        ({"runbook_url": "wiki"}, "runbook_url"),
        ({"runbook_url": "https://example.com/" + "x" * 2_000}, "runbook_url"),
        ({"status": "ack", "note": "x" * 501}, "note"),
        ({"status": "ack", "note": "a\nb"}, "note"),
        ({"status": "ack", "note": "\ud800"}, "note"),
        ({"status": "ack", "note": 7}, "note"),
        ({"note": "nothing else"}, "note"),
        ({"title": "mine"}, "title"),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_changed(client: FlaskClient, fields: dict[str, Any], named: str) -> None:
    record(pending_event())
    response = change(client, 1, **fields)
    assert (response.status_code, code_of(response)) == (422, "fields_invalid")
    assert list(response.get_json()["errors"]) == [named]
    assert groups()[0].version == 1


def test_the_body_is_a_json_object_and_a_query_string_is_refused(client: FlaskClient) -> None:
    record(pending_event())
    headers = {"Authorization": f"Bearer {TOKEN}"}

    def code(**options: Any) -> str:  # noqa: ANN401 - as the client takes them
        return code_of(client.patch("/api/v1/groups/1", headers=headers, **options))

    assert code(data="{", content_type="application/json") == "body_not_json"
    twice = '{"status":"ack","status":"resolved"}'
    assert code(data=twice, content_type="application/json") == "body_duplicate_key"
    assert code(data="[]", content_type="application/json") == "body_not_object"
    assert code(data="{}", content_type="text/plain") == "media_unsupported"
    assert code(json={}, query_string="status=ack") == "fields_invalid"


# --- versions


def test_an_update_of_another_version_is_refused(client: FlaskClient) -> None:
    record(pending_event("a", 0))
    seen = ask(client, "/groups/1").headers["ETag"]
    changed = change(client, 1, tag=seen, status="ack")
    assert changed.status_code == 200
    assert changed.headers["ETag"] == ask(client, "/groups/1").headers["ETag"] != seen
    late = change(client, 1, tag=seen, status="resolved")
    assert (late.status_code, code_of(late)) == (412, "precondition_failed")
    assert change(client, 1, tag="*", status="resolved").status_code == 200
    assert code_of(change(client, 1, tag='"made up"', status="open")) == "precondition_failed"


@pytest.mark.parametrize("header", ["", ",", '"1.0f3a', '"1";q=1', "é"])
def test_an_if_match_that_names_no_version_updates_none(client: FlaskClient, header: str) -> None:
    record(pending_event("a", 0))
    headers = {"Authorization": f"Bearer {TOKEN}", "If-Match": header}
    refused = client.patch("/api/v1/groups/1", json={"status": "ack"}, headers=headers)
    assert (refused.status_code, code_of(refused)) == (412, "precondition_failed")


def test_an_alert_changes_the_etag_and_does_not_fail_if_match(client: FlaskClient) -> None:
    record(pending_event("a", 0))
    seen = ask(client, "/groups/1").headers["ETag"]
    poll = {"Authorization": f"Bearer {TOKEN}", "If-None-Match": seen}
    unchanged = client.get("/api/v1/groups/1", headers=poll)
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    record(pending_event("b", 1))
    assert client.get("/api/v1/groups/1", headers=poll).status_code == 200
    assert change(client, 1, tag=seen, status="ack").status_code == 200


def test_a_list_is_not_sent_twice_to_a_poller_that_has_it(client: FlaskClient) -> None:
    record(pending_event("a", 0))
    seen = ask(client, "/groups").headers["ETag"]
    poll = {"Authorization": f"Bearer {TOKEN}", "If-None-Match": seen}
    assert client.get("/api/v1/groups", headers=poll).status_code == 304
    record(pending_event("b", 1))
    assert client.get("/api/v1/groups", headers=poll).status_code == 200


def test_an_update_that_changes_nothing_adds_no_history(client: FlaskClient) -> None:
    record(pending_event())
    for fields in ({}, {"status": "open"}, {"assignee_user_id": None}):
        assert change(client, 1, **fields).status_code == 200
    assert groups()[0].version == 1
    assert history(client, 1) == []


# --- history


def test_every_change_is_in_the_history_with_actor_and_time(client: FlaskClient) -> None:
    record(pending_event("a", 0))
    change(client, 1, status="ack", assignee_user_id="ann")
    word = StatusChange(source="sentry", change=Change.RESOLVED, fingerprint="issue:1", received_at=at(10))
    with session():
        source_updates.apply_status_changes([(1, word)])
    assert history(client, 1) == [
        ("API_TOKEN", "status", "open", "ack"),
        ("API_TOKEN", "assignee_user_id", None, "ann"),
        ("sentry", "status", "ack", "resolved"),
    ]
    newest = ask(client, "/groups/1/history?limit=1").get_json()
    assert (newest["changes"][0]["actor"], newest["changes"][0]["at"]) == ("source", "2026-03-01T12:10:00.000000Z")
    older = ask(client, f"/groups/1/history?limit=2&cursor={newest['next_cursor']}").get_json()
    assert [row["to"] for row in older["changes"]] == ["ann", "ack"]
    assert older["next_cursor"] is None
    assert groups()[0].version == 3


def test_the_end_of_a_snooze_is_in_the_history_as_the_api_writes_times(client: FlaskClient) -> None:
    record(pending_event())
    until = change(client, 1, status="snoozed", snoozed_until=soon()).get_json()["snoozed_until"]
    assert history(client, 1)[-1] == ("API_TOKEN", "snoozed_until", None, until)


@pytest.mark.parametrize(
    ("note", "kept"),
    [
        (" waiting for the provider ", "waiting for the provider"),
        ("é" * 500, "é" * 500),
        ("<b>'; DROP TABLE group_change; -- %(by)s", "<b>'; DROP TABLE group_change; -- %(by)s"),
        ("  ", None),
        ("", None),
        (None, None),
    ],
)
def test_a_note_is_kept_with_every_field_that_it_was_given_for(
    client: FlaskClient, note: str | None, kept: str | None
) -> None:
    record(pending_event())
    assert change(client, 1, status="ack", assignee_user_id="ann", note=note).status_code == 200
    assert change(client, 1, status="resolved").status_code == 200
    rows = ask(client, "/groups/1/history").get_json()["changes"]
    assert [(row["to"], row["note"]) for row in rows] == [("resolved", None), ("ann", kept), ("ack", kept)]


def test_a_note_is_refused_where_nothing_changes_rather_than_lost(client: FlaskClient) -> None:
    record(pending_event(issue="1"))
    record(pending_event(issue="2"))
    change(client, 1, status="ack", note="first")
    response = change(client, 1, status="ack", note="second")
    assert (response.status_code, code_of(response)) == (409, "conflict")
    assert response.get_json()["detail"] == "Nothing would change, and a note is kept only with a change."
    results = bulk(client, {"ids": [1, 2], "set": {"status": "ack", "note": "third"}}).get_json()["results"]
    assert [(one["id"], one["code"]) for one in results] == [(1, "conflict"), (2, None)]
    for group_id, kept in ((1, "first"), (2, "third")):
        assert ask(client, f"/groups/{group_id}/history").get_json()["changes"][0]["note"] == kept
    refused = bulk(client, {"ids": [1], "set": {"note": "fourth"}})
    assert list(refused.get_json()["errors"]) == ["set.note"]


# --- bulk updates


def test_many_groups_are_updated_at_once_each_with_its_result(client: FlaskClient) -> None:
    for issue in "123":
        record(pending_event(issue=issue))
    change(client, 2, status="resolved")
    response = bulk(client, {"ids": [3, 99, 2, 1, 3], "set": {"status": "ack"}})
    assert response.status_code == 200
    page = response.get_json()
    assert [(one["id"], one["status"], one["code"]) for one in page["results"]] == [
        (3, 200, None),
        (99, 404, "not_found"),
        (2, 409, "conflict"),
        (1, 200, None),
    ]
    assert [group.status for group in groups()] == ["ack", "resolved", "ack"]


def test_a_filter_can_select_the_groups(client: FlaskClient) -> None:
    record(
        pending_event(issue="1"),
        pending_event(issue="2", environment="dev"),
        pending_event(issue="3", severity=Severity.LOW),
    )
    body = {"filter": {"environment": "prod", "severity": ["!low"]}, "set": {"status": "resolved"}}
    page = bulk(client, body).get_json()
    assert page["more"] is False
    assert [one["id"] for one in page["results"]] == [
        group.id for group in groups() if group.environment == "prod" and group.severity == "high"
    ]
    assert sorted(group.status for group in groups()) == ["open", "open", "resolved"]


def test_an_alias_of_an_environment_holds_in_a_filter_of_a_bulk_update(client: FlaskClient) -> None:
    record(pending_event(issue="1"), pending_event(issue="2", environment="dev"))
    bulk(client, {"filter": {"environment": "production"}, "set": {"status": "ack"}})
    assert {group.environment: group.status for group in groups()} == {"prod": "ack", "dev": "open"}


def test_a_filter_that_matches_too_many_groups_reports_that_there_are_more(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_updates, "MAX_BULK", 2)
    for issue in "123":
        record(pending_event(issue=issue))
    body = {"filter": {"status": "open"}, "set": {"status": "ack"}}
    first, second = bulk(client, body).get_json(), bulk(client, body).get_json()
    assert [(len(page["results"]), page["more"]) for page in (first, second)] == [(2, True), (1, False)]


def test_a_cursor_continues_also_if_all_groups_still_match_the_filter(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_updates, "MAX_BULK", 2)
    for number in range(5):
        record(pending_event(issue=str(number), minute=number % 3))
    body: dict[str, object] = {"filter": {"status": "open"}, "set": {"assignee_user_id": "me"}}
    seen: list[int] = []
    while True:
        page = bulk(client, body).get_json()
        seen += [one["id"] for one in page["results"]]
        if not page["more"]:
            break
        body["cursor"] = page["next_cursor"]
    assert sorted(seen) == [group.id for group in groups()]
    assert {group.assignee_user_id for group in groups()} == {"me"}
    other = body | {"filter": {"status": "ack"}}
    assert (bulk(client, other).status_code, code_of(bulk(client, other))) == (422, "cursor_invalid")
    strange = bulk(client, body | {"cursor": "\ud800"})
    assert (strange.status_code, code_of(strange)) == (422, "cursor_invalid")
    assert bulk(client, {"ids": [1], "set": {}, "cursor": "x"}).get_json()["errors"] == {
        "cursor": ["Only with a filter."]
    }


def test_a_group_that_no_longer_matches_the_filter_is_not_updated(client: FlaskClient) -> None:
    record(pending_event(issue="1"), pending_event(issue="2"))
    now = datetime.now(UTC)
    wanted = GroupFilter(status=ValueFilter(include=("open",)))
    with session():
        found = [row["id"] for row in queries.newest(1, wanted, limit=9, after=None, now=now).rows]
    change(client, 1, status="ack")  # a concurrent update
    with session():
        outcomes = user_updates.update_groups(
            1,
            found,
            user_updates.GroupUpdate(fields={"status": GroupStatus.RESOLVED}, by="me", at=now),
            group_filter=wanted,
        )
    assert {one.group_id: one.refusal is None for one in outcomes} == {1: False, 2: True}
    assert [group.status for group in groups()] == ["ack", "resolved"]


def test_the_loser_of_a_race_to_reopen_gets_a_conflict_with_the_newer_group(
    client: FlaskClient, database_url: str
) -> None:
    """The new group is not committed when the older one is to become current: PostgreSQL makes the second wait."""
    record(pending_event("a", 0))
    (old,) = groups()
    change(client, old.id, status="resolved")
    with closing(psycopg2.connect(database_url)) as other, ThreadPoolExecutor(1) as threads:
        with other.cursor() as cursor:
            cursor.execute(_COPY_AS_CURRENT, (old.id,))
            late = threads.submit(change, client, old.id, status="open")
            wait_for_lock(database_url)
        other.commit()
        response = late.result(timeout=10)
    assert (response.status_code, code_of(response)) == (409, "conflict")


def test_of_one_key_only_one_group_is_reopened(client: FlaskClient) -> None:
    record(pending_event("a", 0))
    record(pending_event("b", 500))
    bulk(client, {"filter": {"source": "sentry"}, "set": {"status": "resolved"}})
    page = bulk(client, {"filter": {"source": "sentry"}, "set": {"status": "open"}}).get_json()
    assert sorted(one["status"] for one in page["results"]) == [200, 409]
    assert sum(group.is_current for group in groups()) == 1


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"set": {}}, "ids"),
        ({"ids": [1], "filter": {}, "set": {}}, "ids"),
        ({"ids": [], "set": {}}, "ids"),
        ({"ids": list(range(1, 1_002)), "set": {}}, "ids"),
        ({"ids": [1, "x"], "set": {}}, "ids.1"),
        ({"ids": [2**63], "set": {}}, "ids.0"),
        ({"ids": [1]}, "set"),
        ({"ids": [1], "set": {"status": "closed"}}, "set.status"),
        ({"ids": [1], "set": {"status": "snoozed", "snoozed_until": "2001-01-01T00:00:00Z"}}, "set.snoozed_until"),
        ({"filter": {}, "set": {}}, "filter"),
        ({"filter": {"since": None}, "set": {}}, "filter"),
        ({"filter": {"status": "closed"}, "set": {}}, "filter.status"),
        ({"filter": {"project": [1]}, "set": {}}, "filter.project"),
        ({"filter": {"limit": 1}, "set": {}}, "filter.limit"),
        ({"filter": [], "set": {}}, "filter"),
    ],
)
def test_a_bad_field_of_a_bulk_update_is_named(client: FlaskClient, body: Any, named: str) -> None:  # noqa: ANN401 - as JSON has it
    response = bulk(client, body)
    assert (response.status_code, code_of(response)) == (422, "fields_invalid")
    assert [name.removesuffix("._schema") for name in response.get_json()["errors"]] == [named]


# --- scopes


def test_a_read_only_token_changes_nothing(client: FlaskClient) -> None:
    with session():
        token = tenants.create_token("default", can_write=False, name="reader")
    record(pending_event())
    for response in (
        change(client, 1, token, status="ack"),
        bulk(client, {"ids": [1], "set": {"status": "ack"}}, token),
    ):
        assert (response.status_code, code_of(response)) == (403, "scope_missing")
    assert groups()[0].status == "open"


def test_another_workspaces_groups_cannot_be_changed_nor_their_history_seen(client: FlaskClient) -> None:
    add_workspace("acme")
    with session():
        token = tenants.create_token("acme", can_write=True, name="acme")
    record(pending_event())
    change(client, 1, assignee_user_id="ann")
    assert code_of(change(client, 1, token, status="ack")) == "not_found"
    assert code_of(ask(client, "/groups/1/history", token)) == "not_found"
    assert bulk(client, {"ids": [1], "set": {"status": "ack"}}, token).get_json()["results"][0]["status"] == 404
    assert bulk(client, {"filter": {"status": "open"}, "set": {"status": "ack"}}, token).get_json()["results"] == []
    assert groups()[0].status == "open"


# --- concurrency


@pytest.mark.usefixtures("client")
def test_concurrent_updates_and_alerts_lose_nothing_and_never_deadlock() -> None:
    """Alerts of ten groups in one order, updates of the same groups in another."""
    issues = [str(number) for number in range(10)]
    record(*(pending_event(f"first-{issue}", 0, issue=issue) for issue in issues))
    ids = [group.id for group in groups()]

    def store_some(round_: int) -> None:
        with session():
            alerts = [pending_event(f"{round_}-{issue}", round_ / 100, issue=issue) for issue in issues]
            groups_record.record(alerts, grouping.GroupingPolicy())

    def change_all(round_: int) -> None:
        status = user_updates.GroupStatus.ACK if round_ % 2 else user_updates.GroupStatus.OPEN
        edit = GroupUpdate(fields={"status": status, "assignee_user_id": str(round_)}, by="storm", at=at(round_))
        with session():
            user_updates.update_groups(1, ids[:: -1 if round_ % 3 else 1], edit)

    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(one, round_) for round_ in range(40) for one in (store_some, change_all)]
        for future in work:
            future.result()
    with session():
        assert [group.count for group in AlertGroup.select()] == [41] * 10
        assert GroupChange.select().where(GroupChange.field == "assignee_user_id").count() == 400
