"""From a happening to a message: people are told what is so, once."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from signalcraft.domain.alerts import Change, GroupStatus, Severity, StatusChange
from signalcraft.domain.notifications import default_rule
from signalcraft.groups import source_updates, user_updates
from signalcraft.groups.bursts import PendingEvent
from signalcraft.notify import queries
from signalcraft.notify.config import NotifyConfig
from signalcraft.notify.contract import Outcome, OutcomeKind, Receiver
from signalcraft.notify.delivery import Timing
from signalcraft.notify.notifier import Notifier
from signalcraft.notify.routes import Route
from signalcraft.storage.database import database, session
from tests.support.builders import pending_event, record
from tests.support.receivers import RecordingCardReceiver, RecordingReceiver
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("redis")

SHORT = Timing(
    lease=timedelta(seconds=0), backoff=(0.0,), failed=0.0, rate_limited=0.0, broken_retry=timedelta(hours=1)
)


def alert(issue: str = "1", *, minutes_ago: float = 0, severity: Severity = Severity.HIGH) -> PendingEvent:
    event = pending_event(issue=issue, severity=severity)
    moment = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    return replace(event, alert=replace(event.alert, received_at=moment, occurred_at=moment))


def notifier(*receivers: Receiver, routes: Sequence[Route] = (), storm: int = 10) -> Notifier:
    names = tuple(receiver.name for receiver in receivers)
    config = NotifyConfig(
        receivers={receiver.name: receiver for receiver in receivers},
        routes=routes or (Route(name="all", to=names),),
        storm=storm,
    )
    return Notifier(config, [default_rule], timing=SHORT)


def resolve(issue: str = "1") -> None:
    change = StatusChange(
        source="sentry", change=Change.RESOLVED, fingerprint=f"issue:{issue}", received_at=datetime.now(UTC)
    )
    with session():
        source_updates.apply_status_changes([(1, change)])


def update(group_id: int, status: GroupStatus) -> None:
    change = user_updates.GroupUpdate(fields={"status": status}, by="ann", at=datetime.now(UTC))
    with session():
        user_updates.update_group(1, group_id, change)


def test_a_new_group_and_its_end_are_told_once_each() -> None:
    ops = RecordingReceiver()
    running = notifier(ops)
    record(alert(), alert())
    running.run_until_idle()
    running.run_until_idle()
    resolve()
    running.run_until_idle()

    assert ops.told == [("opened", 1), ("resolved", 1)]


def test_an_alert_that_only_joins_is_not_told() -> None:
    ops = RecordingReceiver()
    running = notifier(ops)
    record(alert(minutes_ago=5))
    running.run_until_idle()
    record(alert())
    running.run_until_idle()

    assert ops.told == [("opened", 1)]


def test_a_group_that_is_over_before_it_is_told_is_not_told() -> None:
    ops = RecordingReceiver()
    running = notifier(ops, routes=[Route(name="all", to=("ops",), wait=timedelta(minutes=1))])
    record(alert())
    resolve()
    running.run_until_idle()

    assert ops.told == []


def test_a_card_is_posted_once_and_shows_the_group_as_it_is() -> None:
    ops = RecordingCardReceiver()
    running = notifier(ops, routes=[Route(name="all", to=("ops",), update_every=timedelta())])
    record(alert())
    running.run_until_idle()
    update(1, GroupStatus.ACK)
    running.run_until_idle()
    resolve()
    running.run_until_idle()

    assert ops.cards == {"card-1": "resolved"}
    assert [message.external_id for message in ops.messages] == [None, "card-1", "card-1"]


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(kind=OutcomeKind.RETRY, code="http_503"),
        Outcome(kind=OutcomeKind.RATE_LIMITED, code="http_429", retry_after=0.0),
        RuntimeError("a bug in the kind"),
    ],
    ids=["http_503", "http_429", "bug"],
)
def test_what_fails_for_a_while_is_told_once_with_the_same_id(outcome: Outcome | Exception) -> None:
    ops = RecordingReceiver(outcomes=[outcome, outcome])
    running = notifier(ops)
    record(alert())
    for _ in range(3):
        running.run_until_idle()
        with session():
            database.execute_sql("UPDATE receiver_state SET not_before = '-infinity'")
            database.execute_sql("UPDATE notification SET due_at = now()")

    assert ops.told == [("opened", 1)]
    assert len({message.notification_id for message in ops.attempts}) == 1


def test_a_receiver_that_is_no_more_is_forgotten_when_a_notifier_starts() -> None:
    ops = RecordingReceiver(outcomes=[Outcome(kind=OutcomeKind.BROKEN, code="http_404")])
    running = notifier(ops)
    record(alert())
    running.run_until_idle()
    with session():
        assert queries.broken() == {"ops": True}
    notifier(RecordingReceiver("mail")).run_until_idle()
    with session():
        assert queries.broken() == {"mail": False}


def test_a_storm_is_one_digest() -> None:
    ops = RecordingReceiver()
    running = notifier(ops, storm=5)
    record(*(alert(issue=str(number)) for number in range(40)))
    running.run_until_idle()

    assert [message.reason for message in ops.messages] == ["digest"]
    assert ops.messages[0].digest is not None
    assert (ops.messages[0].digest.opened, len(ops.messages[0].digest.worst)) == (40, 10)


def test_a_broken_receiver_keeps_its_messages_and_the_fallback_is_told() -> None:
    ops = RecordingReceiver(outcomes=[Outcome(kind=OutcomeKind.BROKEN, code="http_404")])
    mail = RecordingReceiver("mail")
    config = NotifyConfig(
        receivers={"ops": ops, "mail": mail}, routes=(Route(name="all", to=("ops",)),), fallback="mail"
    )
    running = Notifier(config, [default_rule], timing=SHORT)
    record(alert())
    record(alert(issue="2"))
    running.run_until_idle()

    assert (len(ops.attempts), ops.told) == (1, [])
    assert mail.told == [("receiver_broken", None)]

    Notifier(config, [default_rule], timing=SHORT).run_until_idle()
    assert ops.told == [("opened", 1), ("opened", 2)]


def test_the_clock_alone_wakes_it() -> None:
    """Nothing calls ``wake``, as while Redis is away."""
    ops = RecordingReceiver()
    stop = notifier(ops).start()
    try:
        time.sleep(0.2)
        record(alert())
        wait_until(lambda: ops.told == [("opened", 1)], seconds=10)
    finally:
        stop(5)
