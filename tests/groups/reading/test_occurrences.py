"""Earlier and later groups of one problem."""

from datetime import timedelta

import pytest

from signalcraft.groups.reading import occurrences
from signalcraft.groups.reading.pages import Position
from signalcraft.storage.database import database, session
from tests.support.builders import at, change_group, groups, pending_event, record
from tests.support.web_client import add_workspace

DAY = 24 * 60
NOW = at(30)


@pytest.fixture(autouse=True)
def workspaces(clean_database: str) -> None:  # noqa: ARG001 - for that it is clean
    for slug in ("one", "two"):
        add_workspace(slug)


def seen(group_id: int = 1, workspace_id: int = 1) -> tuple[int, int]:
    with session():
        found = occurrences.seen(workspace_id, group_id, now=NOW)
    assert found.since == at(-29 * DAY - 12 * 60)
    return found.groups, found.days


def ids(group_id: int, *, limit: int = 50, after: Position | None = None, workspace_id: int = 1) -> list[int]:
    with session():
        page = occurrences.occurrences(workspace_id, group_id, limit=limit, after=after, now=NOW)
    found = [row["id"] for row in page.rows]
    return found if page.end is None else [*found, *ids(group_id, limit=limit, after=page.end)]


def test_a_problem_that_was_seen_once_was_seen_on_one_day() -> None:
    record(pending_event())
    assert seen() == (1, 1)
    assert ids(1) == [1]


def test_each_group_counts_and_each_day_counts_once() -> None:
    for days_ago in (3, 1, 0):
        for hour in (0, 2):
            record(pending_event(minute=-days_ago * DAY - hour * 60))
    record(pending_event(issue="2"), pending_event(environment="dev"), pending_event(workspace_id=2))
    chain = [
        group.id for group in groups() if (group.issue_id, group.environment, group.workspace_id) == ("1", "prod", 1)
    ]
    assert len(chain) == 6
    for group_id in chain:
        assert seen(group_id) == (6, 3)


def test_a_group_that_goes_on_counts_on_each_day_on_which_alerts_came() -> None:
    record(pending_event(minute=-5 * DAY))
    change_group(1, status="snoozed")
    record(*(pending_event(minute=minute) for minute in (-4 * DAY, -4 * DAY + 1, 0)))
    assert seen() == (1, 3)


def test_only_thirty_days_count_and_a_group_that_went_on_into_them_does() -> None:
    record(pending_event(minute=-40 * DAY))
    record(pending_event(minute=-35 * DAY))
    change_group(groups()[1].id, status="snoozed")
    record(pending_event(minute=-20 * DAY))
    change_group(groups()[1].id, status="open")
    record(pending_event(minute=0))
    assert len(groups()) == 3
    assert [seen(group.id) for group in groups()] == [(2, 2)] * 3


def test_days_are_known_by_the_first_and_last_alert_where_hours_were_not_counted() -> None:
    record(pending_event(minute=-3 * DAY), pending_event(minute=0))
    with session():
        database.execute_sql("TRUNCATE group_hour")
    assert seen() == (2, 2)


def test_a_problem_that_was_not_seen_for_thirty_days_was_seen_no_time() -> None:
    record(pending_event(minute=-40 * DAY))
    assert seen() == (0, 0)


def test_occurrences_are_the_groups_of_the_key_the_latest_first_in_pages() -> None:
    record(*(pending_event(minute=minute * 120) for minute in range(-6, 1)))
    record(pending_event(issue="2"))
    chain = [group.id for group in groups() if group.issue_id == "1"]
    assert len(chain) == 7
    for group_id in chain:
        for limit in (1, 3, 7, 50):
            assert ids(group_id, limit=limit) == sorted(chain, reverse=True)


def test_an_older_group_that_was_reopened_is_among_the_occurrences() -> None:
    record(pending_event(minute=0), pending_event(minute=120))
    older, newer = (group.id for group in groups())
    change_group(newer, status="resolved", resolved_at=at(130), is_current=False)
    change_group(older, is_current=True)
    assert ids(newer) == ids(older) == ids(older, limit=1) == [newer, older]


def test_the_group_of_another_workspace_has_no_occurrences() -> None:
    record(pending_event(workspace_id=2))
    assert (ids(1), seen()) == ([], (0, 0))
    assert (ids(1, workspace_id=2), seen(workspace_id=2)) == ([1], (1, 1))


def test_an_expired_snooze_of_an_occurrence_reads_as_open() -> None:
    record(pending_event(minute=-60))
    change_group(1, status="snoozed", snoozed_until=NOW - timedelta(minutes=1))
    with session():
        page = occurrences.occurrences(1, 1, limit=1, after=None, now=NOW)
    assert [row["status"] for row in page.rows] == ["open"]
