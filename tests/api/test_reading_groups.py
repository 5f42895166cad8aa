"""Reading groups and events over HTTP: authentication, responses, query strings, pages."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from signalcraft.domain import grouping
from signalcraft.groups.reading import group_schema, queries
from signalcraft.storage import tenants
from signalcraft.storage.compression import compress
from signalcraft.storage.database import session
from signalcraft.storage.models import AlertEvent
from tests.support.builders import at, change_group, pending_event, record
from tests.support.web_client import TOKEN, add_workspace, ask, code_of, no_database, web

GROUP_FIELDS = [
    "id",
    "group_key",
    "source",
    "project",
    "environment",
    "severity",
    "status",
    "title",
    "count",
    "first_seen_at",
    "last_seen_at",
    "fingerprint",
    "issue_id",
    "link",
    "assignee_user_id",
    "runbook_url",
    "snoozed_until",
    "previous_group_id",
]


@pytest.fixture
def client(environ: dict[str, str]) -> FlaskClient:
    add_workspace()
    return web(environ)


def open_group(name: str, minute: float = 0, **columns: Any) -> int:  # noqa: ANN401 - columns of the table
    (group_id,) = record(pending_event(f"event-of-{name}", minute, issue=name)).group_ids
    change_group(group_id, title=name, **columns)
    return int(group_id)


def event_of(group_id: int) -> int:
    with session():
        return int(AlertEvent.get(AlertEvent.alert_group == group_id).id)


# --- authentication


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic dGVzdC1hcGktdG9rZW46",
        TOKEN,
        f"Bearer {TOKEN}x",
        "Bearer caf\u00e9",
    ],
)
@pytest.mark.parametrize("path", ["/groups", "/groups/1", "/groups/1/events", "/events/1"])
def test_a_missing_or_unknown_token_is_refused(client: FlaskClient, path: str, authorization: str) -> None:
    response = client.get(f"/api/v1{path}", headers={"Authorization": authorization})
    assert (response.status_code, code_of(response)) == (401, "token_invalid")


def test_a_token_reads_its_own_workspace_only(environ: dict[str, str]) -> None:
    add_workspace()
    add_workspace("acme")
    with session():
        token = tenants.create_token("acme", can_write=False, name="acme")
    client = web(environ)
    ours = open_group("ours")
    assert [group["id"] for group in ask(client, "/groups").get_json()["groups"]] == [ours]
    assert ask(client, "/groups", token).get_json() == {"groups": [], "next_cursor": None}
    for path in (f"/groups/{ours}", f"/groups/{ours}/events", f"/events/{event_of(ours)}"):
        assert ask(client, path).status_code == 200
        assert code_of(ask(client, path, token)) == "not_found"


def test_a_token_works_at_once_and_after_revocation_only_while_it_is_cached(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ)
    with session():
        token = tenants.create_token("default", can_write=False, name="mine")
    assert ask(client, "/groups", token).status_code == 200
    with session():
        tenants.revoke_token("default", "mine")
    assert ask(web(environ), "/groups", token).status_code == 401


def test_calls_are_limited_by_token(environ: dict[str, str]) -> None:
    add_workspace()
    with session():
        other = tenants.create_token("default", can_write=False, name="other")
    client = web(environ, RATELIMIT_API="2/hour")
    responses = [ask(client, "/groups") for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert responses[0].headers["X-RateLimit-Limit"] == "2"
    assert int(responses[2].headers["Retry-After"]) > 0
    assert ask(client, "/groups", other).status_code == 200


def test_without_postgresql_the_api_is_unavailable(client: FlaskClient, environ: dict[str, str]) -> None:
    assert ask(client, "/groups").status_code == 200
    with no_database(environ["DATABASE_URL"]):
        response = ask(client, "/groups")
    assert (response.status_code, code_of(response)) == (503, "unavailable")


# --- responses


def test_a_group_has_all_its_fields(client: FlaskClient) -> None:
    record(pending_event("e1", 0, issue="7"), pending_event("e2", 1, issue="7"))
    (group,) = ask(client, "/groups").get_json()["groups"]
    assert list(group) == GROUP_FIELDS
    assert group["first_seen_at"] == "2026-03-01T12:00:00.000000Z"
    assert group["last_seen_at"] == "2026-03-01T12:01:00.000000Z"
    assert (group["id"], group["count"], group["status"], group["severity"]) == (1, 2, "open", "high")
    assert group["fingerprint"] == "issue:7"
    assert group["assignee_user_id"] is None
    assert ask(client, "/groups/1").get_json() == group


def test_a_group_names_the_one_before_it(client: FlaskClient) -> None:
    record(pending_event("e1", 0))
    record(pending_event("e2", 500))
    assert [group["previous_group_id"] for group in ask(client, "/groups").get_json()["groups"]] == [1, None]


def test_an_event_has_its_tags_and_its_payload(client: FlaskClient) -> None:
    group_id = open_group("a")
    (listed,) = ask(client, f"/groups/{group_id}/events").get_json()["events"]
    event = ask(client, f"/events/{listed['id']}").get_json()
    assert event.pop("payload") == {}
    assert event == listed
    assert listed["alert_group_id"] == group_id
    assert listed["tags"] == [["release", "1.0"]]
    assert listed["received_at"] == "2026-03-01T12:00:00.000000Z"
    assert listed["decision"] == "new"


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (None, None),
        ('{"a":[1,2.5,"\\ud800","caf\\u00e9"]}', {"a": [1, 2.5, "\ud800", "caf\u00e9"]}),
        ('{"a":NaN,"b":-Infinity}', {"a": None, "b": None}),
        ('{"a":' + "1" * 5000 + "}", {"a": "1" * 5000}),
    ],
)
def test_any_stored_payload_is_returned_as_json(
    client: FlaskClient, stored: str | None, expected: dict[str, object] | None
) -> None:
    group_id = open_group("a")
    with session():
        AlertEvent.update(payload_json=stored).execute()
    response = ask(client, f"/events/{event_of(group_id)}")
    assert response.status_code == 200
    assert json.loads(response.data, parse_constant=pytest.fail)["payload"] == expected


@pytest.mark.parametrize(
    "path",
    ["/groups/99", "/groups/99/events", "/events/99", f"/groups/{2**63}", "/groups/x", "/groups/-1", "/events/1e3"],
)
def test_an_unknown_id_is_not_found(client: FlaskClient, path: str) -> None:
    response = ask(client, path)
    assert (response.status_code, code_of(response)) == (404, "not_found")


# --- query strings


def test_filters_are_alternatives_and_combine(client: FlaskClient) -> None:
    open_group("a", 1, environment="prod", severity="critical")
    open_group("b", 2, environment="staging", severity="low")
    open_group("c", 3, environment="prod", severity="low")

    def found(query: str) -> list[str]:
        return [group["title"] for group in ask(client, f"/groups?{query}").get_json()["groups"]]

    assert found("") == ["c", "b", "a"]
    assert found("environment=prod") == ["c", "a"]
    assert found("environment=prod&environment=staging") == ["c", "b", "a"]
    assert found("environment=!prod") == ["b"]
    assert found("environment=prod&severity_min=high") == ["a"]
    assert found("environment=prod&severity=!critical&status=open&current=true") == ["c"]
    assert found("q=A") == ["a"]
    assert found("sort=last_seen") == ["a", "b", "c"]
    assert found("sort=-severity&limit=1") == ["a"]
    assert found("since=2026-03-01T12:02:00Z&until=2026-03-01T13:03:00%2B01:00") == ["b"]
    assert found("assignee=none&source=sentry&project=api") == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=1000000", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        (f"limit={'9' * 5000}", "limit"),
        ("limit=1&limit=2", "limit"),
        ("unknown=1", "unknown"),
        ("unknown=1&unknown=2", "unknown"),
        ("status=closed", "status"),
        ("status=open&status=!closed", "status"),
        ("status=", "status"),
        ("severity=!", "severity"),
        ("severity_min=awful", "severity_min"),
        ("environment=", "environment"),
        ("environment=" + "x" * 300, "environment"),
        ("&".join(f"project=p{n}" for n in range(51)), "project"),
        ("project=a%00b", "project"),
        ("q=%00", "q"),
        ("q=", "q"),
        ("q=" + "x" * 10_000, "q"),
        ("current=maybe", "current"),
        ("since=yesterday", "since"),
        ("since=-1", "since"),
        ("since=2026-03-01T12:00:00", "since"),
        ("since=2026-02-30", "since"),
        ("since=2026-03", "since"),
        ("until=99999-01-01T00:00:00Z", "until"),
        ("since=0001-01-01T00:00:00%2B23:59", "since"),
        ("until=9999-12-31T23:59:59-23:59", "until"),
        ("sort=title", "sort"),
        ("sort=--count", "sort"),
        ("sort=count&sort=severity", "sort"),
    ],
)
def test_a_bad_parameter_is_named(client: FlaskClient, query: str, parameter: str) -> None:
    response = ask(client, f"/groups?{query}")
    assert (response.status_code, code_of(response)) == (422, "fields_invalid")
    assert list(response.get_json()["errors"]) == [parameter]


def test_a_group_with_invisible_characters_in_its_names_is_found_by_them(client: FlaskClient) -> None:
    title, environment = "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER} at work", "prod\N{RIGHT-TO-LEFT MARK}"
    record(pending_event("a", title=title, environment=environment))
    for query in (f"q={quote(title)}", f"environment={quote(environment)}"):
        assert ask(client, f"/groups?{query}").get_json()["groups"][0]["title"] == title


@pytest.mark.parametrize("query", ["since=0001-01-01T00:00:00Z", "until=9999-12-31T23:59:59Z", "q=%25%5C_%27"])
def test_odd_but_valid_parameters_are_accepted(client: FlaskClient, query: str) -> None:
    open_group("a")
    assert ask(client, f"/groups?{query}").status_code == 200


@pytest.mark.parametrize("given", ["production", "prod", "PRODUCTION", "prd", "eu"])
def test_aliases_of_environments_hold_in_filters(environ: dict[str, str], given: str) -> None:
    add_workspace()
    client = web(environ, ENVIRONMENT_ALIASES="eu=prod")
    open_group("a", environment="prod")
    open_group("b", environment="dev")

    def found(path: str) -> list[str]:
        return [group["title"] for group in ask(client, path).get_json()["groups"]]

    assert found(f"/groups?environment={given}") == ["a"]
    assert found(f"/groups?environment=!{given}") == ["b"]


def test_groups_of_before_an_alias_was_set_are_found_by_their_own_name(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ, ENVIRONMENT_ALIASES="eu=prod")
    open_group("old", environment="eu")
    assert [group["title"] for group in ask(client, "/groups?environment=eu").get_json()["groups"]] == ["old"]


def test_a_date_is_its_beginning_in_utc(client: FlaskClient) -> None:
    open_group("before", -12 * 60 - 1)
    open_group("first", -12 * 60)
    open_group("last", 12 * 60 - 1)
    open_group("after", 12 * 60)
    groups = ask(client, "/groups?since=2026-03-01&until=2026-03-02&sort=last_seen").get_json()["groups"]
    assert [group["title"] for group in groups] == ["first", "last"]


@pytest.mark.parametrize("since", ["2026-03-01T12:00:00", "yesterday"])
def test_a_time_without_its_offset_is_refused_with_an_example(client: FlaskClient, since: str) -> None:
    (message,) = ask(client, f"/groups?since={since}").get_json()["errors"]["since"]
    assert "2026-03-01T12:00:00Z" in message


def test_a_list_of_events_takes_only_page_parameters(client: FlaskClient) -> None:
    group_id = open_group("a")
    assert code_of(ask(client, f"/groups/{group_id}/events?status=open")) == "fields_invalid"
    assert ask(client, f"/groups/{group_id}/events?limit=1").status_code == 200


# --- pages


def pages(client: FlaskClient, path: str, key: str, *, between: Callable[[], None] | None = None) -> list[Any]:
    """Return all rows, page by page; ``between`` runs after each page."""
    page = ask(client, path).get_json()
    rows = list(page[key])
    while page["next_cursor"]:
        if between:
            between()
        page = ask(client, f"{path}&cursor={page['next_cursor']}").get_json()
        rows += page[key]
    return rows


@pytest.mark.parametrize("sort", ["last_seen", "-first_seen", "count", "-severity"])
def test_pages_hold_every_group_once_in_every_order(client: FlaskClient, sort: str) -> None:
    for number in range(7):
        open_group(str(number), number // 2)
    whole = ask(client, f"/groups?sort={sort}").get_json()["groups"]
    assert pages(client, f"/groups?limit=2&sort={sort}", "groups") == whole
    assert len(whole) == 7


def test_pages_stay_whole_while_groups_arrive(client: FlaskClient) -> None:
    for number in range(6):
        open_group(str(number), number)
    arrived = iter(range(100, 200))

    def arrive() -> None:
        number = next(arrived)
        open_group(str(number), number)

    found = pages(client, "/groups?limit=2", "groups", between=arrive)
    assert [group["title"] for group in found] == ["5", "4", "3", "2", "1", "0"]


def test_events_are_listed_page_by_page(client: FlaskClient) -> None:
    recorded = record(*(pending_event(f"e{minute}", minute) for minute in range(5)), policy=grouping.GroupingPolicy())
    (group_id,) = recorded.group_ids
    found = pages(client, f"/groups/{group_id}/events?limit=2", "events")
    assert [event["source_event_id"] for event in found] == ["e4", "e3", "e2", "e1", "e0"]


def test_a_cursor_is_bound_to_its_workspace_its_query_and_its_list(environ: dict[str, str]) -> None:
    add_workspace()
    add_workspace("acme")
    with session():
        token = tenants.create_token("acme", can_write=False, name="acme")
    client = web(environ)
    for number in range(3):
        open_group(str(number), number)
    cursor = ask(client, "/groups?limit=1&status=open").get_json()["next_cursor"]
    assert ask(client, f"/groups?status=open&limit=2&cursor={cursor}").status_code == 200
    others = [
        ask(client, f"/groups?cursor={cursor}"),
        ask(client, f"/groups?status=ack&cursor={cursor}"),
        ask(client, f"/groups?status=open&sort=count&cursor={cursor}"),
        ask(client, f"/groups/1/events?cursor={cursor}"),
        ask(client, f"/groups?status=open&cursor={cursor}", token),
    ]
    assert {(other.status_code, code_of(other)) for other in others} == {(422, "cursor_invalid")}


def test_a_cursor_that_was_altered_or_made_up_is_refused(client: FlaskClient) -> None:
    for number in range(2):
        open_group(str(number), number)
    cursor = ask(client, "/groups?limit=1").get_json()["next_cursor"]
    assert cursor.replace("-", "").replace("_", "").replace(".", "").isalnum()
    altered = [cursor[:n] + ("A" if cursor[n] != "A" else "B") + cursor[n + 1 :] for n in range(len(cursor) - 1)]
    for bad in (*altered, cursor + "x", cursor[:-1], "x", ".", "..", "0", "%00", "caf%C3%A9", "9" * 3000):
        assert code_of(ask(client, f"/groups?cursor={bad}")) == "cursor_invalid", bad


def test_a_cursor_outlives_its_process(environ: dict[str, str]) -> None:
    add_workspace()
    for number in range(2):
        open_group(str(number), number)
    cursor = ask(web(environ), "/groups?limit=1").get_json()["next_cursor"]
    assert ask(web(environ), f"/groups?cursor={cursor}").get_json()["groups"][0]["title"] == "0"


def test_times_are_always_of_one_length() -> None:
    row = {"first_seen_at": at(0), "last_seen_at": at(0.0001)}
    times = [group_schema.dump_group(row)[name] for name in row]
    assert len({len(time) for time in times}) == 1
    assert all(time.endswith("Z") for time in times)


def test_an_empty_cursor_is_invalid(client: FlaskClient) -> None:
    response = ask(client, "/groups?cursor=")
    assert (response.status_code, code_of(response)) == (422, "cursor_invalid")
    assert list(response.get_json()["errors"]) == ["cursor"]


def test_any_page_can_have_the_estimate(client: FlaskClient) -> None:
    record(pending_event(issue="1"), pending_event(issue="2"))
    first = ask(client, "/groups?limit=1&total=estimate").get_json()
    assert ask(client, f"/groups?limit=1&cursor={first['next_cursor']}").status_code == 200


def test_a_small_total_is_exact_and_a_large_one_an_estimate(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(*(pending_event(issue=str(number)) for number in range(7)))

    def total(query: str = "") -> int:
        return int(ask(client, f"/groups?limit=1&total=estimate{query}").get_json()["total_estimate"])

    assert total() == 7  # without ANALYZE, the planner would not know
    assert total("&issue_id=3") == 1
    assert total("&q=title") == 7
    assert total("&status=resolved") == 0
    monkeypatch.setattr(queries, "MAX_EXACT_TOTAL", 3)
    assert total() >= 4


def test_reading_ignores_if_match(client: FlaskClient) -> None:
    record(pending_event(issue="1"))
    headers = {"Authorization": f"Bearer {TOKEN}", "If-Match": '"another"'}
    response = client.get("/api/v1/groups/1", headers=headers)
    assert (response.status_code, response.headers["Cache-Control"]) == (200, "private, no-cache")


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity"])
def test_an_event_with_an_infinite_number_is_still_json(client: FlaskClient, number: str) -> None:
    record(replace(pending_event("a"), payload=compress(b'{"x":' + number.encode() + b"}")))

    def fail(constant: str) -> None:
        raise AssertionError(constant)

    event = json.loads(ask(client, "/events/1").get_data(), parse_constant=fail)
    assert event["payload"] == {"x": None}


def test_a_preview_takes_no_parameters(client: FlaskClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    response = client.post("/api/v1/preview?unknown=1", data=b"{}", headers=headers)
    assert (response.status_code, list(response.get_json()["errors"])) == (422, ["unknown"])


def test_no_route_shows_groups_or_events_of_another_workspace(client: FlaskClient) -> None:
    """Covers every route of the API with a group or an event id, also future ones."""
    record(pending_event("mine"))
    add_workspace("acme")
    with session():
        stranger = tenants.create_token("acme", can_write=True, name="acme")
    tried = 0
    for rule in client.application.url_map.iter_rules():
        if not ({"group_id", "event_id", "event"} & rule.arguments and rule.rule.startswith("/api/")):
            continue
        (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        path = rule.build(dict.fromkeys(rule.arguments, 1))[1]  # type: ignore[index]  # it has all it needs
        for token, expected in ((stranger, {404}), (TOKEN, {200})):
            headers = {"Authorization": f"Bearer {token}"}
            response = client.open(path, method=method, headers=headers, json={} if method == "PATCH" else None)
            assert response.status_code in expected, (method, path, token == stranger)
        tried += 1
    assert tried >= 7
