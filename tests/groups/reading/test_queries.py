"""Queries of the API: what each one returns, within one workspace."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from signalcraft.domain.alerts import Severity
from signalcraft.groups.reading import event_queries, queries
from signalcraft.groups.reading.filters import GroupFilter, ValueFilter
from signalcraft.groups.reading.pages import Position
from signalcraft.groups.reading.queries import Order, SortKey
from signalcraft.storage.database import session
from signalcraft.storage.models import AlertGroup
from tests.support.builders import at, change_group, pending_event, record
from tests.support.web_client import add_workspace

LATER = at(10_000)


@pytest.fixture
def workspace(clean_database: str) -> Iterator[int]:
    assert clean_database
    workspace_id = add_workspace()
    with session():
        yield workspace_id


def open_group(name: str, minute: float = 0, **columns: Any) -> int:  # noqa: ANN401 - columns of the table
    """Open a group titled ``name``, with ``columns`` set; return its id."""
    recorded = record(pending_event(f"event-of-{name}", minute, issue=name))
    (group_id,) = recorded.group_ids
    change_group(group_id, title=name, **columns)
    return int(group_id)


def titles(
    group_filter: GroupFilter | None = None,
    *,
    order: Order | None = None,
    now: datetime = LATER,
    workspace_id: int = 1,
) -> list[str]:
    page = queries.groups(workspace_id, group_filter or GroupFilter(), order or Order(), limit=200, after=None, now=now)
    return [row["title"] for row in page.rows]


def only(*values: str) -> ValueFilter:
    return ValueFilter(include=values)


def without(*values: str) -> ValueFilter:
    return ValueFilter(exclude=values)


@pytest.mark.usefixtures("workspace")
def test_without_filters_all_groups_are_listed_last_seen_first() -> None:
    open_group("old", 0, is_current=False)
    open_group("new", 2)
    open_group("middle", 1, status="resolved", resolved_at=at(1), is_current=False)
    assert titles() == ["new", "middle", "old"]


@pytest.mark.usefixtures("workspace")
def test_each_filter_selects_included_values_and_drops_excluded_ones() -> None:
    open_group("a", 1, environment="prod", project="api", severity="high", assignee_user_id="sentry:user:1")
    open_group("b", 2, environment="staging", project="web", severity="low", source="grafana")

    def by(column: str, value_filter: ValueFilter) -> list[str]:
        return titles(replace(GroupFilter(), **{column: value_filter}))  # type: ignore[arg-type] # each is a choice

    for column, value, other in (
        ("environment", "prod", "staging"),
        ("project", "api", "web"),
        ("severity", "high", "low"),
        ("source", "sentry", "grafana"),
        ("assignee", "sentry:user:1", "none"),
    ):
        assert by(column, only(value)) == ["a"], column
        assert by(column, only(value, other)) == ["b", "a"], column
        assert by(column, without(value)) == ["b"], column
        assert by(column, without(value, other)) == [], column
        assert by(column, only("another")) == [], column


@pytest.mark.usefixtures("workspace")
def test_an_unassigned_group_passes_the_exclusion_of_an_assignee() -> None:
    open_group("mine", 1, assignee_user_id="sentry:user:1")
    open_group("unassigned", 2)
    assert titles(GroupFilter(assignee=without("sentry:user:1"))) == ["unassigned"]
    assert titles(GroupFilter(assignee=without("none"))) == ["mine"]
    assert titles(GroupFilter(assignee=only("none"))) == ["unassigned"]


@pytest.mark.usefixtures("workspace")
def test_a_minimum_severity_selects_it_and_higher_ones() -> None:
    for minute, severity in enumerate(Severity):
        open_group(severity.value, minute, severity=severity.value)
    assert titles(GroupFilter(severity_min=Severity.MED)) == ["critical", "high", "med"]


@pytest.mark.usefixtures("workspace")
def test_groups_can_be_filtered_by_whether_they_are_current() -> None:
    open_group("old", 0, is_current=False)
    open_group("new", 1)
    assert titles(GroupFilter(current=True)) == ["new"]
    assert titles(GroupFilter(current=False)) == ["old"]


@pytest.mark.usefixtures("workspace")
def test_since_is_inclusive_and_until_is_exclusive() -> None:
    for minute in range(4):
        open_group(str(minute), minute)
    assert titles(GroupFilter(since=at(1), until=at(3))) == ["2", "1"]


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("100%", ["100% of it"]),
        ("%", ["100% of it"]),
        ("_", ["a_b"]),
        ("A_B", ["a_b"]),
        ("\\", ["c\\d"]),
        ("of", ["100% of it"]),
        ("'", ["it's"]),
        (".*", []),
        ("caf\u00c9", ["caf\u00e9"]),
    ],
)
def test_a_search_matches_a_literal_part_of_the_title(q: str, found: list[str]) -> None:
    for name in ("100% of it", "a_b", "axb", "c\\d", "it's", "caf\u00e9"):
        open_group(name)
    assert titles(GroupFilter(q=q)) == found


@pytest.mark.usefixtures("workspace")
def test_an_expired_snooze_counts_as_open_in_filters_too() -> None:
    ends = at(100)
    group_id = open_group("sleeper", status="snoozed", snoozed_until=ends)
    open_group("for-ever", status="snoozed")
    for now, expired in ((at(99), False), (ends, True)):
        row = queries.group(1, group_id, now=now)
        assert row is not None
        assert (row["status"], row["snoozed_until"]) == (("open", None) if expired else ("snoozed", ends))
        for status in ("open", "snoozed", "ack"):
            selected = titles(GroupFilter(status=only(status)), now=now)
            dropped = titles(GroupFilter(status=without(status)), now=now)
            assert ("sleeper" in selected) == (status == row["status"])
            assert sorted(selected + dropped) == ["for-ever", "sleeper"]
    assert titles(GroupFilter(status=only("open", "snoozed")), now=ends) == ["for-ever", "sleeper"]


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("key", SortKey)
@pytest.mark.parametrize("descending", [True, False])
def test_every_order_works_in_both_directions_and_pages_list_each_group_once(key: SortKey, *, descending: bool) -> None:
    for number, severity in enumerate([*Severity, *Severity]):
        open_group(str(number), number // 3, severity=severity.value, count=number // 2 + 1)
    order = Order(key=key, descending=descending)
    whole = titles(order=order)
    assert titles(order=Order(key=key, descending=not descending)) == whole[::-1]
    paged: list[str] = []
    after: Position | None = None
    while True:
        page = queries.groups(1, GroupFilter(), order, limit=3, after=after, now=LATER)
        paged += [row["title"] for row in page.rows]
        after = page.end
        if after is None:
            break
    assert paged == whole
    assert len(whole) == 10


@pytest.mark.usefixtures("workspace")
def test_severities_are_sorted_by_rank() -> None:
    for severity in Severity:
        open_group(severity.value, severity=severity.value)
    assert titles(order=Order(key=SortKey.SEVERITY)) == ["critical", "high", "med", "low", "info"]


@pytest.mark.usefixtures("workspace")
def test_pages_stay_complete_while_rows_arrive() -> None:
    for number in range(6):
        open_group(str(number), number)
    first = queries.groups(1, GroupFilter(), Order(), limit=3, after=None, now=LATER)
    open_group("arrived", 10)
    second = queries.groups(1, GroupFilter(), Order(), limit=3, after=first.end, now=LATER)
    assert [row["title"] for row in [*first.rows, *second.rows]] == ["5", "4", "3", "2", "1", "0"]
    assert second.end is None


def test_another_workspace_is_never_seen(workspace: int) -> None:
    group_id = open_group("mine")
    events = event_queries.events_of_group(workspace, group_id, limit=10, after=None)
    other = add_workspace("other")
    assert queries.group(other, group_id, now=LATER) is None
    assert titles(workspace_id=other) == []
    assert event_queries.events_of_group(other, group_id, limit=10, after=None).rows == []
    assert event_queries.event(other, events.rows[0]["id"]) is None
    assert event_queries.event(workspace, events.rows[0]["id"]) is not None


def test_pages_of_events_are_newest_first_and_only_a_single_event_has_its_payload(workspace: int) -> None:
    for minute in range(5):
        record(pending_event(f"e{minute}", minute))
    (group,) = AlertGroup.select()
    first = event_queries.events_of_group(workspace, group.id, limit=3, after=None)
    second = event_queries.events_of_group(workspace, group.id, limit=3, after=first.end)
    assert [row["source_event_id"] for row in [*first.rows, *second.rows]] == ["e4", "e3", "e2", "e1", "e0"]
    assert "payload_json" not in first.rows[0]
    event = event_queries.event(workspace, first.rows[0]["id"])
    assert event is not None
    assert event["payload_json"] == b"{}"
    assert event["alert_group_id"] == group.id


@pytest.mark.parametrize("key", [SortKey.LAST_SEEN, SortKey.FIRST_SEEN])
@pytest.mark.parametrize("descending", [True, False])
def test_a_search_continues_by_cursor_past_titles_without_a_match(
    workspace: int, monkeypatch: pytest.MonkeyPatch, key: SortKey, *, descending: bool
) -> None:
    monkeypatch.setattr(queries, "MAX_TITLES", 4)
    for number in range(13):
        open_group(f"needle {number}" if number % 6 == 0 else f"hay {number}", number)
    order, after, pages = Order(key=key, descending=descending), None, list[list[int]]()
    while True:
        page = queries.groups(workspace, GroupFilter(q="needle"), order, limit=2, after=after, now=LATER)
        pages.append([int(row["title"].split()[1]) for row in page.rows])
        if page.end is None:
            break
        after = page.end
    found = [issue for issues in pages for issue in issues]
    assert found == ([12, 6, 0] if descending else [0, 6, 12])
    assert [] in pages, "one page was empty"


def test_a_search_that_ends_with_the_titles_has_no_next_page(workspace: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MAX_TITLES", 3)
    for number in range(3):
        open_group(f"hay {number}", number)
    page = queries.groups(workspace, GroupFilter(q="needle"), Order(), limit=2, after=None, now=LATER)
    assert (page.rows, page.end) == ([], None)
