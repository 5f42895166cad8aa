"""A storm at a receiver with cards: one message for all groups, which ends when they do."""

from datetime import timedelta

import pytest

from signalcraft.domain.alerts import GroupStatus, Severity
from signalcraft.notify.contract import Outcome, OutcomeKind
from signalcraft.notify.notifier import Notifier
from signalcraft.notify.routes import Route
from signalcraft.storage.database import database, session
from tests.notify.test_notifier import alert, notifier, resolve, update
from tests.support.builders import record
from tests.support.receivers import RecordingCardReceiver

pytestmark = pytest.mark.usefixtures("redis")

AT_ONCE = Route(name="all", to=("ops",), update_every=timedelta())


def storm(*numbers: int, severity: Severity = Severity.HIGH) -> None:
    record(*(alert(issue=str(number), severity=severity) for number in numbers))


def let_minutes_pass(minutes: int) -> None:
    with session():
        database.execute_sql("UPDATE notification SET sent_at = sent_at - %s", (timedelta(minutes=minutes),))


def run(running: Notifier) -> None:
    """Run, with what the clock asks for."""
    running._upkeep_at = 0
    running.run_until_idle()


def shown(ops: RecordingCardReceiver) -> list[tuple[str | None, str]]:
    """The card that each message edits, and the status of a digest or the issue of a group."""
    return [
        (message.external_id, message.digest.status if message.digest else (message.group or {})["fingerprint"])
        for message in ops.messages
    ]


def test_a_digest_is_over_when_all_its_groups_are_and_none_of_them_is_told_by_itself() -> None:
    ops = RecordingCardReceiver()
    running = notifier(ops, routes=[AT_ONCE], storm=2)
    storm(1, 2, 3)
    run(running)
    for group_id in (1, 2, 3):
        assert shown(ops) == [(None, "open")]
        update(group_id, GroupStatus.ACK)
        run(running)
    for issue in ("1", "2", "3"):
        assert shown(ops) == [(None, "open"), ("card-1", "ack")]
        resolve(issue)
        run(running)
    run(running)

    assert shown(ops) == [(None, "open"), ("card-1", "ack"), ("card-1", "resolved")]


def test_a_storm_that_goes_on_is_one_digest_and_a_later_one_is_another() -> None:
    ops = RecordingCardReceiver()
    running = notifier(ops, routes=[AT_ONCE], storm=2)
    storm(1, 2, 3)
    run(running)
    let_minutes_pass(2)
    storm(4, 5, 6)
    run(running)
    let_minutes_pass(11)
    storm(7, 8, 9)
    run(running)

    assert shown(ops) == [(None, "open"), ("card-1", "open"), (None, "open")]
    assert [message.digest and message.digest.opened for message in ops.messages] == [3, 6, 3]
    assert len({message.notification_id for message in ops.messages}) == 2


def test_a_group_of_a_digest_that_becomes_worse_gets_a_card_and_the_digest_ends_without_it() -> None:
    ops = RecordingCardReceiver()
    running = notifier(ops, routes=[AT_ONCE], storm=2)
    storm(1, 2, 3)
    run(running)
    let_minutes_pass(2)
    storm(1, severity=Severity.CRITICAL)
    run(running)
    resolve("2")
    resolve("3")
    run(running)
    resolve("1")
    run(running)

    assert shown(ops) == [(None, "open"), (None, "issue:1"), ("card-1", "resolved"), ("card-2", "issue:1")]


def test_a_group_that_was_tried_before_the_digest_is_told_of_its_end() -> None:
    """The attempt may have arrived, and left an incident."""
    ops = RecordingCardReceiver(outcomes=[Outcome(kind=OutcomeKind.UNKNOWN, code="timeout")])
    running = notifier(ops, routes=[AT_ONCE], storm=2)
    storm(1)
    running._route()
    running._deliveries["ops"].run_once()
    storm(2, 3)
    run(running)
    for issue in ("1", "2", "3"):
        resolve(issue)
    run(running)

    assert [place for _, place in shown(ops)] == ["issue:1", "open", "resolved", "issue:1"]


def test_a_digest_that_comes_after_the_end_of_its_groups_says_so() -> None:
    """PagerDuty then opens no incident."""
    ops = RecordingCardReceiver(outcomes=[Outcome(kind=OutcomeKind.RETRY, code="http_503")])
    running = notifier(ops, routes=[AT_ONCE], storm=2)
    storm(1, 2, 3)
    running._route()
    running._deliveries["ops"].run_once()
    for issue in ("1", "2", "3"):
        resolve(issue)
    run(running)

    assert shown(ops) == [(None, "resolved")]
