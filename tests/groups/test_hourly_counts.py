"""Statistics: counted per hour as alerts are recorded, and served over HTTP."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask.testing import FlaskClient

from signalcraft.domain import grouping
from signalcraft.domain.alerts import Severity
from signalcraft.groups import hourly_counts
from signalcraft.groups import record as groups_record
from signalcraft.groups.hourly_counts import Period
from signalcraft.storage import tenants
from signalcraft.storage.database import session
from signalcraft.storage.models import HourlyCount
from tests.support.builders import at, pending_event, record
from tests.support.web_client import add_workspace, ask, code_of, web

DAY = "since=2026-03-01T00:00:00Z&until=2026-03-02T00:00:00Z"
COUNTS = ("alerts", "duplicates", "joined", "groups_new", "groups_updated", "dedup_ratio")


@pytest.fixture
def client(environ: dict[str, str]) -> FlaskClient:
    add_workspace()
    return web(environ)


def stats(client: FlaskClient, period: str = DAY) -> dict[str, Any]:
    body: dict[str, Any] = ask(client, f"/stats?{period}").get_json()
    return body


def sums(row: dict[str, Any]) -> tuple[object, ...]:
    return tuple(row[name] for name in COUNTS)


def test_alerts_are_counted_by_outcome(client: FlaskClient) -> None:
    record(
        pending_event("a", 0), pending_event("a", 0), pending_event("b", 1)
    )  # opens a group; a duplicate; joins the group
    record(
        pending_event("a", 0), pending_event("c", 2), pending_event("d", 3)
    )  # a duplicate; two join an existing group
    assert sums(stats(client)) == (6, 2, 3, 1, 1, 0.8333)


@pytest.mark.usefixtures("client")
def test_the_alerts_of_an_hour_count_each_once_however_often_they_are_repeated() -> None:
    record(pending_event("a", 0), pending_event("a", 1))
    record(pending_event("a", 2), pending_event("b", 3))
    record(pending_event("a", 70))
    with session():
        counts = hourly_counts.by_hour(1, Period(since=at(0), until=at(120)))
    assert [number for _, number in counts] == [2, 0]


def test_counts_are_divided_by_hour_severity_environment_and_project(client: FlaskClient) -> None:
    record(
        pending_event("a", 0),
        pending_event("b", 70, issue="2", severity=Severity.LOW),
        pending_event("c", 59, environment="dev"),
    )
    body = stats(client)
    assert [(row["hour"], row["alerts"]) for row in body["by_hour"]] == [
        ("2026-03-01T12:00:00.000000Z", 2),
        ("2026-03-01T13:00:00.000000Z", 1),
    ]
    assert [(row["severity"], row["alerts"]) for row in body["by_severity"]] == [("high", 2), ("low", 1)]
    assert [(row["environment"], row["alerts"]) for row in body["by_environment"]] == [("dev", 1), ("prod", 2)]
    assert [(row["project"], *sums(row)) for row in body["by_project"]] == [("api", 3, 0, 0, 3, 0, 0.0)]


def test_the_largest_groups_are_listed(client: FlaskClient) -> None:
    record(pending_event("a", 0), pending_event("b", 1), pending_event("c", 0, issue="2"))
    assert [(group["count"], group["title"]) for group in stats(client)["top_groups"]] == [
        (2, "title of b"),
        (1, "title of c"),
    ]


def test_a_period_is_widened_to_full_hours(client: FlaskClient) -> None:
    record(pending_event("a", 0), pending_event("b", 61))
    body = stats(client, "since=2026-03-01T12:10:00Z&until=2026-03-01T12:20:00Z")
    assert (body["since"], body["until"]) == ("2026-03-01T12:00:00.000000Z", "2026-03-01T13:00:00.000000Z")
    assert body["alerts"] == 1


def test_all_counts_of_a_day_without_alerts_are_zero(client: FlaskClient) -> None:
    body = stats(client, "")
    assert sums(body) == (0, 0, 0, 0, 0, 0.0)
    assert body["by_hour"] == body["top_groups"] == []


def test_a_preview_is_not_counted(client: FlaskClient) -> None:
    with session():
        groups_record.preview([pending_event("a", 0)], grouping.GroupingPolicy())
    assert stats(client)["alerts"] == 0


def test_another_workspace_is_not_counted(client: FlaskClient) -> None:
    add_workspace("acme")
    with session():
        token = tenants.create_token("acme", can_write=False, name="acme")
    record(pending_event())
    assert ask(client, f"/stats?{DAY}", token).get_json()["alerts"] == 0


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("since=2026-03-02T00:00:00Z&until=2026-03-01T00:00:00Z", "since"),
        ("since=2025-03-02T00:00:00Z&until=2026-03-01T00:00:00Z", "since"),
        ("since=0001-01-01T00:00:00Z", "since"),
        ("until=0001-01-01T00:00:00Z", "until"),
        ("until=9999-12-31T23:59:59Z", "until"),
        ("since=-1", "since"),
        ("project=api", "project"),
    ],
)
def test_the_invalid_parameter_of_a_period_is_named(client: FlaskClient, query: str, parameter: str) -> None:
    response = ask(client, f"/stats?{query}")
    assert (response.status_code, code_of(response)) == (422, "fields_invalid")
    assert list(response.get_json()["errors"]) == [parameter]


@pytest.mark.usefixtures("client")
def test_concurrent_workers_count_exactly_and_never_deadlock() -> None:
    def store_some(round_: int) -> None:
        alerts = [pending_event(f"{round_}-{n}", n * 7, issue=str(n), environment=f"e{n % 4}") for n in range(20)]
        record(*(alerts if round_ % 2 else alerts[::-1]))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store_some, range(40)))
    with session():
        rows = list(HourlyCount.select())
    assert sum(row.alerts for row in rows) == 800
    assert sum(row.groups_new for row in rows) == 20
