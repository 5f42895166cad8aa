import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from signalcraft.domain.alerts import Change, GroupStatus, StatusChange
from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.domain.lifecycle import TRANSITIONS, Trigger
from signalcraft.groups import assignment, source_updates, user_updates
from signalcraft.groups.bursts import PendingEvent
from signalcraft.storage import retention
from signalcraft.storage.database import database, session
from signalcraft.storage.models import LatestSourceUpdate, Workspace
from signalcraft.storage.sql import status_after
from tests.support.builders import at, change_group, groups, pending_event, record
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("workspaces")


@pytest.fixture
def workspaces(clean_database: str) -> None:  # noqa: ARG001 - for that it is clean
    with session():
        for slug in ("one", "two"):
            Workspace.create(slug=slug)


def apply(change: Change, minute: float, *, workspace_id: int = 1, **fields: object) -> int:
    values: dict[str, object] = {"source": "sentry", "project": "api", "fingerprint": "issue:1"}
    one = StatusChange(change=change, received_at=at(minute), **values | fields)  # type: ignore[arg-type]
    with session():
        return source_updates.apply_status_changes([(workspace_id, one)])


def statuses() -> list[str]:
    return [group.status for group in groups()]


def test_resolved_resolves_every_unresolved_group_of_the_issue() -> None:
    record(
        pending_event("a", 0),
        pending_event("b", 500),
        pending_event("c", 0, environment="staging"),
        pending_event("d", 0, issue="2"),
    )
    assert apply(Change.RESOLVED, 600) == 3
    assert sorted(statuses()) == ["open", "resolved", "resolved", "resolved"]
    resolved = [group for group in groups() if group.status == "resolved"]
    assert {(group.issue_id, group.is_current, group.resolved_at) for group in resolved} == {("1", False, at(600))}


def test_it_stays_in_its_workspace() -> None:
    record(pending_event("a"), pending_event("a", workspace_id=2))
    assert apply(Change.RESOLVED, 1, workspace_id=2) == 1
    assert statuses() == ["open", "resolved"]


def test_a_project_that_is_not_known_matches_any_and_one_that_is_only_its_own() -> None:
    record(pending_event("a"))
    assert apply(Change.RESOLVED, 1, project="web") == 0
    assert apply(Change.RESOLVED, 1, project="") == 1


def test_a_resolved_from_before_the_last_alert_does_not_close_the_group() -> None:
    record(pending_event("a", 0), pending_event("b", 10))
    assert apply(Change.RESOLVED, 9) == 0
    assert apply(Change.RESOLVED, 10) == 1


def test_saying_it_twice_changes_nothing_more() -> None:
    record(pending_event("a", 0))
    for change in (Change.ARCHIVED, Change.RESOLVED, Change.UNRESOLVED):
        assert apply(change, 5) == 1
        assert apply(change, 5) == 0


def test_archived_is_a_snooze_and_no_resolution() -> None:
    record(pending_event("a", 0))
    apply(Change.ARCHIVED, 1, snoozed_until=at(300))
    record(pending_event("b", 200))
    (group,) = groups()
    assert (group.status, group.snoozed_until, group.count, group.is_current) == ("snoozed", at(300), 2, True)


def test_archived_makes_the_newest_unresolved_group_current_again() -> None:
    record(pending_event("a", 0), pending_event("b", 500))
    change_group(groups()[1].id, status="resolved", resolved_at=at(501), is_current=False)
    apply(Change.ARCHIVED, 510)
    assert [(group.status, group.is_current) for group in groups()] == [("snoozed", True), ("resolved", False)]


def test_archived_leaves_what_is_resolved_alone() -> None:
    record(pending_event("a", 0))
    apply(Change.RESOLVED, 1)
    assert apply(Change.ARCHIVED, 2) == 0
    assert statuses() == ["resolved"]


@pytest.mark.parametrize("before", [Change.RESOLVED, Change.ARCHIVED])
def test_unresolved_reopens_the_newest_group_of_each_environment(before: Change) -> None:
    record(pending_event("a", 0), pending_event("b", 500), pending_event("c", 0, environment="staging"))
    apply(before, 600)
    assert apply(Change.UNRESOLVED, 601) == 2
    newest = {group.environment: group for group in groups()}
    assert {group.status for group in newest.values()} == {"open"}
    assert all(group.is_current and group.resolved_at is None for group in newest.values())
    assert sum(group.status == "open" for group in groups()) == 2


def test_unresolved_does_nothing_where_a_newer_group_stands() -> None:
    record(pending_event("a", 0))
    apply(Change.RESOLVED, 1)
    record(pending_event("b", 2))
    assert apply(Change.UNRESOLVED, 3) == 0
    assert [(group.status, group.is_current) for group in groups()] == [("resolved", False), ("open", True)]


def test_what_the_source_said_before_its_last_word_comes_too_late() -> None:
    record(pending_event("a", 0))
    assert apply(Change.UNRESOLVED, 5) == 0
    assert apply(Change.RESOLVED, 4) == 0
    assert apply(Change.ARCHIVED, 4) == 0
    assert statuses() == ["open"]


def test_changes_of_one_batch_run_in_the_order_in_which_they_were_received() -> None:
    record(pending_event("a", 0))
    late, early = (
        StatusChange(source="sentry", change=change, project="api", fingerprint="issue:1", received_at=at(minute))
        for change, minute in ((Change.UNRESOLVED, 6), (Change.RESOLVED, 5))
    )
    with session():
        assert source_updates.apply_status_changes([(1, late), (1, early)]) == 2
    assert statuses() == ["open"]


def test_assigned_names_who_has_it_and_unassigned_takes_the_name_away() -> None:
    record(pending_event("a", 0))
    assert apply(Change.ASSIGNED, 1, assignee="sentry:user:31") == 1
    assert groups()[0].assignee_user_id == "sentry:user:31"
    assert apply(Change.ASSIGNED, 2, assignee=None) == 1
    assert groups()[0].assignee_user_id is None


def test_no_changes_are_no_trouble() -> None:
    with session():
        assert source_updates.apply_status_changes([]) == 0


def assignees() -> list[str | None]:
    return [group.assignee_user_id for group in groups()]


def test_an_assignment_that_arrives_late_does_not_undo_a_newer_one() -> None:
    record(pending_event("a", 0))
    assert apply(Change.ASSIGNED, 9, assignee="sentry:user:9") == 1
    assert apply(Change.ASSIGNED, 8, assignee="sentry:user:8") == 0
    assert assignees() == ["sentry:user:9"]


def test_an_assignment_from_before_a_newer_status_still_counts() -> None:
    record(pending_event("a", 0))
    apply(Change.ARCHIVED, 9)
    assert apply(Change.ASSIGNED, 8, assignee="sentry:user:8") == 1
    assert (assignees(), statuses()) == (["sentry:user:8"], ["snoozed"])


def test_an_assignment_that_arrives_late_does_not_undo_a_users() -> None:
    record(pending_event("a", 0))
    mine: user_updates.UpdateFields = {"assignee_user_id": "me"}
    with session():
        user_updates.update_group(1, groups()[0].id, user_updates.GroupUpdate(fields=mine, by="token", at=at(9)))
    assert apply(Change.ASSIGNED, 8, assignee="sentry:user:8") == 0
    assert apply(Change.ASSIGNED, 10, assignee="sentry:user:10") == 1


def test_an_archiving_from_before_a_group_began_leaves_it_open() -> None:
    record(pending_event("a", 0), pending_event("b", 500))
    assert apply(Change.ARCHIVED, 300) == 1
    assert [(group.status, group.is_current) for group in groups()] == [("snoozed", False), ("open", True)]


def test_sentrys_own_count_is_kept_and_only_grows() -> None:
    record(pending_event("a", 0))
    for minute, told in enumerate((None, 41, 7, 0)):
        apply(Change.ARCHIVED, minute, source_count=told)
    assert [(group.count, group.source_count) for group in groups()] == [(1, 41)]


@pytest.mark.parametrize("status", GroupStatus)
@pytest.mark.parametrize("cause", Trigger)
def test_postgresql_walks_every_cell_of_the_lifecycle_as_python_does(cause: Trigger, status: GroupStatus) -> None:
    sql = f"SELECT {status_after(cause, 's.status')} FROM (SELECT %(status)s::text AS status) AS s"  # noqa: S608 - of the table
    with session():
        ((after,),) = database.execute_sql(sql, {"status": status.value}).fetchall()
    assert after == TRANSITIONS[cause].get(status, status)


@pytest.mark.parametrize("status", GroupStatus)
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (Change.RESOLVED, Trigger.SOURCE_RESOLVED),
        (Change.ARCHIVED, Trigger.SOURCE_ARCHIVED),
        (Change.UNRESOLVED, Trigger.SOURCE_UNRESOLVED),
    ],
)
def test_what_a_source_says_does_to_a_group_what_the_lifecycle_says(
    change: Change, cause: Trigger, status: GroupStatus
) -> None:
    record(pending_event("a", 0))
    is_resolved = status is GroupStatus.RESOLVED
    change_group(1, status=status.value, is_current=not is_resolved, resolved_at=at(1) if is_resolved else None)
    apply(change, 5)
    assert statuses() == [TRANSITIONS[cause][status]]


def test_an_old_group_that_is_still_archived_swallows_nothing_once_a_newer_one_is_back() -> None:
    record(pending_event("a", 0), pending_event("b", 500))
    apply(Change.ARCHIVED, 510)
    apply(Change.UNRESOLVED, 600)
    record(pending_event("c", 1000))
    assert [(group.status, group.count) for group in groups()] == [("snoozed", 1), ("open", 1), ("open", 1)]


# --- a change that is worked off before the alert that it is about


def store(*pending: PendingEvent) -> int:
    """As a worker does: alerts, then what was said of them."""
    record(*pending)
    with session():
        return source_updates.apply_missed_updates((one.workspace_id, one.alert) for one in pending)


@pytest.mark.parametrize(
    ("change", "status", "assignee"),
    [
        (Change.RESOLVED, "resolved", None),
        (Change.ARCHIVED, "snoozed", None),
        (Change.UNRESOLVED, "open", None),
        (Change.ASSIGNED, "open", "sentry:user:31"),
    ],
)
def test_what_was_said_before_an_alert_was_stored_but_after_it_was_received_holds_for_it(
    change: Change, status: str, assignee: str | None
) -> None:
    assert apply(change, 5, assignee=assignee) == 0
    store(pending_event("a", 4), pending_event("b", 3, environment="staging"))
    store(pending_event("c", 2, environment="dev"))
    assert {(group.status, group.assignee_user_id) for group in groups()} == {(status, assignee)}
    assert len(groups()) == 3


def test_the_last_of_what_was_said_holds_whatever_was_said_between() -> None:
    for change, minute in ((Change.UNRESOLVED, 7), (Change.RESOLVED, 5), (Change.ARCHIVED, 6), (Change.RESOLVED, 8)):
        apply(change, minute)
    store(pending_event("a", 4))
    (group,) = groups()
    assert (group.status, group.resolved_at) == ("resolved", at(8))


def test_what_was_said_before_an_alert_was_received_does_not_hold_for_it() -> None:
    apply(Change.RESOLVED, 5)
    apply(Change.ASSIGNED, 5, assignee="sentry:user:31")
    assert store(pending_event("a", 6)) == 0
    assert [(group.status, group.assignee_user_id) for group in groups()] == [("open", None)]


def test_what_was_said_of_another_project_source_or_workspace_does_not_hold() -> None:
    apply(Change.RESOLVED, 5, project="web")
    apply(Change.RESOLVED, 5, source="grafana")
    apply(Change.RESOLVED, 5, workspace_id=2)
    apply(Change.RESOLVED, 5, fingerprint="issue:2")
    store(pending_event("a", 4))
    assert statuses() == ["open"]
    apply(Change.RESOLVED, 5, project="")
    assert statuses() == ["resolved"]


@pytest.mark.parametrize("change", [Change.ARCHIVED, Change.UNRESOLVED, Change.RESOLVED])
def test_what_a_group_has_heard_is_not_told_again_over_what_a_user_did_since(change: Change) -> None:
    """A batch that is worked off again, or replayed, brings alerts that are older than what was said of them."""
    alert = pending_event("a", 1)
    store(alert)
    apply(change, 5)
    (group,) = groups()
    change_group(group.id, status="ack", resolved_at=None, snoozed_until=None, is_current=True)
    assert store(alert) == 0
    assert statuses() == ["ack"]


def test_an_old_reopening_leaves_a_group_alone_that_began_after_it() -> None:
    apply(Change.UNRESOLVED, 5)
    store(pending_event("b", 10))
    change_group(groups()[0].id, status="snoozed")
    store(pending_event("a", 4, environment="staging"))
    assert statuses() == ["snoozed", "open"]


def test_whichever_commits_first_the_other_sees_it() -> None:
    """Alerts and their resolutions at the same moment, each by a thread of its own, many times over."""
    together = threading.Barrier(2, timeout=30)

    def run(work: Callable[[int], object]) -> None:
        for number in range(60):
            together.wait()
            work(number)

    threads = [
        threading.Thread(target=run, args=(lambda number: store(pending_event(f"e{number}", 1, issue=str(number))),)),
        threading.Thread(target=run, args=(lambda number: apply(Change.RESOLVED, 2, fingerprint=f"issue:{number}"),)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses() == ["resolved"] * 60


def test_a_change_that_is_being_written_down_while_the_alert_is_stored_finds_its_group() -> None:
    """The alert is committed, and its worker has asked, before the change's own note can be seen."""
    noted, stored = threading.Event(), threading.Event()

    def say() -> None:
        with session(), pause_before_commit(noted, stored):
            one = StatusChange(
                source="sentry", change=Change.RESOLVED, project="api", fingerprint="issue:1", received_at=at(2)
            )
            source_updates.apply_status_changes([(1, one)])

    speaker = threading.Thread(target=say)
    speaker.start()
    assert noted.wait(10)
    assert store(pending_event("a", 1)) == 0
    assert statuses() == ["open"]
    stored.set()
    speaker.join()
    assert statuses() == ["resolved"]


@contextmanager
def pause_before_commit(reached: threading.Event, go_on: threading.Event) -> Iterator[None]:
    """Hold the next commit of this thread."""
    commit = database.commit
    mine = threading.get_ident()

    def wait_and_commit() -> object:
        if threading.get_ident() == mine:
            reached.set()
            assert go_on.wait(10)
        return commit()

    database.commit = wait_and_commit
    try:
        yield
    finally:
        database.commit = commit


def test_what_was_said_is_forgotten_with_the_events_of_its_day() -> None:
    apply(Change.RESOLVED, 5)
    apply(Change.RESOLVED, 50, fingerprint="issue:2")
    with session():
        assert retention.purge_source_updates(at(10)) == 1
        assert [word.fingerprint for word in LatestSourceUpdate.select()] == ["issue:2"]


# --- a change that meets an alert


def test_a_resolution_covers_what_was_received_while_it_was_on_its_way() -> None:
    """The user pressed the button a moment before, or by a clock that is behind."""
    record(pending_event("a", 0), pending_event("b", 10))
    edit_all(GroupStatus.RESOLVED, minute=9)
    assert [group.resolved_at for group in groups()] == [at(10)]
    record(pending_event("c", 9.5))
    assert [(group.status, group.count) for group in groups()] == [("resolved", 3)]


def edit_all(status: GroupStatus, minute: float = 1001) -> None:
    by_hand = user_updates.GroupUpdate(fields={"status": status}, by="token", at=at(minute))
    with session():
        user_updates.update_groups(1, [group.id for group in groups()], by_hand)


@pytest.mark.parametrize(
    "say", [lambda: apply(Change.RESOLVED, 1001), lambda: edit_all(GroupStatus.RESOLVED)], ids=["a source", "a user"]
)
def test_whoever_changes_all_groups_of_a_key_waits_for_an_alert_past_the_window_and_never_in_a_circle(
    say: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alert has the current group and looks at the one before it."""
    record(pending_event("a", 0), pending_event("b", 500))
    speaker = threading.Thread(target=say)
    pause_before_locking(monkeypatch, speaker)
    record(pending_event("c", 1000))
    speaker.join()
    assert [group.status for group in groups()][:2] == ["resolved", "resolved"]


@pytest.mark.parametrize("by_user", [False, True])
def test_whoever_reopens_a_group_lets_an_alert_from_before_its_resolution_go_first(
    monkeypatch: pytest.MonkeyPatch,
    *,
    by_user: bool,
) -> None:
    """For a moment that one has the place of the current group, which the other waits for, and wants the older one."""
    record(pending_event("a", 0))
    apply(Change.RESOLVED, 10)
    refused: list[str] = []

    def reopen() -> None:
        try:
            edit_all(GroupStatus.OPEN) if by_user else apply(Change.UNRESOLVED, 20)
        except DatabaseUnavailable as error:
            refused.append(str(error))

    reopener = threading.Thread(target=reopen)
    pause_before_locking(monkeypatch, reopener)
    record(pending_event("b", 5))
    reopener.join()
    came_second = [] if by_user else ["another transaction came first, and is not done"]
    assert refused == came_second, "a worker tries again by itself, a user's change did here"
    if not by_user:
        reopen()
    assert [(group.status, group.is_current, group.count) for group in groups()] == [("open", True, 2)]


def pause_before_locking(monkeypatch: pytest.MonkeyPatch, other: threading.Thread) -> None:
    """Let ``other`` run into whoever places alerts, just before that one locks the older groups of their keys."""
    lock_spans = assignment._lock_spans

    def wait_and_lock(*arguments: Any) -> Any:  # noqa: ANN401 - as it is
        other.start()
        wait_until(somebody_waits_for_a_lock)
        return lock_spans(*arguments)

    monkeypatch.setattr(assignment, "_lock_spans", wait_and_lock)


def somebody_waits_for_a_lock() -> bool:
    ((waits,),) = database.execute_sql("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").fetchall()
    return bool(waits)
