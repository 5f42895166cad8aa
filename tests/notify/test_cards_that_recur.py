"""A problem that comes and goes keeps its card, also if all of it is routed in one batch."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from signalcraft.domain.alerts import GroupStatus, Severity
from signalcraft.notify.notifier import Notifier
from signalcraft.notify.routes import Route
from signalcraft.storage.database import database, session
from tests.notify.test_notifier import alert, notifier, resolve, update
from tests.support.builders import groups, record
from tests.support.receivers import RecordingCardReceiver, RecordingReceiver

pytestmark = pytest.mark.usefixtures("redis")

AT_ONCE = Route(name="all", to=("ops",), update_every=timedelta(), recurrence=timedelta(hours=24))


@pytest.fixture
def ops() -> RecordingCardReceiver:
    return RecordingCardReceiver()


@pytest.fixture
def running(ops: RecordingCardReceiver) -> Notifier:
    return notifier(ops, routes=[AT_ONCE])


def cards() -> list[int]:
    """The group of each card."""
    with session():
        rows = database.execute_sql("SELECT alert_group_id FROM notification ORDER BY id").fetchall()
    return [group_id for (group_id,) in rows]


def recur(*minutes_ago: float) -> None:
    """Each opens a group: the window is an hour."""
    for minutes in minutes_ago:
        record(alert(minutes_ago=minutes))


def ack_the_first() -> None:
    update(groups()[0].id, GroupStatus.ACK)


def escalate_the_last() -> None:
    record(alert(minutes_ago=0.5, severity=Severity.CRITICAL))


@pytest.mark.parametrize(
    "happen",
    [
        [lambda: recur(240, 120)],
        [lambda: recur(240), ack_the_first, lambda: recur(1)],
        [lambda: recur(240, 1), ack_the_first],
        [lambda: recur(240), escalate_the_last],
        [lambda: recur(240, 120, 1), ack_the_first, escalate_the_last],
    ],
    ids=["twice", "acked before", "acked after", "escalated", "all"],
)
def test_a_card_that_was_sent_is_handed_on_to_the_last_of_the_groups(
    ops: RecordingCardReceiver, running: Notifier, happen: list[Callable[[], None]]
) -> None:
    recur(360)
    running.run_until_idle()
    for each in happen:
        each()
    running.run_until_idle()

    assert cards() == [groups()[-1].id]
    assert set(ops.cards) == {"card-1"}


def test_a_card_that_was_not_sent_yet_is_that_of_the_last_group_and_says_new(
    ops: RecordingCardReceiver, running: Notifier
) -> None:
    recur(360, 240, 120)
    running.run_until_idle()

    assert ops.told == [("opened", groups()[-1].id)]


def test_a_receiver_that_had_cards_before_takes_none_over(running: Notifier) -> None:
    recur(30)
    running.run_until_idle()
    resolve()
    running.run_until_idle()
    events = RecordingReceiver()
    record(alert())
    notifier(events, routes=[AT_ONCE]).run_until_idle()

    first, second = (group.id for group in groups())
    assert events.told == [("regressed", second)]
    assert cards() == [first, second]


def test_after_the_recurrence_hours_a_group_gets_a_card_of_its_own_as_new(
    ops: RecordingCardReceiver, running: Notifier
) -> None:
    recur(120)
    running.run_until_idle()
    with session():
        database.execute_sql("UPDATE notification SET sent_at = now() - interval '25 hours'")
    recur(1)
    running.run_until_idle()

    first, second = (group.id for group in groups())
    assert ops.told == [("opened", first), ("opened", second)]
    assert [message.external_id for message in ops.messages] == [None, None]
    assert cards() == [first, second]
