"""Alerts that cannot name an environment, such as Sentry's ``issue.created``: one problem is one group."""

import threading
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest

from signalcraft.domain.alerts import Change, Decision, StatusChange
from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.domain.grouping import GroupingPolicy
from signalcraft.groups import record as groups_record
from signalcraft.groups import source_updates
from signalcraft.groups.bursts import PendingEvent
from signalcraft.storage.database import database, session
from signalcraft.storage.models import AlertEvent, AlertGroup, Workspace
from tests.support.builders import at, change_group, groups, pending_event, record
from tests.support.transactions import a_transaction_waits_for_a_lock, pause_before_commit
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("workspaces")


@pytest.fixture
def workspaces(clean_database: str) -> None:  # noqa: ARG001 - for that it is clean
    with session():
        for slug in ("one", "two"):
            Workspace.create(slug=slug)


def created(minute: float = 0, event_id: str = "created", **fields: Any) -> PendingEvent:  # noqa: ANN401 - of the alert
    return pending_event(event_id, minute, names_environment=False, **fields)


def staging(minute: float = 0, event_id: str = "staging", **fields: Any) -> PendingEvent:  # noqa: ANN401 - likewise
    return pending_event(event_id, minute, **{"environment": "staging", "project": "shop"} | fields)


def places() -> list[tuple[str, str, int, bool]]:
    """Project, environment, count of each group, and whether the environment is assumed; its events agree."""
    with session():
        for event in AlertEvent.select(AlertEvent, AlertGroup).join(AlertGroup):
            group = event.alert_group
            assert (event.project, event.environment) == (group.project, group.environment)
    return [(group.project, group.environment, group.count, group.environment_is_assumed) for group in groups()]


def store(batches: Sequence[Sequence[PendingEvent]]) -> None:
    for batch in batches:
        record(*batch)


def every_way(*events: PendingEvent) -> list[list[list[PendingEvent]]]:
    """One by one in every order, and in one batch in every order."""
    return [[[event] for event in order] for order in permutations(events)] + [[list(o)] for o in permutations(events)]


@pytest.mark.parametrize("created_at", [0, 5])
@pytest.mark.parametrize("batches", range(4))
@pytest.mark.parametrize(("environment", "project"), [("staging", "shop"), ("prod", "api"), ("prod", "shop")])
def test_an_issue_and_its_alert_are_one_group_in_the_environment_that_is_named(
    created_at: float, batches: int, environment: str, project: str
) -> None:
    alert = staging(3, environment=environment, project=project)
    store(every_way(created(created_at), alert)[batches])
    assert places() == [(project, environment, 2, False)]
    assert groups()[0].group_key == alert.group_key


def test_without_a_group_it_opens_one_in_the_default_environment() -> None:
    recorded = record(created())
    assert places() == [("api", "prod", 1, True)]
    assert [stored.decision for stored in recorded.events] == [Decision.NEW]


def test_it_joins_the_newest_group_in_any_environment() -> None:
    record(pending_event("a", 0), staging(5, "b"), pending_event("c", 2))
    record(created(1))
    assert sorted(places()) == [("api", "prod", 2, False), ("shop", "staging", 2, False)]


@pytest.mark.parametrize("batch", [True, False])
def test_a_batch_is_settled_as_alerts_one_by_one(*, batch: bool) -> None:
    events = [
        created(0, "first"),
        created(1, "second", project="renamed"),
        staging(2),
        created(3, "third"),
        pending_event("prod", 4),
        created(5, "fourth"),
        created(6, "other issue", issue="2"),
        created(7, "other workspace", workspace_id=2),
    ]
    store([events[::-1]] if batch else [[event] for event in events])
    assert sorted(places()) == [
        ("api", "prod", 1, True),
        ("api", "prod", 1, True),
        ("api", "prod", 2, False),
        ("shop", "staging", 4, False),
    ]


def test_only_the_first_alert_that_names_its_environment_takes_the_group_over() -> None:
    store([[created(0)], [staging(1)], [pending_event("prod", 2)]])
    assert places() == [("shop", "staging", 2, False), ("api", "prod", 1, False)]


def test_it_stays_in_its_workspace_source_and_issue() -> None:
    record(created(0))
    record(staging(1, workspace_id=2), staging(1, issue="2"))
    assert places()[0] == ("api", "prod", 1, True)
    assert len(places()) == 3


def test_a_group_that_is_taken_over_keeps_its_state_and_the_usual_rules_decide() -> None:
    record(created(0))
    change_group(1, status="ack")
    record(staging(1))
    assert [(group.status, group.count) for group in groups()] == [("ack", 2)]


@pytest.mark.parametrize(
    ("state", "minute", "decision"),
    [
        ({"status": "resolved", "resolved_at": at(5), "is_current": False}, 6, Decision.AFTER_RESOLVED),
        ({}, 61, Decision.WINDOW_EXPIRED),
    ],
)
def test_an_alert_that_may_not_join_follows_the_group_that_it_took_over(
    state: dict[str, object], minute: float, decision: Decision
) -> None:
    record(created(0))
    if state:
        change_group(1, **state)
    recorded = record(staging(minute))
    assert [stored.decision for stored in recorded.events] == [decision]
    assert places() == [("shop", "staging", 1, False), ("shop", "staging", 1, False)]
    assert groups()[1].previous_group_id == 1


def test_all_groups_whose_environment_is_assumed_are_taken_over() -> None:
    store([[created(0)], [created(100, "again")]])
    assert places() == [("api", "prod", 1, True), ("api", "prod", 1, True)]
    record(staging(101))
    assert places() == [("shop", "staging", 1, False), ("shop", "staging", 2, False)]


def test_a_redelivery_of_either_changes_nothing() -> None:
    events = [created(0), staging(1)]
    for _ in range(2):
        store([[event] for event in events])
    assert places() == [("shop", "staging", 2, False)]


def test_a_status_change_applies_to_a_group_that_was_taken_over() -> None:
    record(created(0))
    change = StatusChange(source="sentry", change=Change.RESOLVED, fingerprint="issue:1", received_at=at(9))
    record(staging(1))
    with session():
        assert source_updates.apply_status_changes([(1, change)]) == 1


@pytest.mark.parametrize("first", [0, 1])
def test_two_workers_at_the_same_moment_make_one_group(first: int) -> None:
    """The second begins while the first is about to commit, on a connection of its own."""
    events = [created(0), staging(0)]
    reached, go_on = threading.Event(), threading.Event()

    def store_first() -> None:
        with session(), pause_before_commit(reached, go_on):
            record(events[first])

    threads = [threading.Thread(target=store_first), threading.Thread(target=record, args=(events[1 - first],))]
    threads[0].start()
    assert reached.wait(10)
    threads[1].start()
    with session():
        wait_until(a_transaction_waits_for_a_lock)
    go_on.set()
    for thread in threads:
        thread.join()
    assert places() == [("shop", "staging", 2, False)]


def test_two_workers_that_take_over_the_same_groups_wait_for_each_other() -> None:
    issues = [str(number) for number in range(40)]
    record(*(created(0, f"created-{issue}", issue=issue) for issue in issues))
    batches = [
        [pending_event(f"prod-{issue}", 1, issue=issue) for issue in issues],
        [staging(1, f"staging-{issue}", issue=issue) for issue in reversed(issues)],
    ]
    threads = [threading.Thread(target=record, args=batch) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(count for _, _, count, _ in places()) == [1] * 40 + [2] * 40
    assert not any(is_assumed for *_, is_assumed in places())


def test_alerts_that_name_their_environment_do_not_wait_for_each_other() -> None:
    reached, go_on = threading.Event(), threading.Event()

    def store_first() -> None:
        with session(), pause_before_commit(reached, go_on):
            record(pending_event("a", issue="1"))

    thread = threading.Thread(target=store_first)
    thread.start()
    assert reached.wait(10)
    record(staging(issue="2"))
    go_on.set()
    thread.join()
    assert len(groups()) == 2


def test_a_batch_that_waits_too_long_for_another_is_not_stored_and_can_be_tried_again() -> None:
    reached, go_on = threading.Event(), threading.Event()

    def store_first() -> None:
        with session(), pause_before_commit(reached, go_on):
            record(staging())

    thread = threading.Thread(target=store_first)
    thread.start()
    assert reached.wait(10)
    with pytest.raises(DatabaseUnavailable):
        record_impatiently(created())
    go_on.set()
    thread.join()
    record(created())
    assert places() == [("shop", "staging", 2, False)]


def record_impatiently(event: PendingEvent) -> None:
    with session(), database.atomic():
        database.execute_sql("SET LOCAL lock_timeout = '50ms'")
        record(event)


def test_a_larger_transaction_may_store_such_alerts_after_others() -> None:
    """The inbox consumer does, where it stores deliveries one by one."""
    with session(), database.atomic():
        record(staging())
        record(created())
    assert places() == [("shop", "staging", 2, False)]


def test_a_preview_changes_nothing() -> None:
    record(created())
    with session():
        (previewed,) = groups_record.preview([staging(1)], GroupingPolicy()).events
    assert (previewed.group_id, previewed.decision) == (1, Decision.JOINED)
    assert places() == [("api", "prod", 1, True)]


def test_the_lock_ends_with_the_transaction() -> None:
    record(created(), staging())
    with session():
        held = database.execute_sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
    assert held == (0,)
