"""Status changes of issues with very many groups. ISSUE_GROUPS=300000 runs the first test with more."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from signalcraft.domain.alerts import Change, GroupStatus, StatusChange
from signalcraft.domain.errors import StatementCanceled
from signalcraft.groups import source_updates, unfinished_updates, user_updates
from signalcraft.storage.database import database, session
from signalcraft.storage.models import AlertGroup, GroupChange, Workspace
from signalcraft.worker.unfinished_changes import UnfinishedChanges
from tests.support.builders import at, groups, pending_event, record
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("workspace")

RESOLVED_GROUPS = int(os.environ.get("ISSUE_GROUPS", "10000"))

#: Groups of one issue in some keys, one every two hours, the oldest first. None is current.
_LOAD = """
    INSERT INTO alert_group (
        workspace_id, group_key, source, project, environment, fingerprint, title, severity, alert_severity, status,
        is_current, count, first_seen_at, last_seen_at, resolved_at
    )
    SELECT 1, 'v1:' || n %% %(keys)s, 'sentry', 'api', 'prod', 'issue:1', 'ValueError', 'high', 'high', %(status)s,
           false, 1, ends - interval '1 minute', ends, CASE WHEN %(status)s = 'resolved' THEN ends END
    FROM generate_series(%(groups)s, 1, -1) AS n
    CROSS JOIN LATERAL (SELECT %(noon)s::timestamptz - n * interval '2 hours' AS ends) AS ends"""

#: A row that was locked has an xmax, one that was written an xmin that is not the others'.
_TOUCHED = """
    SELECT count(*) FROM alert_group
    WHERE xmax <> 0 OR xmin <> (SELECT xmin FROM alert_group ORDER BY first_seen_at LIMIT 1)"""


@pytest.fixture
def workspace(clean_database: str) -> Iterator[None]:  # noqa: ARG001 - for that it is clean
    with session():
        Workspace.create(slug="one")
    yield
    with session():  # the next test's DELETE would take seconds
        database.execute_sql("TRUNCATE alert_group, last_word CASCADE")


def load(number: int, *, status: str = "resolved", keys: int = 2) -> None:
    with session(), database.atomic():
        database.execute_sql("SET LOCAL statement_timeout = '120s'")
        database.execute_sql(_LOAD, {"groups": number, "status": status, "keys": keys, "noon": at(0)})


def apply(kind: Change, minute: float, *, assignee: str | None = None) -> int:
    change = StatusChange(
        source="sentry", change=kind, fingerprint="issue:1", received_at=at(minute), assignee=assignee
    )
    with session():
        return source_updates.apply_status_changes([(1, change)])


def steps() -> list[int]:
    """Apply all remaining steps; return how many groups each changed."""
    changed = []
    while (number := step()) is not None:
        changed.append(number)
    return changed


def step() -> int | None:
    with session():
        return unfinished_updates.apply_next_step((), lambda _: None)


def count(status: str) -> int:
    with session():
        return int(AlertGroup.select().where(AlertGroup.status == status).count())


@pytest.mark.parametrize("kind", [Change.RESOLVED, Change.ARCHIVED, Change.UNRESOLVED, Change.ASSIGNED])
def test_a_change_touches_the_groups_it_changes_and_the_latest_of_each_key(kind: Change) -> None:
    load(RESOLVED_GROUPS if kind is Change.RESOLVED else 2_000)
    record(pending_event("a"))
    apply(kind, 5, assignee="sentry:user:31")
    with session():
        ((touched,),) = database.execute_sql(_TOUCHED).fetchall()
        assert touched == 3
    assert steps() == []


def test_a_resolution_of_very_many_unresolved_groups_is_applied_in_bounded_steps() -> None:
    load(1_200, status="open")
    assert apply(Change.RESOLVED, 5) == 0
    assert steps() == [500, 500, 200, 0]
    assert (count("resolved"), steps()) == (1_200, [])
    with session():
        assert GroupChange.select().count() == 1_200


def test_between_two_steps_an_alert_of_the_issue_is_stored() -> None:
    load(1_200, status="open")
    apply(Change.RESOLVED, 5)
    step()
    record(pending_event("a", 10))
    steps()
    assert (count("resolved"), count("open")) == (1_200, 1)


def test_an_archiving_in_steps_makes_the_newest_group_of_each_key_current() -> None:
    load(1_200, status="open")
    apply(Change.ARCHIVED, 5)
    steps()
    assert count("snoozed") == 1_200
    assert [group.last_seen_at for group in groups() if group.is_current] == [at(-240), at(-120)]


def test_a_reopening_in_steps_reopens_the_newest_group_of_each_key() -> None:
    load(1_400, keys=700)
    apply(Change.UNRESOLVED, 5)
    assert steps() == [500, 200, 0]
    opened = [group for group in groups() if group.status == "open"]
    assert (len(opened), min(group.last_seen_at for group in opened)) == (700, at(-120 * 700))


def test_a_reopening_that_comes_before_a_resolution_is_finished_stays() -> None:
    load(1_200, status="open")
    apply(Change.RESOLVED, 5)
    step()
    assert apply(Change.UNRESOLVED, 6) == 0
    steps()
    assert count("resolved") == 1_198
    assert [group.last_seen_at for group in groups() if group.status == "open"] == [at(-240), at(-120)]


def test_a_late_reopening_in_steps_gives_way_to_a_resolution() -> None:
    load(1_400, keys=700)
    apply(Change.UNRESOLVED, 5)
    apply(Change.RESOLVED, 6)
    steps()
    assert count("resolved") == 1_400


def test_what_came_while_a_group_was_resolved_is_not_applied_again_to_one_that_a_user_reopened() -> None:
    """Only the latest group of a key keeps the time of each change."""
    alert = pending_event("a", 0)
    record(alert, pending_event("b", 500))
    apply(Change.RESOLVED, 600)
    apply(Change.RESOLVED, 601)
    with session():
        reopened = user_updates.GroupUpdate(fields={"status": GroupStatus.OPEN}, by="token", at=at(700))
        user_updates.update_group(1, groups()[0].id, reopened)
        assert source_updates.apply_missed_updates([(1, alert.alert)]) == 0
    assert [group.status for group in groups()] == ["open", "resolved"]


def test_a_change_older_than_one_that_changed_nothing_is_ignored() -> None:
    record(pending_event("a", 0), pending_event("b", 500))
    apply(Change.RESOLVED, 600)
    apply(Change.RESOLVED, 700)
    assert apply(Change.UNRESOLVED, 650) == 0


def test_the_worker_finishes_changes_by_itself() -> None:
    load(600, status="open")
    apply(Change.RESOLVED, 5)
    stop = UnfinishedChanges().start()
    try:
        wait_until(lambda: count("resolved") == 600)
    finally:
        stop()


@pytest.mark.parametrize("broken", [ValueError("a bug"), StatementCanceled("slow")], ids=["a bug", "canceled"])
def test_a_change_that_always_fails_waits_longer_each_time_while_others_are_applied(
    monkeypatch: pytest.MonkeyPatch, broken: Exception
) -> None:
    load(600, status="open")
    apply(Change.ASSIGNED, 5, assignee="sentry:user:31")
    apply(Change.RESOLVED, 6)
    real = source_updates.apply

    def failing(workspace_id: int, change: StatusChange, *rest: Any, **more: Any) -> int:  # noqa: ANN401 - as it takes them
        if change.change is Change.ASSIGNED:
            raise broken
        return real(workspace_id, change, *rest, **more)

    now = 0.0
    changes = UnfinishedChanges(clock=lambda: now)
    with monkeypatch.context() as patched, capture_logs() as lines:
        patched.setattr(source_updates, "apply", failing)
        for second in range(3_600):
            now = float(second)
            changes.poll()
    assert count("resolved") == 600
    waits = [line["waits_seconds"] for line in lines]
    assert waits[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert len(waits) < 25
    now += 300
    changes.finish()
    assert steps() == [], "it is applied once it can be"
