"""Less noise: hours, waits, reminders, digests, and what is quiet; and leases, which say who sends."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from signalcraft.domain.alerts import GroupStatus
from signalcraft.notify.contract import Message, Outcome, OutcomeKind
from signalcraft.notify.notifier import Notifier
from signalcraft.notify.routes import Hours, Route
from signalcraft.storage.database import database, session
from signalcraft.storage.notification_models import Notification
from tests.notify.test_notifier import alert, notifier, resolve, update
from tests.support.builders import change_group, record
from tests.support.receivers import RecordingReceiver

pytestmark = pytest.mark.usefixtures("redis")


def execute(statement: str) -> None:
    with session():
        database.execute_sql(statement)


def states() -> list[str]:
    with session():
        return [row.state for row in Notification.select().order_by(Notification.id)]


def closed_now() -> Hours:
    """Return hours that begin in one hour."""
    start = datetime.now(UTC) + timedelta(hours=1)
    return Hours.parse(f"{start:%H:%M}-{start + timedelta(hours=1):%H:%M}")


@pytest.mark.parametrize("is_by_hours", [True, False], ids=["hours", "wait"])
def test_what_is_not_due_yet_waits_and_is_told_as_it_is_then(*, is_by_hours: bool) -> None:
    ops = RecordingReceiver()
    quiet = Route(name="all", to=("ops",), hours=closed_now())
    waiting = Route(name="all", to=("ops",), wait=timedelta(minutes=1))
    running = notifier(ops, routes=[quiet if is_by_hours else waiting])
    record(alert())
    running.run_until_idle()
    assert (ops.told, states()) == ([], ["pending"])
    change_group(1, severity="critical")
    execute("UPDATE notification SET due_at = now()")
    running.run_until_idle()
    assert ops.told == [("opened", 1)]
    assert ops.messages[0].group is not None
    assert ops.messages[0].group["severity"] == "critical"


def remind(running: Notifier) -> None:
    execute("UPDATE notification SET remind_at = now() WHERE remind_at IS NOT NULL")
    running._upkeep_at = 0
    running.run_until_idle()


def test_nobody_acked_is_told_three_times_more() -> None:
    ops = RecordingReceiver()
    running = notifier(ops, routes=[Route(name="all", to=("ops",), remind_after=timedelta(hours=1))])
    record(alert())
    running.run_until_idle()
    for _ in range(5):
        remind(running)
    assert ops.told == [("opened", 1)] + [("reminder", 1)] * 3


@pytest.mark.parametrize("status", [GroupStatus.ACK, GroupStatus.RESOLVED])
def test_nobody_is_reminded_of_what_somebody_took(status: GroupStatus) -> None:
    ops = RecordingReceiver()
    running = notifier(ops, routes=[Route(name="all", to=("ops",), remind_after=timedelta(hours=1))])
    record(alert())
    running.run_until_idle()
    update(1, status)
    remind(running)
    assert "reminder" not in [reason for reason, _ in ops.told]


def test_more_than_per_hour_are_one_digest() -> None:
    ops = RecordingReceiver()
    ops.per_hour = 3
    running = notifier(ops, storm=0)
    record(*(alert(issue=str(number)) for number in range(3)))
    running.run_until_idle()
    assert [reason for reason, _ in ops.told] == ["opened"] * 3
    record(*(alert(issue=str(number)) for number in range(3, 9)))
    running.run_until_idle()
    assert [reason for reason, _ in ops.told] == ["opened"] * 3 + ["digest"]


def test_the_end_is_told_to_whom_the_beginning_was_told_and_to_nobody_else() -> None:
    ops, pay, other = RecordingReceiver(), RecordingReceiver("pay"), RecordingReceiver("other")
    first = frozenset({"opened"})
    routes = [
        Route(name="ops", to=("ops",), on=first, go_on=True),
        Route(name="other", to=("other",), on=frozenset({"resolved"}), go_on=True),
    ]
    running = notifier(ops, pay, other, routes=routes)
    record(alert())
    running.run_until_idle()
    resolve()
    running.run_until_idle()
    assert (ops.told, pay.told, other.told) == ([("opened", 1), ("resolved", 1)], [], [])


def test_a_lease_that_ended_comes_back_with_the_same_id() -> None:
    class Killed(BaseException):
        pass

    ops = RecordingReceiver(outcomes=[Killed()])
    running = notifier(ops)
    record(alert())
    with pytest.raises(Killed):
        running.run_until_idle()
    assert states() == ["sending"]
    notifier(ops).run_until_idle()
    assert (len(ops.attempts), len({message.notification_id for message in ops.attempts})) == (2, 1)
    assert (ops.told, states()) == ([("opened", 1)], ["sent"])


class HangingReceiver(RecordingReceiver):
    """Takes a message and hangs until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.took, self.may_go_on = threading.Event(), threading.Event()

    def send(self, message: Message) -> Outcome:
        self.attempts.append(message)
        self.took.set()
        assert self.may_go_on.wait(10)
        self.messages.append(message)
        return Outcome(kind=OutcomeKind.SENT)


def test_two_processes_have_one_message_in_flight() -> None:
    ops = HangingReceiver()
    first, second = (Notifier(notifier(ops)._config, []) for _ in range(2))  # with a lease of half a minute
    record(alert(), alert(issue="2"))
    notifier(ops)._route()
    thread = threading.Thread(target=first.run_until_idle)
    thread.start()
    assert ops.took.wait(10)
    second.run_until_idle()
    assert len(ops.attempts) == 1
    ops.may_go_on.set()
    thread.join()
    assert sorted(group_id or 0 for _, group_id in ops.told) == [1, 2]
