"""Many messages at once, receivers that are down, and claims that come too late."""

from collections.abc import Callable
from datetime import timedelta

import psutil
import pytest

from signalcraft.domain.alerts import Severity
from signalcraft.domain.notifications import default_rule
from signalcraft.notify.config import NotifyConfig
from signalcraft.notify.contract import Message, Outcome, OutcomeKind
from signalcraft.notify.delivery import Timing
from signalcraft.notify.notifier import Notifier
from signalcraft.notify.routes import Route
from signalcraft.storage.database import database, session
from tests.notify.test_notifier import alert, notifier, resolve
from tests.support.builders import record
from tests.support.receivers import RecordingCardReceiver, RecordingReceiver

pytestmark = pytest.mark.usefixtures("redis")

DOWN = Outcome(kind=OutcomeKind.RETRY, code="http_503")


class InterruptedReceiver(RecordingReceiver):
    """Calls ``interrupt`` once, after the first message has arrived and before that is recorded."""

    interrupt: Callable[[], None] | None = None

    def send(self, message: Message) -> Outcome:
        outcome = super().send(message)
        interrupt, self.interrupt = self.interrupt, None
        if interrupt is not None:
            interrupt()
        return outcome


def statuses() -> dict[str, int]:
    with session():
        return dict(database.execute_sql("SELECT state, count(*) FROM notification GROUP BY state").fetchall())


def let_minutes_pass(minutes: float) -> None:
    with session():
        database.execute_sql("UPDATE notification SET sent_at = sent_at - %s", (timedelta(minutes=minutes),))


@pytest.mark.parametrize("receiver", [RecordingReceiver, RecordingCardReceiver])
def test_a_storm_of_ten_thousand_groups_is_few_messages_and_little_memory(receiver: type[RecordingReceiver]) -> None:
    """In the minute of the storm one by one, then one digest; a second digest, or an edit of it, tells of the rest."""
    ops = receiver()
    running = notifier(ops)
    record(*(alert(issue=f"before {number}") for number in range(20)))
    running.run_until_idle()
    let_minutes_pass(11)
    ops.messages.clear()
    before = psutil.Process().memory_info().rss
    for batch in range(20):
        record(*(alert(issue=f"{batch} {number}", severity=Severity.LOW) for number in range(500)))
        running.run_until_idle()
    let_minutes_pass(1.1)
    running.run_until_idle()

    assert len(ops.messages) <= 20
    assert psutil.Process().memory_info().rss - before < 30_000_000
    told = {message.notification_id: message.digest.opened if message.digest else 1 for message in ops.messages}
    assert sum(told.values()) == 10_000
    assert not statuses().keys() & {"pending", "sending"}


def test_alerts_that_come_one_by_one_are_a_storm_too() -> None:
    ops = RecordingReceiver()
    running = notifier(ops, storm=3)
    for number in range(30):
        record(alert(issue=str(number)))
        running.run_until_idle()
    assert [message.reason for message in ops.messages] == ["opened", "opened", "opened", "digest"]

    let_minutes_pass(1.1)
    running.run_until_idle()
    assert [message.reason for message in ops.messages][4:] == ["digest"]
    assert not statuses().keys() & {"pending", "sending"}


def test_a_receiver_that_was_down_is_told_the_most_urgent_first() -> None:
    """While it is down it is not tried with each of the messages."""
    ops = RecordingReceiver()
    timing = Timing(lease=timedelta(), backoff=(0, 600), failed=600)
    config = NotifyConfig(receivers={"ops": ops}, routes=(Route(name="all", to=("ops",)),), storm=0)
    running = Notifier(config, [default_rule], timing=timing)
    ops.outcomes = [DOWN] * 4
    record(*(alert(issue=severity.value, severity=severity) for severity in Severity))
    for _ in range(4):
        running.run_until_idle()
        with session():  # the pause is over
            database.execute_sql("UPDATE receiver_state SET not_before = now()")
    assert (len(ops.attempts), ops.told) == (4, [])

    running.run_until_idle()
    told = [message.group and message.group["severity"] for message in ops.messages]
    assert sorted(told[1:], key=["critical", "high", "med", "low", "info"].index) == told[1:]
    assert len(told) == len(Severity)


def test_a_receiver_that_was_down_during_a_storm_gets_a_digest() -> None:
    ops = RecordingReceiver(outcomes=[DOWN] * 8)
    running = notifier(ops, storm=5)
    for number in range(40):
        record(alert(issue=str(number)))
        if number % 4 == 0:
            running.run_until_idle()
    let_minutes_pass(1.1)
    running.run_until_idle()

    assert len(ops.messages) <= 2 + 5
    assert sum(message.digest.opened if message.digest else 1 for message in ops.messages) == 40
    assert not statuses().keys() & {"pending", "sending"}


def test_of_many_that_waited_for_a_receiver_the_critical_ones_are_told_first_and_the_rest_by_one_digest() -> None:
    ops = RecordingReceiver(outcomes=[DOWN])
    timing = Timing(lease=timedelta(), backoff=(600,), failed=600)
    running = Notifier(notifier(ops)._config, [default_rule], timing=timing)
    severities = [Severity.CRITICAL, *[Severity.LOW] * 19] * 3
    record(*(alert(issue=str(number), severity=severity) for number, severity in enumerate(severities)))
    running.run_until_idle()
    assert (len(ops.attempts), ops.told) == (1, [])
    with session():  # ten minutes later
        database.execute_sql("UPDATE receiver_state SET not_before = now(), last_error_at = now() - interval '600 s'")
    running.run_until_idle()

    told = [message.group["severity"] if message.group else message.reason for message in ops.messages]
    assert told == ["critical"] * 3 + ["digest"]
    assert statuses() == {"sent": 4, "covered": 57}


def test_a_group_that_is_resolved_while_a_digest_tells_of_it_is_told_as_resolved() -> None:
    ops = InterruptedReceiver()
    running = notifier(ops, storm=2)
    ops.interrupt = lambda: resolve("1")
    record(*(alert(issue=str(number)) for number in range(4)))
    running.run_until_idle()
    let_minutes_pass(1.1)
    running.run_until_idle()

    assert [message.reason for message in ops.messages] == ["digest", "resolved"]


def test_a_record_that_comes_after_its_lease_changes_nothing() -> None:
    """Another notifier has sent the message meanwhile."""
    ops = InterruptedReceiver(outcomes=[DOWN])
    ops.interrupt = notifier(ops).run_until_idle
    record(alert())
    notifier(ops).run_until_idle()

    assert ops.told == [("opened", 1)]


def test_what_may_have_arrived_is_told_as_over_although_it_was_over_before_it_was_due() -> None:
    """Else the receiver that got it from the notifier that crashed would think that the group is open."""
    ops = RecordingReceiver(outcomes=[KeyboardInterrupt()])
    record(alert())
    with pytest.raises(KeyboardInterrupt):
        notifier(ops).run_until_idle()
    resolve()
    with session():
        database.execute_sql("UPDATE notification SET due_at = now()")
    notifier(ops).run_until_idle()

    assert [message.is_over for message in ops.messages] == [True]
