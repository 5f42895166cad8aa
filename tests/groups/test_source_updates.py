import threading
from collections.abc import Callable
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
from tests.support.transactions import a_transaction_waits_for_a_lock, pause_before_commit
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("workspaces")


@pytest.fixture
def workspaces(clean_database: str) -> None:  # noqa: ARG001 - for that it is clean
    with session():
        for slug in ("one", "two"):
            Workspace.create(slug=slug)


def apply(change: Change, minute: float, *, workspace_id: int = 1, **fields: object) -> int:
    values: dict[str, object] = {"source": "sentry", "fingerprint": "issue:1"}
    status_change = StatusChange(change=change, received_at=at(minute), **values | fields)  # type: ignore[arg-type]
    with session():
        return source_updates.apply_status_changes([(workspace_id, status_change)])


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


def test_a_status_change_stays_in_its_workspace() -> None:
    record(pending_event("a"), pending_event("a", workspace_id=2))
    assert apply(Change.RESOLVED, 1, workspace_id=2) == 1
    assert statuses() == ["open", "resolved"]


def test_a_status_change_applies_under_every_name_that_the_project_had() -> None:
    record(pending_event("a"), pending_event("b", project="renamed"), pending_event("c", project="project-4509"))
    assert apply(Change.RESOLVED, 1) == 3
    assert statuses() == ["resolved"] * 3


def test_a_resolution_older_than_the_last_alert_does_not_resolve_the_group() -> None:
    record(pending_event("a", 0), pending_event("b", 10))
    assert apply(Change.RESOLVED, 9) == 0
    assert apply(Change.RESOLVED, 10) == 1


def test_applying_a_status_change_twice_changes_nothing_more() -> None:
    record(pending_event("a", 0))
    for change in (Change.ARCHIVED, Change.RESOLVED, Change.UNRESOLVED):
        assert apply(change, 5) == 1
        assert apply(change, 5) == 0


def test_archived_snoozes_and_does_not_resolve() -> None:
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


def test_archived_does_not_change_resolved_groups() -> None:
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


def test_unresolved_does_nothing_if_a_newer_group_is_current() -> None:
    record(pending_event("a", 0))
    apply(Change.RESOLVED, 1)
    record(pending_event("b", 2))
    assert apply(Change.UNRESOLVED, 3) == 0
    assert [(group.status, group.is_current) for group in groups()] == [("resolved", False), ("open", True)]


def test_a_status_change_older_than_the_latest_one_is_ignored() -> None:
    record(pending_event("a", 0))
    assert apply(Change.UNRESOLVED, 5) == 0
    assert apply(Change.RESOLVED, 4) == 0
    assert apply(Change.ARCHIVED, 4) == 0
    assert statuses() == ["open"]


def test_changes_of_one_batch_are_applied_in_order_of_receipt() -> None:
    record(pending_event("a", 0))
    late, early = (
        StatusChange(source="sentry", change=change, fingerprint="issue:1", received_at=at(minute))
        for change, minute in ((Change.UNRESOLVED, 6), (Change.RESOLVED, 5))
    )
    with session():
        assert source_updates.apply_status_changes([(1, late), (1, early)]) == 2
    assert statuses() == ["open"]


def test_assigned_sets_the_assignee_and_unassigned_clears_it() -> None:
    record(pending_event("a", 0))
    assert apply(Change.ASSIGNED, 1, assignee="sentry:user:31") == 1
    assert groups()[0].assignee_user_id == "sentry:user:31"
    assert apply(Change.ASSIGNED, 2, assignee=None) == 1
    assert groups()[0].assignee_user_id is None


def test_an_empty_batch_changes_nothing() -> None:
    with session():
        assert source_updates.apply_status_changes([]) == 0


def assignees() -> list[str | None]:
    return [group.assignee_user_id for group in groups()]


def test_a_late_assignment_does_not_overwrite_a_newer_one() -> None:
    record(pending_event("a", 0))
    assert apply(Change.ASSIGNED, 9, assignee="sentry:user:9") == 1
    assert apply(Change.ASSIGNED, 8, assignee="sentry:user:8") == 0
    assert assignees() == ["sentry:user:9"]


def test_an_assignment_older_than_the_latest_status_change_still_applies() -> None:
    record(pending_event("a", 0))
    apply(Change.ARCHIVED, 9)
    assert apply(Change.ASSIGNED, 8, assignee="sentry:user:8") == 1
    assert (assignees(), statuses()) == (["sentry:user:8"], ["snoozed"])


def test_a_late_assignment_does_not_overwrite_a_users() -> None:
    record(pending_event("a", 0))
    mine: user_updates.UpdateFields = {"assignee_user_id": "me"}
    with session():
        user_updates.update_group(1, groups()[0].id, user_updates.GroupUpdate(fields=mine, by="token", at=at(9)))
    assert apply(Change.ASSIGNED, 8, assignee="sentry:user:8") == 0
    assert apply(Change.ASSIGNED, 10, assignee="sentry:user:10") == 1


def test_archived_from_before_a_group_was_opened_leaves_it_open() -> None:
    record(pending_event("a", 0), pending_event("b", 500))
    assert apply(Change.ARCHIVED, 300) == 1
    assert [(group.status, group.is_current) for group in groups()] == [("snoozed", False), ("open", True)]


def test_sentrys_own_count_is_stored_and_only_grows() -> None:
    record(pending_event("a", 0))
    for minute, count in enumerate((None, 41, 7, 0)):
        apply(Change.ARCHIVED, minute, source_count=count)
    assert [(group.count, group.source_count) for group in groups()] == [(1, 41)]


@pytest.mark.parametrize("status", GroupStatus)
@pytest.mark.parametrize("trigger", Trigger)
def test_sql_and_python_agree_on_every_transition(trigger: Trigger, status: GroupStatus) -> None:
    sql = f"SELECT {status_after(trigger, 's.status')} FROM (SELECT %(status)s::text AS status) AS s"  # noqa: S608 - of the table
    with session():
        ((after,),) = database.execute_sql(sql, {"status": status.value}).fetchall()
    assert after == TRANSITIONS[trigger].get(status, status)


@pytest.mark.parametrize("status", GroupStatus)
@pytest.mark.parametrize(
    ("change", "trigger"),
    [
        (Change.RESOLVED, Trigger.SOURCE_RESOLVED),
        (Change.ARCHIVED, Trigger.SOURCE_ARCHIVED),
        (Change.UNRESOLVED, Trigger.SOURCE_UNRESOLVED),
    ],
)
def test_a_status_change_moves_a_group_as_the_lifecycle_defines(
    change: Change, trigger: Trigger, status: GroupStatus
) -> None:
    record(pending_event("a", 0))
    is_resolved = status is GroupStatus.RESOLVED
    change_group(1, status=status.value, is_current=not is_resolved, resolved_at=at(1) if is_resolved else None)
    apply(change, 5)
    assert statuses() == [TRANSITIONS[trigger][status]]


def test_an_old_archived_group_takes_no_alerts_once_a_newer_one_was_current() -> None:
    record(pending_event("a", 0), pending_event("b", 500))
    apply(Change.ARCHIVED, 510)
    apply(Change.UNRESOLVED, 600)
    record(pending_event("c", 1000))
    assert [(group.status, group.count) for group in groups()] == [("snoozed", 1), ("open", 1), ("open", 1)]


# --- a status change that is processed before its alert


def store(*pending: PendingEvent) -> int:
    """Record alerts, then apply missed updates, as a worker does."""
    record(*pending)
    with session():
        return source_updates.apply_missed_updates((event.workspace_id, event.alert) for event in pending)


@pytest.mark.parametrize(
    ("change", "status", "assignee"),
    [
        (Change.RESOLVED, "resolved", None),
        (Change.ARCHIVED, "snoozed", None),
        (Change.UNRESOLVED, "open", None),
        (Change.ASSIGNED, "open", "sentry:user:31"),
    ],
)
def test_a_change_received_after_an_alert_but_processed_before_it_applies(
    change: Change, status: str, assignee: str | None
) -> None:
    assert apply(change, 5, assignee=assignee) == 0
    store(pending_event("a", 4), pending_event("b", 3, environment="staging"))
    store(pending_event("c", 2, environment="dev"))
    assert {(group.status, group.assignee_user_id) for group in groups()} == {(status, assignee)}
    assert len(groups()) == 3


def test_the_latest_status_change_applies_whatever_came_before() -> None:
    for change, minute in ((Change.UNRESOLVED, 7), (Change.RESOLVED, 5), (Change.ARCHIVED, 6), (Change.RESOLVED, 8)):
        apply(change, minute)
    store(pending_event("a", 4))
    (group,) = groups()
    assert (group.status, group.resolved_at) == ("resolved", at(8))


def test_a_status_change_received_before_an_alert_does_not_apply_to_it() -> None:
    apply(Change.RESOLVED, 5)
    apply(Change.ASSIGNED, 5, assignee="sentry:user:31")
    assert store(pending_event("a", 6)) == 0
    assert [(group.status, group.assignee_user_id) for group in groups()] == [("open", None)]


def test_a_status_change_of_another_issue_source_or_workspace_does_not_apply() -> None:
    apply(Change.RESOLVED, 5, source="grafana")
    apply(Change.RESOLVED, 5, workspace_id=2)
    apply(Change.RESOLVED, 5, fingerprint="issue:2")
    store(pending_event("a", 4))
    assert statuses() == ["open"]
    apply(Change.RESOLVED, 5)
    assert statuses() == ["resolved"]


def test_a_change_processed_before_its_alert_applies_under_every_name_of_the_project() -> None:
    apply(Change.RESOLVED, 5)
    store(pending_event("a", 4, project="renamed"))
    store(pending_event("b", 3, project="api"))
    assert statuses() == ["resolved", "resolved"]


@pytest.mark.parametrize("change", [Change.ARCHIVED, Change.UNRESOLVED, Change.RESOLVED])
def test_a_reapplied_change_does_not_overwrite_a_later_update_by_a_user(change: Change) -> None:
    """A batch that is processed again, or replayed, has alerts that are older than their status changes."""
    alert = pending_event("a", 1)
    store(alert)
    apply(change, 5)
    (group,) = groups()
    change_group(group.id, status="ack", resolved_at=None, snoozed_until=None, is_current=True)
    assert store(alert) == 0
    assert statuses() == ["ack"]


def test_an_old_unresolved_does_not_change_a_group_opened_after_it() -> None:
    apply(Change.UNRESOLVED, 5)
    store(pending_event("b", 10))
    change_group(groups()[0].id, status="snoozed")
    store(pending_event("a", 4, environment="staging"))
    assert statuses() == ["snoozed", "open"]


def test_whichever_of_alert_and_change_commits_first_the_other_sees_it() -> None:
    """Process alerts and their resolutions at the same moment in two threads, many times."""
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


def test_a_change_that_is_being_stored_while_its_alert_is_recorded_finds_the_group() -> None:
    """The alert is committed and looked up missed updates before the stored change becomes visible."""
    reached, stored = threading.Event(), threading.Event()

    def send_change() -> None:
        with session(), pause_before_commit(reached, stored):
            change = StatusChange(source="sentry", change=Change.RESOLVED, fingerprint="issue:1", received_at=at(2))
            source_updates.apply_status_changes([(1, change)])

    sender = threading.Thread(target=send_change)
    sender.start()
    assert reached.wait(10)
    assert store(pending_event("a", 1)) == 0
    assert statuses() == ["open"]
    stored.set()
    sender.join()
    assert statuses() == ["resolved"]


def test_source_updates_are_purged_with_the_events_of_their_day() -> None:
    apply(Change.RESOLVED, 5)
    apply(Change.RESOLVED, 50, fingerprint="issue:2")
    with session():
        assert retention.purge_source_updates(at(10)) == 1
        assert [update.fingerprint for update in LatestSourceUpdate.select()] == ["issue:2"]


# --- a status change concurrent with an alert


def test_a_resolution_covers_alerts_received_while_it_was_in_transit() -> None:
    """The user acted a moment earlier, or the clock of that process is behind."""
    record(pending_event("a", 0), pending_event("b", 10))
    update_all(GroupStatus.RESOLVED, minute=9)
    assert [group.resolved_at for group in groups()] == [at(10)]
    record(pending_event("c", 9.5))
    assert [(group.status, group.count) for group in groups()] == [("resolved", 3)]


def update_all(status: GroupStatus, minute: float = 1001) -> None:
    update = user_updates.GroupUpdate(fields={"status": status}, by="token", at=at(minute))
    with session():
        user_updates.update_groups(1, [group.id for group in groups()], update)


@pytest.mark.parametrize(
    "update",
    [lambda: apply(Change.RESOLVED, 1001), lambda: update_all(GroupStatus.RESOLVED)],
    ids=["a source", "a user"],
)
def test_an_update_of_all_groups_of_a_key_waits_for_an_alert_without_a_deadlock(
    update: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alert holds the lock on the current group and reads the previous one."""
    record(pending_event("a", 0), pending_event("b", 500))
    updater = threading.Thread(target=update)
    pause_before_locking(monkeypatch, updater)
    record(pending_event("c", 1000))
    updater.join()
    assert [group.status for group in groups()][:2] == ["resolved", "resolved"]


@pytest.mark.parametrize("by_user", [False, True])
def test_a_reopening_gives_way_to_an_alert_from_before_the_resolution(
    monkeypatch: pytest.MonkeyPatch,
    *,
    by_user: bool,
) -> None:
    """The alert briefly holds the unique key of the current group, which the reopening waits for.

    It also needs the lock on the older group, which the reopening holds.
    """
    record(pending_event("a", 0))
    apply(Change.RESOLVED, 10)
    refused: list[str] = []

    def reopen() -> None:
        try:
            update_all(GroupStatus.OPEN) if by_user else apply(Change.UNRESOLVED, 20)
        except DatabaseUnavailable as error:
            refused.append(str(error))

    reopener = threading.Thread(target=reopen)
    pause_before_locking(monkeypatch, reopener)
    record(pending_event("b", 5))
    reopener.join()
    gave_way = ["another transaction came first, and is not done"]
    # A worker retries by itself. The user's update has retried here; on a very slow machine it is refused as well.
    assert refused in ([[], gave_way] if by_user else [gave_way])
    if refused:
        reopen()
    assert [(group.status, group.is_current, group.count) for group in groups()] == [("open", True, 2)]


def pause_before_locking(monkeypatch: pytest.MonkeyPatch, other: threading.Thread) -> None:
    """Start ``other`` just before the assignment locks the older groups, and wait until it waits for a lock."""
    lock_spans = assignment._lock_spans

    def wait_and_lock(*arguments: Any) -> Any:  # noqa: ANN401 - as it is
        other.start()
        wait_until(a_transaction_waits_for_a_lock)
        return lock_spans(*arguments)

    monkeypatch.setattr(assignment, "_lock_spans", wait_and_lock)
