"""Sixteen processes record alerts at once, on hot keys, with duplicates and a window that keeps expiring.

Meanwhile a user updates groups, and the source resolves and unresolves issues.
"""

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import pairwise
from multiprocessing.synchronize import Event

import pytest
from peewee import SQL, fn

from signalcraft.dev import embedded_servers
from signalcraft.domain import grouping
from signalcraft.domain.alerts import Change, GroupStatus, Severity, StatusChange
from signalcraft.domain.errors import Conflict, DatabaseUnavailable
from signalcraft.groups import record, source_updates, user_updates
from signalcraft.groups.bursts import PendingEvent
from signalcraft.storage.database import database, open_database, session
from signalcraft.storage.models import AlertEvent, AlertGroup, Workspace
from tests.support.builders import NOON, pending_event
from tests.support.tables import miscounted_hours

PROCESSES, BATCHES, BATCH = 16, 12, 25
WINDOW = timedelta(minutes=1)
POLICY = grouping.GroupingPolicy(window=WINDOW, spike_count=20)
#: A snooze outlasts the window; on these issues the user never snoozes, so that the window can be checked.
NEVER_SNOOZED = ("0", "2", "4", "6", "8", "10")


def _minute_now() -> float:
    """Return the time of a clock 120 times as fast, so that windows of a minute keep expiring.

    All processes share it, and it goes on at midnight.
    """
    return time.monotonic() * 2


def _store_batches(url: str, seed: int) -> None:
    """Record batches on hot keys; one alert in ten is a duplicate that other processes send too."""
    open_database(url)
    chance = random.Random(seed)
    for number in range(BATCHES):
        minute = _minute_now()
        batch = [
            pending_event(
                f"copied-{chance.randrange(40)}" if chance.random() < 0.1 else f"{seed}-{number}-{position}",
                minute - chance.choice((0, 0, 0, 0.5, 3)),
                issue=str(min(chance.randrange(12), chance.randrange(12))),
                severity=chance.choice(list(Severity)),
                environment=chance.choice(("prod", "staging", "dev")),
                project=chance.choice(("api", "renamed")),
                names_environment=chance.random() > 0.05,
                has_title=chance.random() < 0.5,
                link=chance.choice((None, "https://sentry.io/1")),
                rule=chance.choice(("", "a", "b")),
            )
            for position in range(BATCH)
        ]
        batch.append(_first_of_issue(seed, number, minute))
        _until_done(partial(record.record, batch, POLICY))


def _first_of_issue(seed: int, number: int, minute: float) -> PendingEvent:
    """Return an alert of an issue that all processes meet at about the same time, half of them without environment."""
    return pending_event(
        f"first-{seed}-{number}",
        minute,
        issue=f"new-{number}",
        environment=("prod", "staging", "dev")[seed % 3],
        names_environment=bool(seed % 2),
    )


def _until_done(work: Callable[[], object]) -> None:
    """Retry as a worker does when another transaction came first. PostgreSQL's log shows deadlocks."""
    while True:
        try:
            with session():
                work()
        except DatabaseUnavailable:
            time.sleep(0.05)
        else:
            return


def _act_as_user(url: str, stop: Event) -> None:
    """Update the status of random groups, old ones too, as PATCH does."""
    open_database(url)
    chance = random.Random(0)
    while not stop.is_set():
        with session():
            groups = list(AlertGroup.select(AlertGroup.id, AlertGroup.issue_id))
        if groups:
            group, status = chance.choice(groups), chance.choice(list(GroupStatus))
            if status is not GroupStatus.SNOOZED or group.issue_id not in NEVER_SNOOZED:
                _change(group.id, status)
        time.sleep(0.005)


def _change(group_id: int, status: GroupStatus) -> None:
    now = NOON + timedelta(minutes=_minute_now())
    fields: user_updates.UpdateFields = {"status": status}
    if status is GroupStatus.SNOOZED:
        fields["snoozed_until"] = now + timedelta(minutes=2)
    with suppress(Conflict):
        _until_done(
            partial(user_updates.update_group, 1, group_id, user_updates.GroupUpdate(fields=fields, by="user", at=now))
        )


def _act_as_source(url: str, stop: Event) -> None:
    """Resolve or unresolve random issues, as a worker applies status changes."""
    open_database(url)
    chance = random.Random(1)
    while not stop.is_set():
        change = StatusChange(
            source="sentry",
            change=chance.choice((Change.RESOLVED, Change.UNRESOLVED)),
            fingerprint=f"issue:{chance.randrange(12)}",
            received_at=NOON + timedelta(minutes=_minute_now()),
        )
        _until_done(partial(source_updates.apply_status_changes, [(1, change)]))
        time.sleep(0.005)


@pytest.fixture
def loaded(clean_database: str) -> str:
    """The database after all processes have ended."""
    with session():
        Workspace.create(slug="one")
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    user = context.Process(target=_act_as_user, args=(clean_database, stop))
    senders = [context.Process(target=_store_batches, args=(clean_database, seed)) for seed in range(PROCESSES)]
    source = context.Process(target=_act_as_source, args=(clean_database, stop))
    for process in (user, source, *senders):
        process.start()
    for sender in senders:
        sender.join(120)
    stop.set()
    user.join(20)
    source.join(20)
    assert [process.exitcode for process in (*senders, user, source)] == [0] * (PROCESSES + 2)
    return clean_database


@pytest.fixture
def logged_before(servers: embedded_servers.Servers) -> int:
    """The size of PostgreSQL's log before the load: other tests cause deadlocks on purpose."""
    return servers.postgres.log.stat().st_size


def test_counts_are_exact_and_no_transaction_deadlocks(
    logged_before: int,
    loaded: str,  # noqa: ARG001 - the storm
    servers: embedded_servers.Servers,
) -> None:
    with session():
        events = AlertEvent.select().count()
        groups = list(AlertGroup.select())
        held = Counter(
            dict(
                AlertEvent.select(AlertEvent.alert_group_id, fn.count(SQL("*")))
                .group_by(AlertEvent.alert_group_id)
                .tuples(),
            ),
        )
        identities = AlertEvent.select(AlertEvent.source_event_id).distinct().count()
    assert events == identities > PROCESSES * BATCHES * BATCH * 0.85
    assert sum(group.count for group in groups) == events
    assert {group.id: group.count for group in groups} == held
    assert miscounted_hours() == []
    current = Counter(group.group_key for group in groups if group.is_current)
    assert max(current.values(), default=0) <= 1
    assert len(groups) > len({group.group_key for group in groups})
    _, deadlock, details = servers.postgres.log.read_bytes()[logged_before:].partition(b"deadlock detected")
    assert not deadlock, details[:9000].decode()
    assert_environments_are_settled()


def assert_environments_are_settled() -> None:
    """Every issue had alerts that name an environment: no group is left whose environment is assumed."""
    misplaced = """
        SELECT count(*) FROM alert_event e JOIN alert_group g ON g.id = e.alert_group_id
        WHERE (e.project, e.environment) <> (g.project, g.environment)"""
    with session():
        assert database.execute_sql(misplaced).fetchone() == (0,)
        assert not AlertGroup.select().where(AlertGroup.environment_is_assumed).exists()
        assert AlertEvent.select().where(~AlertEvent.names_environment).count() > PROCESSES


def test_no_alert_joined_past_the_window_or_into_a_group_resolved_before(loaded: str) -> None:  # noqa: ARG001 - the storm
    late = """
        SELECT count(*) FROM alert_event e JOIN alert_group g ON g.id = e.alert_group_id
        WHERE g.status = 'resolved' AND e.received_at > g.resolved_at"""
    with session():
        assert database.execute_sql(late).fetchone() == (0,)
        groups = list(AlertGroup.select().where(AlertGroup.issue_id.in_(NEVER_SNOOZED)))
        for group in groups:
            events = AlertEvent.select(AlertEvent.received_at).where(AlertEvent.alert_group == group)
            moments = sorted(moment for (moment,) in events.tuples())
            assert all(later - earlier <= WINDOW for earlier, later in pairwise(moments))
    assert any(group.count > 10 for group in groups)
