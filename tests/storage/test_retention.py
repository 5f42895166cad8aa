import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest
from redis import Redis

from signalcraft.domain.alerts import Severity
from signalcraft.domain.errors import UnexpectedShape
from signalcraft.groups.bursts import PendingEvent
from signalcraft.queues import dead_letters
from signalcraft.settings import Settings
from signalcraft.storage import retention
from signalcraft.storage.database import current_time, database, open_database, session
from signalcraft.storage.delivery_models import FailedDelivery, UnhandledDelivery
from signalcraft.storage.models import AlertEvent, GroupChange, GroupHour, LatestSourceUpdate, PurgedEvent, Workspace
from signalcraft.storage.notification_models import Happening, Notification, NotificationAttempt
from signalcraft.storage.retention import Purge
from signalcraft.storage.sql import Columns
from signalcraft.worker import maintenance
from tests.support.builders import accepted, at, change_group, groups, pending_event, record

DAY = 24 * 60


@pytest.fixture(autouse=True)
def workspace(clean_database: str) -> None:  # noqa: ARG001 - for that it is clean
    with session():
        Workspace.create(slug="one")


def ids() -> list[str]:
    with session():
        return [event.source_event_id for event in AlertEvent.select().order_by(AlertEvent.received_at)]


def payloads() -> list[str]:
    with session():
        with_payload = AlertEvent.select().where(AlertEvent.payload_json.is_null(is_null=False))
        return [event.source_event_id for event in with_payload.order_by(AlertEvent.received_at)]


def delete_events(minute: float) -> int:
    with session():
        return sum(retention.delete_events(at(minute)))


def old_events() -> None:
    for hundred in range(12):
        record(*(pending_event(f"{hundred}-{number}", hundred + number / 100) for number in range(100)))


def old_groups() -> None:
    record(*(pending_event(issue=str(number)) for number in range(600)))


def old_hours() -> None:
    record(*(pending_event(f"{number}", number * 60) for number in range(600)))


def test_old_events_are_deleted_but_the_first_and_last_of_a_group_and_its_count_stay() -> None:
    record(*(pending_event(f"{number}", number) for number in range(10)))
    assert delete_events(1_000) == 8
    assert ids() == ["0", "9"]
    assert groups()[0].count == 10


def test_the_events_that_opened_a_group_stay() -> None:
    record(*(pending_event(f"{number}", number * 30) for number in range(5)))
    record(pending_event("late", -20))
    delete_events(10_000)
    assert ids() == ["late", "0", "4"]


def test_events_younger_than_the_retention_stay() -> None:
    record(*(pending_event(f"{number}", number) for number in range(10)))
    assert delete_events(5) == 4
    assert ids() == ["0", "5", "6", "7", "8", "9"]


def test_a_purge_runs_in_transactions_of_bounded_size() -> None:
    old_events()
    with session():
        sizes = list(retention.delete_events(at(1_000)))
    assert sum(sizes) == 1_198
    assert len(sizes) == 6
    assert max(sizes) <= retention.BATCH_SIZE


@pytest.mark.parametrize(
    ("fill", "purge"),
    [
        (old_events, lambda: sum(retention.delete_events(at(1_000)))),
        (old_events, lambda: sum(retention.drop_payloads(at(1_000)))),
        (old_groups, lambda: retention.resolve_inactive(at(1_000), at(2_000))),
        (old_hours, lambda: retention.purge_group_hours(at(1_000 * DAY))),
    ],
)
def test_a_purge_keeps_postgresql_busy_for_half_of_the_time_at_most(
    fill: Callable[[], None], purge: Callable[[], int]
) -> None:
    fill()
    busy = list[float]()
    with session():
        database.query_hooks.append(lambda event: busy.append(event.duration))
        began = time.monotonic()
        assert purge() >= 600
        took = time.monotonic() - began
    assert took > 1.9 * sum(busy)


def test_payloads_are_dropped_earlier_than_events() -> None:
    record(*(pending_event(f"{number}", number) for number in range(4)))
    with session():
        assert retention.count(Purge(events_before=at(2), payloads_before=at(3))) == (1, 3)
        assert sum(retention.drop_payloads(at(3))) == 3
        assert sum(retention.drop_payloads(at(3))) == 0
    assert (ids(), payloads()) == (["0", "1", "2", "3"], ["3"])


def test_a_purge_of_empty_tables_deletes_nothing() -> None:
    assert delete_events(0) == 0


def test_inactive_open_and_acknowledged_groups_are_resolved_but_snoozed_ones_are_not() -> None:
    record(
        pending_event("a", 0, issue="1"),
        pending_event("b", 0, issue="2"),
        pending_event("c", 0, issue="3"),
        pending_event("d", 9, issue="4"),
    )
    by_issue = {group.issue_id: group.id for group in groups()}
    change_group(by_issue["2"], status="ack")
    change_group(by_issue["3"], status="snoozed")
    with session():
        assert retention.resolve_inactive(at(5), at(1_000)) == 2
        changes = GroupChange.select().order_by(GroupChange.from_value.desc())
        assert [(change.actor, change.changed_by, change.from_value, change.to_value) for change in changes] == [
            ("clock", "AUTO_RESOLVE_DAYS", before, "resolved") for before in ("open", "ack")
        ]
    assert {group.version for group in groups() if group.status == "resolved"} == {2}
    assert {group.issue_id: group.status for group in groups()} == {
        "1": "resolved",
        "2": "resolved",
        "3": "snoozed",
        "4": "open",
    }


def test_all_inactive_groups_are_resolved_except_locked_ones(clean_database: str) -> None:
    record(*(pending_event(issue=str(number)) for number in range(450)))
    with closing(psycopg2.connect(clean_database)) as other, other.cursor() as cursor, session():
        cursor.execute("SELECT FROM alert_group WHERE id IN (1, 250) FOR UPDATE")
        assert retention.resolve_inactive(at(5), at(1_000)) == 448
        assert retention.resolve_inactive(at(5), at(1_000)) == 0
        other.rollback()
        assert retention.resolve_inactive(at(5), at(1_000)) == 2


def test_all_old_source_updates_are_purged_over_several_transactions() -> None:
    fixed = {"workspace": 1, "source": "sentry", "change": "resolved"}
    with session():
        LatestSourceUpdate.insert_many(
            [{"fingerprint": f"issue:{number}", "received_at": at(number % 3), **fixed} for number in range(750)]
        ).execute()
        assert retention.purge_source_updates(at(2)) == 500
        assert LatestSourceUpdate.select().count() == 250


def test_daily_maintenance_runs_once_a_day_in_the_first_process_to_start_it(
    settings: Settings, clean_redis: Redis
) -> None:
    record(*(pending_event(f"{number}", number) for number in range(5)))
    now = at(0) + timedelta(days=settings.retention_days + 1)
    assert maintenance.run_daily_maintenance(settings, clean_redis, now)
    assert ids() == ["0", "4"]
    assert payloads() == []
    assert not maintenance.run_daily_maintenance(settings, clean_redis, now)
    assert 0 < clean_redis.ttl("signalcraft:chores") <= 86_400


def test_by_default_daily_maintenance_resolves_groups_quiet_for_two_weeks_and_notifies_of_none(
    settings: Settings, clean_redis: Redis
) -> None:
    record(pending_event(minute=0, issue="1"), pending_event(minute=2 * DAY, issue="2"))
    assert maintenance.run_daily_maintenance(settings, clean_redis, at(15 * DAY))
    assert {group.issue_id: group.status for group in groups()} == {"1": "resolved", "2": "open"}
    with session():
        (change,) = GroupChange.select()
    assert (change.actor, change.changed_by, change.changed_at) == ("clock", "AUTO_RESOLVE_DAYS", at(15 * DAY))
    assert clean_redis.keys("rq:*") == []


def test_daily_maintenance_goes_by_the_clock_of_postgresql(
    settings: Settings, clean_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose clock is far ahead deleted events that were not old yet."""
    with session():
        now = current_time()
    assert abs((now - datetime.now(UTC)).total_seconds()) < 5
    record(*(pending_event(f"{number}", number) for number in range(5)))
    times = [at(0) + timedelta(days=settings.retention_days - 1), at(0) + timedelta(days=settings.retention_days + 1)]
    monkeypatch.setattr(maintenance, "current_time", lambda: times.pop(0))
    for kept in (["0", "1", "2", "3", "4"], ["0", "4"]):
        assert maintenance.run_daily_maintenance(settings, clean_redis)
        assert ids() == kept
        clean_redis.delete("signalcraft:chores")


def test_failed_daily_maintenance_is_retried(settings: Settings, clean_redis: Redis, database_url: str) -> None:
    database.close_all()
    open_database("postgresql://127.0.0.1:1/nowhere")
    try:
        assert not maintenance.run_daily_maintenance(settings, clean_redis, at(0))
    finally:
        open_database(database_url)
    assert maintenance.run_daily_maintenance(settings, clean_redis, at(0))


def test_events_with_a_higher_severity_than_all_before_stay() -> None:
    severities = (
        Severity.LOW,
        Severity.LOW,
        Severity.HIGH,
        Severity.MED,
        Severity.HIGH,
        Severity.CRITICAL,
        Severity.LOW,
    )
    record(*(pending_event(f"{number}", number, severity=severity) for number, severity in enumerate(severities)))
    delete_events(1_000)
    assert ids() == ["0", "2", "5", "6"]


def test_dead_letters_and_unhandled_deliveries_are_deleted_when_bodies_are(
    settings: Settings, clean_redis: Redis
) -> None:
    now = datetime.now(UTC)
    old, young = (now - timedelta(days=settings.payload_retention_days + days) for days in (1, -1))
    with session():
        for number in range(25):
            dead_letters.add_all([(accepted(), UnexpectedShape("by older code"))], stage="normalize")
            dead_letters.add_unhandled([accepted(title=str(number))])
        FailedDelivery.update(failed_at=old).where(FailedDelivery.id != 3).execute()
        FailedDelivery.update(replayed_at=old).where(FailedDelivery.id < 3).execute()
        UnhandledDelivery.update(received_at=old).execute()
        UnhandledDelivery.update(received_at=young).where(UnhandledDelivery.id == 5).execute()
        assert retention.count_raw_deliveries(maintenance.purge_of(settings, now).payloads_before) == 48
    assert maintenance.run_daily_maintenance(settings, clean_redis, now)
    with session():
        assert [row.id for row in FailedDelivery.select()] == [3]
        assert [row.id for row in UnhandledDelivery.select()] == [5]


def test_an_event_that_was_purged_counts_no_second_time() -> None:
    events = [pending_event(f"{number}", number) for number in range(5)]
    record(*events)
    assert delete_events(1_000) == 3
    again = record(*events, pending_event("new", 6))
    assert (len(again.events), again.duplicates) == (1, 5)
    assert [group.count for group in groups()] == [6]
    with session():
        assert PurgedEvent.select().count() == 3
        assert {len(bytes(row.identity)) for row in PurgedEvent.select()} == {16}
        assert AlertEvent.select().count() == 3


def test_the_same_bytes_received_again_after_a_purge_count_no_second_time() -> None:
    def received(minute: float) -> list[PendingEvent]:
        """The alerts as they come, each two seconds after it occurred; a captured one keeps its time."""
        events = [pending_event(f"{number}", number) for number in range(3)]
        late = timedelta(minutes=minute, seconds=2)
        return [
            replace(event, alert=replace(event.alert, received_at=event.alert.occurred_at + late)) for event in events
        ]

    record(*received(0))
    assert delete_events(1_000) == 1
    assert len(record(*received(DAY)).events) == 0


def test_a_purged_event_of_another_workspace_counts() -> None:
    with session():
        Workspace.create(slug="two")
    record(*(pending_event(f"{number}", number) for number in range(3)))
    assert delete_events(1_000) == 1
    assert len(record(pending_event("1", 1, workspace_id=2)).events) == 1


def test_the_counts_of_hours_that_are_over_are_deleted_when_their_events_would_be() -> None:
    record(*(pending_event(minute=minute) for minute in (0, 59, 60, 119, 121)))
    with session():
        assert retention.purge_group_hours(at(59)) == 0
        assert retention.purge_group_hours(at(119)) == 1
        assert list(GroupHour.select(GroupHour.hour, GroupHour.alerts).tuples()) == [(at(60), 2), (at(120), 1)]


def test_the_counts_of_hours_are_deleted_in_transactions_of_bounded_size(
    settings: Settings, clean_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(*(pending_event(issue=f"{n}") for n in range(2 * retention.BATCH_SIZE + 1)))
    sizes = []
    delete = retention.query

    def count(sql: str, columns: Columns, rows: list[tuple[int, datetime]]) -> object:
        sizes.append(len(rows))
        return delete(sql, columns, rows)

    monkeypatch.setattr(retention, "query", count)
    assert maintenance.run_daily_maintenance(settings, clean_redis, at(settings.retention_days * DAY + 60))
    assert sizes == [retention.BATCH_SIZE, retention.BATCH_SIZE, 1]
    with session():
        assert GroupHour.select().count() == 0


def insert_notification(group_id: int | None, *, days_old: int, mode: str = "event", state: str = "sent") -> int:
    """A notification with an attempt, both so old."""
    moment = datetime.now(UTC) - timedelta(days=days_old)
    with session():
        ((row_id,),) = database.execute_sql(
            """
            INSERT INTO notification (workspace_id, alert_group_id, receiver, route, mode, reason, rank, state,
                happened_at, due_at, created_at, sent_at)
            VALUES (1, %(group)s, 'ops', '', %(mode)s, 'opened', 3, %(state)s, %(at)s, %(at)s, %(at)s, %(at)s)
            RETURNING id""",
            {"group": group_id, "mode": mode, "state": state, "at": moment},
        ).fetchall()
        database.execute_sql(
            "INSERT INTO notification_attempt (notification_id, at, outcome, code, took_ms, detail)"
            " VALUES (%s, %s, 'sent', '', 1, '')",
            (row_id, moment),
        )
    return int(row_id)


def purge_notifications(settings: Settings) -> int:
    with session():
        return retention.purge_notifications(maintenance.purge_of(settings, datetime.now(UTC)).events_before)


def test_old_notifications_of_groups_that_are_over_are_deleted_with_their_attempts(settings: Settings) -> None:
    record(pending_event(issue="1"), pending_event(issue="2"))
    change_group(1, status="resolved", is_current=False, resolved_at=datetime.now(UTC))
    gone = [
        insert_notification(1, days_old=91),
        insert_notification(1, days_old=91, state="given_up"),
        insert_notification(None, days_old=91, mode="digest"),
    ]
    kept = [
        insert_notification(1, days_old=89),
        insert_notification(2, days_old=91),
        insert_notification(1, days_old=91, state="pending"),
        insert_notification(1, days_old=91, mode="card"),
        insert_notification(None, days_old=91, mode="digest"),
    ]
    with session():  # as a receiver with cards has it, whose incident ends with the groups
        Notification.update(told_status="ack").where(Notification.id == kept[-1]).execute()
    with session():
        before = maintenance.purge_of(settings, datetime.now(UTC)).events_before
        assert retention.count_notifications(before) == len(gone)
    assert purge_notifications(settings) == len(gone)
    with session():
        assert [row.id for row in Notification.select().order_by(Notification.id)] == kept
        assert [row.notification_id for row in NotificationAttempt.select()] == kept[:1]


def test_notifications_are_deleted_in_transactions_of_bounded_size(settings: Settings) -> None:
    for _ in range(retention.BATCH_SIZE + 1):
        insert_notification(None, days_old=91)
    assert purge_notifications(settings) == retention.BATCH_SIZE + 1


@pytest.mark.parametrize(
    ("days_old", "is_routed", "is_told", "is_kept"),
    [
        (91, True, True, False),
        (89, True, True, True),
        (3, False, False, False),
        (1, False, False, True),
        (3, False, True, True),
        (91, False, True, False),
    ],
)
def test_what_happened_is_deleted_with_the_events_or_after_two_days_if_no_notifier_ran_and_nobody_knows_the_group(
    settings: Settings, days_old: int, *, is_routed: bool, is_told: bool, is_kept: bool
) -> None:
    record(pending_event())
    moment = datetime.now(UTC) - timedelta(days=days_old)
    with session():
        Happening.update(at=moment, routed_at=moment if is_routed else None).execute()
    if is_told:
        insert_notification(1, days_old=1)
    purge_notifications(settings)
    with session():
        assert Happening.select().count() == int(is_kept)


def test_daily_maintenance_purges_notifications_too(settings: Settings, clean_redis: Redis) -> None:
    insert_notification(None, days_old=91)
    assert maintenance.run_daily_maintenance(settings, clean_redis)
    with session():
        assert Notification.select().count() == 0
