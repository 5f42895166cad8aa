"""Query plans on 100,000 groups: lists and recording stay fast as tables grow."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from signalcraft.domain import grouping
from signalcraft.domain.alerts import Severity
from signalcraft.groups import episodes, hourly_counts, record
from signalcraft.groups.hourly_counts import Period
from signalcraft.groups.reading import activity, event_queries, occurrences, pages, queries, summary
from signalcraft.groups.reading.filters import EventFilter, GroupFilter, ValueFilter
from signalcraft.groups.reading.pages import Page
from signalcraft.groups.reading.queries import Order, SortKey
from signalcraft.storage.database import database, session
from tests.support.builders import at, end, episode, pending_event
from tests.support.query_plans import nodes, recorded_plans
from tests.support.web_client import add_workspace

NOW = at(0)
WORKSPACES = 20
PAGE = 50
MAX_EVENTS = 500

_LOAD = """
    INSERT INTO alert_group (
        workspace_id, group_key, source, project, environment, fingerprint, title, severity, alert_severity, status,
        is_current, count, first_seen_at, last_seen_at, assignee_user_id
    )
    SELECT 1 + n %% 20, 'v1:' || n, 'sentry', 'project-' || n / 20 %% 50,
           (ARRAY['prod', 'staging', 'dev'])[1 + n / 20 %% 3],
           'issue:' || n, 'ValueError: cannot parse ' || md5(n::text), scale[1 + n / 20 %% 7 %% 5], scale[1 + n %% 5],
           (ARRAY['open', 'open', 'ack', 'open', 'snoozed'])[1 + n / 20 %% 5], n %% 3 = 0, 1 + n %% 1009,
           '2026-03-01T12:00Z'::timestamptz - n * interval '2 seconds',
           '2026-03-01T12:00Z'::timestamptz - n * interval '1 second',
           CASE WHEN n / 20 %% 10 = 0 THEN 'sentry:user:' || n / 20 %% 30 END
    FROM generate_series(1, 100000) AS n, (SELECT '{info,low,med,high,critical}'::text[]) AS of (scale)"""


#: 100,000 events: 2,000 of one group, the others spread over all groups; and as many changes of that group.
_EVENTS = """
    INSERT INTO alert_event (
        workspace_id, alert_group_id, source, source_event_id, delivery_id, project, environment, severity, fingerprint,
        title, message, tags_json, triggered_rules, occurred_at, received_at, decision
    )
    SELECT g.workspace_id, g.id, 'sentry', 'event-' || n, 'delivery-' || n, g.project, g.environment, g.severity,
           g.fingerprint, g.title, '', jsonb_build_array(jsonb_build_array('release', (n %% 3)::text)), '["rule"]',
           at, at, 'joined'
    FROM generate_series(1, 100000) AS n
    JOIN alert_group g ON g.id = CASE WHEN n <= 2000 THEN 6 ELSE n END,
    LATERAL (SELECT g.last_seen_at - n * interval '1 second' AS at) AS moment"""
#: 300,000 hours: 2,000 of each of two groups, and three of each group. And 10,000 earlier groups of one key.
_HOURS = """
    INSERT INTO group_hour (alert_group_id, hour, alerts)
    SELECT g, '2026-03-01T12:00Z'::timestamptz - n * interval '1 hour', n
    FROM (SELECT g, n FROM generate_series(1, 100000) AS g, generate_series(1, 3) AS n
          UNION SELECT g, n FROM unnest(ARRAY[6, 7]) AS g, generate_series(1, 2000) AS n) AS of (g, n)"""
_OCCURRENCES = """
    INSERT INTO alert_group (
        workspace_id, group_key, source, project, environment, fingerprint, title, severity, alert_severity, status,
        is_current, count, first_seen_at, last_seen_at, resolved_at
    )
    SELECT workspace_id, group_key, source, project, environment, fingerprint, title, severity, alert_severity,
           'resolved', false, 1, at, at, at
    FROM alert_group, generate_series(1, 10000) AS n,
    LATERAL (SELECT first_seen_at - n * interval '90 minutes' AS at) AS moment WHERE id = 11"""
_CHANGES = """
    INSERT INTO group_change (workspace_id, alert_group_id, changed_at, actor, changed_by, field, from_value, to_value)
    SELECT g.workspace_id, g.id, now(), 'token', 'me', 'status', 'open', 'ack'
    FROM generate_series(1, 20000) AS n JOIN alert_group g ON g.id = CASE WHEN n <= 2000 THEN 6 ELSE n END"""

#: 20,000 hourly counts, before the period that is asked for: autovacuum may have found the table empty, after the tests
#: before, and an empty table is read whole.
_COUNTS = """
    INSERT INTO hourly_count (workspace_id, hour, project, environment, severity, alerts, duplicates, groups_new,
        groups_updated)
    SELECT workspace_id, '2026-03-01T12:00Z'::timestamptz - n * interval '1 hour', 'api', 'prod', 'high', 1, 0, 1, 0
    FROM generate_series(1, 20) AS workspace_id, generate_series(1001, 2000) AS n"""

#: 100,000 episodes of one condition and group: the last of them lasts.
_EPISODES = """
    INSERT INTO episode (workspace_id, source, source_event_id, alert_group_id, last_seen_at, resolved_at)
    SELECT 7, 'sentry', 'pod:' || lpad(n::text, 6, '0'), 6, at, CASE WHEN n < 100000 THEN at END
    FROM generate_series(1, 100000) AS n,
    LATERAL (SELECT '2026-03-01T12:00Z'::timestamptz - (100000 - n) * interval '1 minute' AS at) AS moment"""


@pytest.fixture(scope="module")
def large(database_url: str) -> Iterator[None]:  # noqa: ARG001 - for that it is open
    """Load the tables once for the tests of this file, and truncate them afterwards."""
    with session():
        database.execute_sql("TRUNCATE workspace RESTART IDENTITY CASCADE")
    for number in range(WORKSPACES):
        add_workspace(f"w{number}")
    with session(), database.atomic():
        database.execute_sql("SET LOCAL statement_timeout = '120s'")
        for statement in (_LOAD, _EVENTS, _CHANGES, _HOURS, _COUNTS, _OCCURRENCES, _EPISODES):
            database.execute_sql(statement)
    with session():
        database.cursor().execute(
            "VACUUM (ANALYZE) alert_group, alert_event, group_change, group_hour, hourly_count, episode"
        )
    yield
    with session():
        database.execute_sql("TRUNCATE workspace RESTART IDENTITY CASCADE")


@pytest.fixture
def query_plans(large: None, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:  # noqa: ARG001 - for its rows
    """The plans of the queries that ``queries`` runs, as executed."""
    plans: list[dict[str, Any]] = []
    fetch_rows = pages.fetch

    def explain(query: Any) -> Any:  # noqa: ANN401 - as Peewee has it
        sql, parameters = query.sql()
        ((found,),) = database.execute_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", parameters).fetchall()
        plans.append(found[0]["Plan"])
        return fetch_rows(query)

    monkeypatch.setattr(pages, "fetch", explain)
    return plans


def check(plan: dict[str, Any]) -> None:
    printed = json.dumps(plan, indent=1)
    for node in nodes(plan):
        assert node["Node Type"] != "Seq Scan", printed
        if "Sort" in node["Node Type"]:
            assert max(inner["Actual Rows"] for inner in node["Plans"]) <= 2 * (PAGE + 1), printed


def page(group_filter: GroupFilter | None = None, order: Order | None = None, after: Any = None) -> Page:  # noqa: ANN401 - a position
    with session():
        return queries.groups(7, group_filter or GroupFilter(), order or Order(), limit=PAGE, after=after, now=NOW)


def only(value: str) -> ValueFilter:
    return ValueFilter(include=(value,))


@pytest.mark.parametrize("key", SortKey)
@pytest.mark.parametrize("descending", [True, False])
def test_the_first_ten_pages_of_every_order_use_an_index(
    query_plans: list[dict[str, Any]], key: SortKey, *, descending: bool
) -> None:
    order = Order(key=key, descending=descending)
    after = None
    for _ in range(10):
        after = page(order=order, after=after).end
    for plan in query_plans:
        check(plan)
        assert sum(node.get("Rows Removed by Filter", 0) for node in nodes(plan)) == 0


@pytest.mark.parametrize(
    "group_filter",
    [
        GroupFilter(status=only("ack")),
        GroupFilter(status=only("open")),
        GroupFilter(status=ValueFilter(exclude=("open",))),
        GroupFilter(severity=only("critical")),
        GroupFilter(environment=only("dev")),
        GroupFilter(environment=ValueFilter(exclude=("prod",))),
        GroupFilter(project=only("project-7")),
        GroupFilter(project=only("no-such-project")),
        GroupFilter(source=only("sentry")),
        GroupFilter(issue_id=only("7")),
        GroupFilter(issue_id=only("no such issue")),
        GroupFilter(fingerprint=only("issue:7")),
        GroupFilter(fingerprint=only("no such fingerprint")),
        GroupFilter(assignee=only("sentry:user:20")),
        GroupFilter(assignee=only("none")),
        GroupFilter(severity_min=Severity.HIGH),
        GroupFilter(current=True),
        GroupFilter(current=True, status=only("open")),
        GroupFilter(current=True, status=only("ack")),
        GroupFilter(since=at(-60)),
        GroupFilter(until=at(-600)),
        GroupFilter(severity_min=Severity.HIGH, environment=only("prod"), project=only("project-6")),
        GroupFilter(q="value"),
        GroupFilter(q="c4ca4238a0"),
        GroupFilter(q="in no title"),
        GroupFilter(q="in no title", status=only("open")),
    ],
)
def test_the_first_page_of_every_filter_uses_an_index(
    query_plans: list[dict[str, Any]], group_filter: GroupFilter
) -> None:
    page(group_filter)
    assert query_plans
    for plan in query_plans:
        check(plan)


@pytest.mark.parametrize("name", ["issue_id", "fingerprint", "source"])
def test_an_issue_or_a_source_reads_only_its_own_groups(query_plans: list[dict[str, Any]], name: str) -> None:
    page(replace(GroupFilter(), **{name: only("no such one")}))  # type: ignore[arg-type]  # each is a choice
    (plan,) = query_plans
    for node in nodes(plan):
        assert node["Actual Rows"] == node.get("Rows Removed by Filter", 0) == 0, json.dumps(node, indent=1)


@pytest.mark.parametrize(
    ("event_filter", "most"),
    [
        (EventFilter(), PAGE + 1),
        (EventFilter(since=at(-600)), PAGE + 1),
        (EventFilter(until=at(-600)), PAGE + 1),
        (EventFilter(source_event_id=only("event-2007")), 1),
        (EventFilter(source_event_id=ValueFilter(include=("event-2007", "none", "neither"))), 1),
        (EventFilter(delivery_id=only("delivery-2007")), 1),
        (EventFilter(delivery_id=ValueFilter(include=("delivery-2007", "delivery-2027", "none"))), 2),
        (EventFilter(delivery_id=only("delivery-2007"), tag=only("release=none")), 1),
        (EventFilter(tag=only("release=2")), MAX_EVENTS),
        (EventFilter(tag=only("release=none")), MAX_EVENTS),
        (EventFilter(rule=only("none")), MAX_EVENTS),
        (EventFilter(rule=ValueFilter(exclude=("rule",)), since=at(-600)), MAX_EVENTS),
    ],
)
def test_a_page_of_events_reads_no_more_than_it_may(
    query_plans: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, event_filter: EventFilter, most: int
) -> None:
    monkeypatch.setattr(event_queries, "MAX_EVENTS", MAX_EVENTS)
    with session():
        first = event_queries.events(8, event_filter, limit=PAGE, after=None)
        if first.end:
            event_queries.events(8, event_filter, limit=PAGE, after=first.end)
    for plan in query_plans:
        for node in nodes(plan):
            printed = json.dumps(plan, indent=1)
            assert node["Node Type"] != "Seq Scan", printed
            read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            assert read * node["Actual Loops"] <= most + 1, printed


@pytest.mark.parametrize("name", ["event-2007", "delivery-2007", "no-such-event"])
def test_an_event_is_found_by_any_of_its_ids(query_plans: list[dict[str, Any]], name: str) -> None:
    with session():
        found = event_queries.find_event(8, name)
    assert (found is None) is (name == "no-such-event")
    for plan in query_plans:
        for node in nodes(plan):
            assert node["Node Type"] != "Seq Scan"
            assert node["Actual Rows"] + node.get("Rows Removed by Filter", 0) <= 1, json.dumps(plan, indent=1)


@pytest.mark.parametrize(
    "group_filter",
    [GroupFilter(), GroupFilter(status=only("open")), GroupFilter(project=only("project-7")), GroupFilter(q="value")],
)
def test_a_summary_uses_an_index_and_reads_no_more_than_it_counts(
    query_plans: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, group_filter: GroupFilter
) -> None:
    monkeypatch.setattr(summary, "MAX_GROUPS", 500)
    monkeypatch.setattr(queries, "MAX_TITLES", 100)
    with session():
        found = summary.summarize(7, group_filter, now=NOW)
    assert not found.complete
    for plan in query_plans:
        for node in nodes(plan):
            printed = json.dumps(plan, indent=1)
            assert node["Node Type"] != "Seq Scan", printed
            assert node["Actual Rows"] * node["Actual Loops"] <= 501, printed


@pytest.mark.parametrize("key", SortKey)
@pytest.mark.parametrize("descending", [True, False])
def test_a_page_of_a_search_reads_no_more_titles_than_it_may_in_any_order(
    query_plans: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, key: SortKey, *, descending: bool
) -> None:
    monkeypatch.setattr(queries, "MAX_TITLES", 100)
    order = Order(key=key, descending=descending)
    first = page(GroupFilter(q="in no title"), order)
    assert first.end is not None
    page(GroupFilter(q="in no title"), order, after=first.end)
    assert len(query_plans) == 4
    for plan in query_plans:
        for node in nodes(plan):
            printed = json.dumps(plan, indent=1)
            assert node["Node Type"] != "Seq Scan", printed
            read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            assert read * node["Actual Loops"] <= 110, printed


def test_an_exact_total_reads_no_more_than_it_counts(
    query_plans: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MAX_EXACT_TOTAL", 100)
    with session():
        assert queries.estimate(7, GroupFilter(status=only("open")), now=NOW) > 1_000
    for node in nodes(query_plans[0]):
        assert node["Actual Rows"] <= 101, json.dumps(query_plans, indent=1)


def test_an_export_scans_by_id(query_plans: list[dict[str, Any]]) -> None:
    with session():
        first = queries.groups_by_id(7, GroupFilter(), after=None, now=NOW)
        queries.groups_by_id(7, GroupFilter(), after=first.end, now=NOW)
    for plan in query_plans:
        assert {node["Node Type"] for node in nodes(plan)} <= {"Limit", "Index Scan"}


@pytest.mark.usefixtures("large")
def test_an_estimate_is_close_to_the_real_number() -> None:
    with session():
        assert 4_000 < queries.estimate(7, GroupFilter(), now=NOW) < 6_000


def test_a_group_an_event_and_pages_of_events_and_changes_use_an_index(query_plans: list[dict[str, Any]]) -> None:
    with session():
        assert queries.group(7, 6, now=NOW)
        assert event_queries.event(7, event_queries.events_of_group(7, 6, limit=1, after=None).rows[0]["id"])
        for list_page in (event_queries.events_of_group, queries.history):
            first = list_page(7, 6, limit=PAGE, after=None)
            second = list_page(7, 6, limit=PAGE, after=first.end)
            assert [len(found.rows) for found in (first, second)] == [PAGE, PAGE]
    assert len(query_plans) == 7
    for plan in query_plans:
        check(plan)
        for node in nodes(plan):
            assert node["Actual Rows"] <= PAGE + 1, json.dumps(node, indent=1)


@pytest.fixture
def recording_plans(large: None, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:  # noqa: ARG001 - for its rows
    """The plans of statements that write: EXPLAIN first, rolled back, then the statement."""
    plans: list[dict[str, Any]] = []
    execute = database.execute_sql

    def explain(sql: str, parameters: Any = None) -> Any:  # noqa: ANN401 - as Peewee has it
        if "json_to_recordset(" in sql or "episode" in sql:
            for statement in sql.split("; "):
                with database.atomic() as attempt:
                    ((found,),) = execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).fetchall()
                    attempt.rollback()
                plans.append(found[0]["Plan"])
        return execute(sql, parameters)

    monkeypatch.setattr(database, "execute_sql", explain)
    return plans


@pytest.fixture
def statement_plans(large: None, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:  # noqa: ARG001 - for its rows
    """The plans of all statements, as executed."""
    return recorded_plans(monkeypatch)


@pytest.mark.parametrize(
    ("read", "most"),
    [
        (lambda: activity.last_hours(8, [7 + 20 * number for number in range(PAGE)], now=NOW), PAGE * 24),
        (lambda: activity.last_days(7, 6, now=NOW), 28 * 24),
        (lambda: occurrences.seen(12, 11, now=NOW), 3 * 16 * 30),
        (lambda: occurrences.occurrences(12, 11, limit=PAGE, after=None, now=NOW), 2 * PAGE),
        (lambda: hourly_counts.of(7, Period(since=at(-60 * 24 * 28), until=at(60))), hourly_counts.TOP),
    ],
)
def test_hours_occurrences_and_statistics_read_only_what_they_count(
    statement_plans: list[dict[str, Any]], read: Callable[[], object], most: int
) -> None:
    with session():
        read()
    assert statement_plans
    for plan in statement_plans:
        for node in nodes(plan):
            printed = json.dumps(plan, indent=1)
            assert node["Node Type"] != "Seq Scan", printed
            assert (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] <= most, printed


def test_alerts_of_inactive_groups_read_only_their_own_groups(recording_plans: list[dict[str, Any]]) -> None:
    keys = [3 * number for number in range(1, 21)]
    pending = [
        replace(pending_event(f"quiet-{key}", 6000), workspace_id=1 + key % WORKSPACES, group_key=f"v1:{key}")
        for key in keys
    ]
    with session(), database.atomic() as transaction:
        recorded = record.record(pending, grouping.GroupingPolicy())
        transaction.rollback()
    assert recorded.created == len(keys)
    for plan in recording_plans:
        for node in nodes(plan):
            printed = json.dumps(node, indent=1)
            if node.get("Relation Name") == "alert_group":
                assert node["Node Type"] != "Seq Scan", printed
                assert node["Actual Rows"] * node["Actual Loops"] <= 2 * len(keys), printed
            assert node.get("Rows Removed by Filter", 0) <= len(keys), printed


@pytest.mark.parametrize("fires", [True, False], ids=["superseded", "ended"])
def test_an_episode_reads_no_earlier_ones(recording_plans: list[dict[str, Any]], *, fires: bool) -> None:
    names = ("pod:100000", "pod:100001") if fires else ("pod:100000",)
    pending = [episode(name, 10, workspace_id=7, supersedes="pod:") for name in names]
    firing = [(event.workspace_id, event.alert) for event in pending]
    with session(), database.atomic() as transaction:
        assert episodes.apply_repeats(firing) == 0
        episodes.begin(pending)
        assert episodes.follow(firing, [] if fires else [end("pod:100000", 20, workspace_id=7)]) == 1
        transaction.rollback()
    for plan in recording_plans:
        for node in nodes(plan):
            if node.get("Relation Name") == "episode":
                printed = json.dumps(plan, indent=1)
                assert node["Node Type"] != "Seq Scan", printed
                read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                assert read * node["Actual Loops"] <= 2 * len(names), printed


def test_a_group_whose_episode_lasts_again_reads_only_groups_of_its_key(recording_plans: list[dict[str, Any]]) -> None:
    resolve = """UPDATE alert_group SET status = 'resolved', is_current = false, snoozed_until = NULL,
                        resolved_at = last_seen_at, source_status_at = last_seen_at WHERE id = 6"""
    lasting = episode("pod:100000", 10, workspace_id=7)
    with session(), database.atomic() as transaction:
        database.execute_sql(resolve)
        assert episodes.follow([(7, lasting.alert)], []) == 1
        transaction.rollback()
    for plan in recording_plans:
        for node in nodes(plan):
            if node.get("Relation Name") == "alert_group" and "Scan" in node["Node Type"]:
                by = {"alert_group_pkey", "alert_group_current_key", "alert_group_history"}
                assert node.get("Index Name") in by, json.dumps(plan, indent=1)
