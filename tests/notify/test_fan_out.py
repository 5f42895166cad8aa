"""Fan-out: each happening is stored with its cause, and routed once."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from signalcraft.domain.alerts import Decision, GroupSnapshot, GroupStatus, Severity
from signalcraft.domain.notifications import Evaluate, default_rule
from signalcraft.groups import user_updates
from signalcraft.notify.config import NotifyConfig
from signalcraft.notify.contract import Receiver
from signalcraft.notify.fan_out import FanOut
from signalcraft.notify.routes import Route
from signalcraft.notify.routing import Router
from signalcraft.storage.database import database, session
from signalcraft.storage.notification_models import Happening, Notification
from tests.notify.test_notifier import alert, notifier, resolve, update
from tests.support import ROOT
from tests.support.builders import change_group, groups, record
from tests.support.receivers import RecordingCardReceiver, RecordingReceiver

pytestmark = pytest.mark.usefixtures("redis")


def kinds() -> list[tuple[str, str]]:
    with session():
        return [(row.kind, row.actor) for row in Happening.select().order_by(Happening.id)]


def fan_out(*receivers: Receiver, rules: Sequence[Evaluate] = (default_rule,), route: Route | None = None) -> FanOut:
    names = tuple(receiver.name for receiver in receivers)
    config = NotifyConfig(
        receivers={receiver.name: receiver for receiver in receivers}, routes=(route or Route(name="all", to=names),)
    )
    return FanOut(Router(config, rules))


def routed(routing: FanOut) -> list[tuple[str, int]]:
    """Route everything; return the reason and the group of each notification."""
    with session():
        while routing.run_once():
            continue
        return [(row.reason, row.alert_group_id) for row in Notification.select().order_by(Notification.id)]


def test_what_alerts_sources_and_users_do_is_stored_with_who_did_it() -> None:
    record(alert(minutes_ago=5))
    record(alert(minutes_ago=4))
    record(alert(minutes_ago=3, severity=Severity.CRITICAL))
    update(1, GroupStatus.ACK)
    resolve()
    record(alert())

    assert kinds() == [
        ("opened", "alert"),
        ("escalated", "alert"),
        ("acked", "token"),
        ("resolved", "source"),
        ("regressed", "alert"),
    ]


def test_an_alert_that_joins_after_the_end_of_a_snooze_ends_it_and_is_told_where_the_route_says_so() -> None:
    ops, pay = RecordingReceiver(), RecordingReceiver("pay")
    on = frozenset({"opened", "snooze_ended"})
    running = notifier(
        ops, pay, routes=[Route(name="ops", to=("ops",), on=on, go_on=True), Route(name="all", to=("pay",))]
    )
    record(alert(minutes_ago=5))
    running.run_until_idle()
    change_group(1, status=GroupStatus.SNOOZED, snoozed_until=datetime.now(UTC) - timedelta(minutes=1))
    record(alert())
    running.run_until_idle()

    assert kinds() == [("opened", "alert"), ("snooze_ended", "alert")]
    assert (ops.told, pay.told) == ([("opened", 1), ("snooze_ended", 1)], [("opened", 1)])


def test_a_card_shows_that_a_snooze_has_ended_although_nothing_happens() -> None:
    ops = RecordingCardReceiver()
    running = notifier(ops, routes=[Route(name="all", to=("ops",), update_every=timedelta())])
    record(alert())
    running.run_until_idle()
    snooze = {"status": GroupStatus.SNOOZED, "snoozed_until": datetime.now(UTC) + timedelta(hours=1)}
    with session():
        user_updates.update_group(1, 1, user_updates.GroupUpdate(fields=snooze, by="ann", at=datetime.now(UTC)))
    running.run_until_idle()
    assert ops.cards == {"card-1": "snoozed"}
    with session():  # an hour passes
        for table, column in (("alert_group", "snoozed_until"), ("notification", "remind_at")):
            database.execute_sql(f"UPDATE {table} SET {column} = {column} - interval '1 hour'")  # noqa: S608 - our own
    running._upkeep_at = 0
    running.run_until_idle()

    assert ops.cards == {"card-1": "open"}
    assert kinds()[1:] == [("snoozed", "token")]


def test_a_happening_is_stored_with_its_cause_or_not_at_all() -> None:
    record(alert())
    change = user_updates.GroupUpdate(fields={"status": GroupStatus.ACK}, by="ann", at=datetime.now(UTC))
    with session(), database.atomic() as transaction:
        user_updates.update_group(1, 1, change)
        transaction.rollback()
    assert kinds() == [("opened", "alert")]


def test_two_processes_route_everything_once(environ: dict[str, str]) -> None:
    for first in range(0, 1_200, 400):
        record(*(alert(issue=str(first + number)) for number in range(400)))
    command = [sys.executable, "-m", "tests.support.routing_process", str(time.time() + 2)]
    processes = [subprocess.Popen(command, cwd=ROOT, env=os.environ | environ) for _ in range(2)]

    assert [process.wait(30) for process in processes] == [0, 0]
    told = Counter(group_id for _, group_id in routed(fan_out(RecordingReceiver())))
    assert (len(told), set(told.values())) == (1_200, {1})


def test_a_problem_that_recurs_is_told_once_within_its_recurrence_and_anew_after_it() -> None:
    ops = RecordingReceiver()
    running = notifier(ops, routes=[Route(name="all", to=("ops",), recurrence=timedelta(hours=3))])
    record(alert(minutes_ago=60 * 8))
    running.run_until_idle()
    with session():
        database.execute_sql("UPDATE notification SET sent_at = now() - interval '8 hours'")
    record(alert(minutes_ago=60 * 6))
    running.run_until_idle()
    assert ops.told == [("opened", 1)]
    record(alert(minutes_ago=60 * 2))
    running.run_until_idle()
    assert ops.told == [("opened", 1), ("opened", groups()[-1].id)]


def test_a_problem_that_recurs_keeps_its_card() -> None:
    ops = RecordingCardReceiver()
    running = notifier(ops, routes=[Route(name="all", to=("ops",), update_every=timedelta())])
    record(alert(minutes_ago=120))
    running.run_until_idle()
    record(alert())
    running.run_until_idle()
    update(groups()[-1].id, GroupStatus.ACK)
    running.run_until_idle()
    assert {message.external_id for message in ops.messages[1:]} == {"card-1"}
    assert ops.cards == {"card-1": "ack"}


def test_a_regression_is_told_always() -> None:
    ops = RecordingReceiver()
    running = notifier(ops)
    for _ in range(3):
        record(alert())
        running.run_until_idle()
        resolve()
        running.run_until_idle()
    assert [reason for reason, _ in ops.told] == [
        "opened",
        "resolved",
        "regressed",
        "resolved",
        "regressed",
        "resolved",
    ]


def test_a_rule_that_raises_leaves_the_built_in_decision() -> None:
    def rule(_group: GroupSnapshot, _decision: Decision) -> list[str]:
        raise ZeroDivisionError

    record(alert())
    with capture_logs() as lines:
        assert routed(fan_out(RecordingReceiver(), rules=[rule])) == [("opened", 1)]
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["rule failed"]


def test_rules_may_tell_nobody_or_give_a_reason_of_their_own_that_every_route_tells() -> None:
    record(alert())
    assert routed(fan_out(RecordingReceiver(), rules=[lambda _group, _decision: []])) == []
    record(alert(issue="2"))
    only_ends = Route(name="ends", to=("ops",), on=frozenset({"resolved"}))
    found = routed(fan_out(RecordingReceiver(), rules=[lambda _group, _decision: ["burning"]], route=only_ends))
    assert found == [("burning", 2)]


def test_what_happened_long_ago_is_routed_to_nobody() -> None:
    record(alert(minutes_ago=60 * 25))
    assert routed(fan_out(RecordingReceiver())) == []
    with session():
        assert Happening.select().where(Happening.routed_at.is_null()).count() == 0
