"""Alerts of groups by hour and by day."""

from typing import Any

import pytest

from signalcraft.domain import grouping
from signalcraft.groups import record as groups_record
from signalcraft.groups.reading import activity
from signalcraft.storage.database import database, session
from tests.support.builders import at, groups, pending_event, record
from tests.support.tables import miscounted_hours
from tests.support.web_client import add_workspace

NOW = at(30)


@pytest.fixture(autouse=True)
def workspaces(clean_database: str) -> None:  # noqa: ARG001 - for that it is clean
    for slug in ("one", "two"):
        add_workspace(slug)


def hours(*group_ids: int, workspace_id: int = 1) -> list[dict[int, int]]:
    """Return the counts of each group that are not 0, by hours ago."""
    with session():
        found = activity.last_hours(workspace_id, group_ids, now=NOW)
    for of_group in found.values():
        assert (of_group.since, len(of_group.counts)) == (at(-23 * 60), 24)
    assert list(found) == list(group_ids)
    return [
        {23 - place: alerts for place, alerts in enumerate(of_group.counts) if alerts} for of_group in found.values()
    ]


def test_alerts_are_counted_in_the_hour_in_which_they_were_received() -> None:
    record(*(pending_event(minute=minute) for minute in (-61, -60, -1, 0, 29)))
    assert hours(1) == [{2: 1, 1: 2, 0: 2}]


def test_duplicates_and_replays_count_no_second_time_and_a_late_alert_counts_in_its_own_hour() -> None:
    stored = [pending_event("a", -120), pending_event("b", 0)]
    record(*stored, stored[0])
    record(*stored)
    with session():
        groups_record.record([*stored, pending_event("c", -119)], grouping.GroupingPolicy(), is_replay=True)
    assert hours(*(group.id for group in groups())) == [{2: 2}, {0: 1}]
    assert miscounted_hours() == []


def test_a_preview_counts_nothing() -> None:
    record(pending_event())
    with session():
        groups_record.preview([pending_event()], grouping.GroupingPolicy())
    assert hours(1) == [{0: 1}]


def test_only_the_last_24_hours_count_and_groups_without_alerts_are_there() -> None:
    record(pending_event(minute=-23 * 60), pending_event(minute=-23 * 60 - 1))
    record(pending_event(minute=-3_000, issue="2"))
    assert hours(*(group.id for group in groups())) == [{23: 1}, {}]


def test_the_groups_of_another_workspace_have_no_alerts() -> None:
    record(pending_event(workspace_id=2))
    assert hours(1) == [{}]
    assert hours(1, workspace_id=2) == [{0: 1}]
    with session():
        assert sum(activity.last_days(1, 1, now=NOW).counts) == 0


def test_28_days_end_with_today() -> None:
    day = 24 * 60
    record(*(pending_event(minute=minute) for minute in (-27 * day - 12 * 60, -27 * day - 12 * 60 - 1, -13 * 60, 0, 1)))
    with session():
        found = [activity.last_days(1, group.id, now=NOW) for group in groups()]
    assert {(of_group.since, len(of_group.counts)) for of_group in found} == {(at(-27 * day - 12 * 60), 28)}
    assert [sum(counts) for counts in zip(*(of_group.counts for of_group in found), strict=True)] == [
        1,
        *[0] * 25,
        1,
        2,
    ]


def test_a_list_of_fifty_groups_takes_one_query(monkeypatch: pytest.MonkeyPatch) -> None:
    record(*(pending_event(issue=str(number)) for number in range(50)))
    statements = []
    execute = database.execute_sql

    def remember(sql: str, parameters: Any = None) -> Any:  # noqa: ANN401 - as Peewee has it
        statements.append(sql)
        return execute(sql, parameters)

    monkeypatch.setattr(database, "execute_sql", remember)
    assert hours(*range(1, 51)) == [{0: 1}] * 50
    assert len(statements) == 1
    assert hours() == []
