"""The law of notifications: when all is quiet, every receiver knows the present state of every group it was told of.

Whatever the order of alerts, changes, faults of receivers, crashes and restarts. A step of a history is a tuple: what
happens, and its values. Whatever is drawn is possible, or does nothing.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from signalcraft.domain.alerts import Change, GroupStatus, Severity, StatusChange
from signalcraft.domain.errors import Conflict
from signalcraft.domain.notifications import default_rule
from signalcraft.groups import source_updates, user_updates
from signalcraft.notify import config, queries
from signalcraft.notify.contract import Message, Mode, Outcome, OutcomeKind
from signalcraft.notify.delivery import ReceiverDelivery, Timing
from signalcraft.notify.fan_out import FanOut
from signalcraft.notify.notifier import Notifier
from signalcraft.notify.routes import Route
from signalcraft.notify.routing import Router
from signalcraft.storage import retention, tables
from signalcraft.storage.database import database, session
from signalcraft.storage.models import AlertGroup, Workspace
from tests.support.builders import pending_event, record
from tests.support.receivers import SENT, RecordingReceiver

EXAMPLES = int(os.environ.get("LAW_EXAMPLES", "60"))
TIMING = Timing(
    lease=timedelta(), backoff=(0.0,), failed=0.0, jitter=0.0, rate_limited=0.0, broken_retry=timedelta(hours=1)
)
EVERYTHING = frozenset(config.HAPPENINGS)


class Crash(BaseException):
    """The process ends while a message is being sent."""


#: What comes of an attempt, and whether the message arrived nevertheless.
FAULTS = {
    "retry": (Outcome(kind=OutcomeKind.RETRY, code="http_503"), False),
    "unknown": (Outcome(kind=OutcomeKind.UNKNOWN, code="timeout"), False),
    "unknown, arrived": (Outcome(kind=OutcomeKind.UNKNOWN, code="timeout"), True),
    "rate limited": (Outcome(kind=OutcomeKind.RATE_LIMITED, code="http_429", retry_after=60), False),
    "broken": (Outcome(kind=OutcomeKind.BROKEN, code="http_404"), False),
    "refused": (Outcome(kind=OutcomeKind.REFUSED, code="http_400"), False),
    "bug": (RuntimeError("a bug of the kind"), False),
    "crash": (Crash(), False),
    "crash, arrived": (Crash(), True),
}


class EventReceiver(RecordingReceiver):
    """Fails as its ``faults`` say; ``meanwhile`` happens after a message arrived, and before that is recorded."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.faults: list[str] = []
        self.meanwhile: list[Callable[[], None]] = []
        self.ambiguous: Counter[str] = Counter()

    def send(self, message: Message) -> Outcome:
        outcome, arrived = FAULTS[self.faults.pop(0)] if self.faults else (self._sent(message), True)
        if arrived:
            self.messages.append(message)
        happening, self.meanwhile = self.meanwhile, []
        self.ambiguous[message.notification_id] += arrived and (bool(happening) or outcome != self._sent(message))
        for happen in happening:
            happen()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _sent(self, message: Message) -> Outcome:  # noqa: ARG002 - of a card
        return SENT


class CardReceiver(EventReceiver):
    mode = Mode.CARD

    def _sent(self, message: Message) -> Outcome:
        return Outcome(kind=OutcomeKind.SENT, external_id=message.notification_id)


class World:
    """Two notifiers on one database, and the two receivers of both."""

    def __init__(self, *, storm: int, on: frozenset[str], wait: timedelta) -> None:
        self.receivers = {"ops": EventReceiver("ops"), "board": CardReceiver("board")}
        route = Route(name="all", to=tuple(self.receivers), on=on, wait=wait, update_every=timedelta())
        self.config = config.NotifyConfig(receivers=self.receivers, routes=(route,), storm=storm)
        self.now = datetime.now(UTC) - timedelta(hours=20)
        self.fan_out = FanOut(Router(self.config, [default_rule]))
        self.deliveries = {name: self._delivery(name) for name in self.receivers}
        self.restart()

    def _delivery(self, name: str) -> ReceiverDelivery:
        return ReceiverDelivery(self.receivers[name], self.config, timing=TIMING)

    def restart(self) -> None:
        """Start a notifier: it registers the receivers, and reminds of what the clock brought about."""
        self.notifier = Notifier(self.config, [default_rule], timing=TIMING)
        with suppress(Crash):
            self.notifier.run_until_idle()

    def run(self, step: tuple[Any, ...]) -> None:
        getattr(self, step[0])(*step[1:])

    def pass_time(self, minutes: int) -> None:
        self.now = min(self.now + timedelta(minutes=minutes), datetime.now(UTC))

    def alerts(self, *alerts: tuple[str, Severity]) -> None:
        """Store alerts, a moment after all before: at the very moment of a resolution each opens a group of its own."""
        self.now += timedelta(microseconds=1)
        events = [pending_event(issue=issue, severity=severity) for issue, severity in alerts]
        record(*(replace(event, alert=replace(event.alert, received_at=self.now)) for event in events))

    def source(self, issue: str, change: Change) -> None:
        until = datetime.now(UTC) + timedelta(hours=1) if change is Change.ARCHIVED else None
        update = StatusChange(
            source="sentry", change=change, fingerprint=f"issue:{issue}", received_at=self.now, snoozed_until=until
        )
        with session():
            source_updates.apply_status_changes([(1, update)])

    def user(self, position: int, status: GroupStatus) -> None:
        until = datetime.now(UTC) + timedelta(hours=1) if status is GroupStatus.SNOOZED else None
        fields: user_updates.UpdateFields = {"status": status, "snoozed_until": until}
        if status is not GroupStatus.SNOOZED:
            del fields["snoozed_until"]
        with session():
            ids = [group.id for group in AlertGroup.select(AlertGroup.id).order_by(AlertGroup.id.desc())]
            if ids:
                change = user_updates.GroupUpdate(fields=fields, by="ann", at=self.now)
                with suppress(Conflict):
                    user_updates.update_group(1, ids[position % len(ids)], change)

    def resolve_inactive(self) -> None:
        with session():
            retention.resolve_inactive(self.now - timedelta(minutes=30), self.now)

    def end_snoozes(self) -> None:
        with session():
            database.execute_sql("UPDATE alert_group SET snoozed_until = now() WHERE snoozed_until IS NOT NULL")
            database.execute_sql("UPDATE notification SET remind_at = now() WHERE remind_at IS NOT NULL")

    def route(self) -> None:
        with session():
            self.fan_out.run_once()

    def deliver(self, name: str) -> None:
        with suppress(Crash):
            self.deliveries[name].run_once()

    def fault(self, name: str, fault: str) -> None:
        self.receivers[name].faults.append(fault)

    def meanwhile(self, name: str, *steps: tuple[Any, ...]) -> None:
        """Let steps happen while a message to ``name`` is sent; with ``deliver``, its lease has ended by then."""
        self.receivers[name].meanwhile.extend(lambda step=step: self.run(step) for step in steps)  # type: ignore[misc]

    def end_pauses(self) -> None:
        """Let what waits for a time be due, and what was sent be long ago."""
        with session():
            database.execute_sql("UPDATE receiver_state SET not_before = '-infinity', busy_until = '-infinity'")
            database.execute_sql("UPDATE notification SET due_at = now() WHERE state = 'pending' AND due_at > now()")
            database.execute_sql(
                "UPDATE notification SET sent_at = sent_at - interval '2 hours' WHERE sent_at IS NOT NULL"
            )

    def become_quiet(self) -> None:
        """Mend the receivers, retry the dead letters, and run until nothing waits."""
        for receiver in self.receivers.values():
            receiver.faults.clear()
            receiver.meanwhile.clear()
        for _ in range(4):
            self.end_pauses()
            with session():
                queries.retry(None)
            self.restart()


def waiting() -> int:
    with session():
        (count,) = database.execute_sql("""
            SELECT (SELECT count(*) FROM notification WHERE state IN ('pending', 'sending', 'given_up'))
                 + (SELECT count(*) FROM happening WHERE routed_at IS NULL)""").fetchone()
        return int(count)


def states() -> dict[int, str]:
    """The status of each group, a snooze that ended as open."""
    with session():
        rows = database.execute_sql("""
            SELECT id, CASE WHEN status = 'snoozed' AND snoozed_until <= now() THEN 'open' ELSE status END
            FROM alert_group""")
        return dict(rows.fetchall())


def resolved_by_the_clock() -> set[int]:
    """The groups whose last word was the clock's: the end of these is silent."""
    with session():
        rows = database.execute_sql("""
            SELECT alert_group_id FROM (
                SELECT DISTINCT ON (alert_group_id) alert_group_id, actor FROM happening WHERE kind <> 'assigned'
                ORDER BY alert_group_id, id DESC) AS last
            WHERE actor = 'clock'""")
        return {group_id for (group_id,) in rows.fetchall()}


def must_be_known() -> set[int]:
    """The groups that were opened, or were a regression, and have been open or acknowledged ever since."""
    with session():
        rows = database.execute_sql("""
            SELECT g.id FROM alert_group g WHERE g.status IN ('open', 'ack')
              AND EXISTS (SELECT FROM happening h WHERE h.alert_group_id = g.id AND h.kind IN ('opened', 'regressed'))
              AND NOT EXISTS (
                SELECT FROM happening h WHERE h.alert_group_id = g.id
                  AND h.kind IN ('snoozed', 'snooze_ended', 'resolved', 'reopened'))""")
        return {group_id for (group_id,) in rows.fetchall()}


def told(message: Message) -> Iterator[tuple[int, bool]]:
    """Yield the groups that a message is about, and whether each is over."""
    if message.group is not None:
        yield message.group["id"], message.is_over
    elif message.digest is not None:
        yield from ((group_id, place >= message.digest.opened) for place, group_id in enumerate(message.digest.ids))


def believes(receiver: EventReceiver) -> dict[int, bool]:
    """Return whether the receiver thinks that a group is over, for each that it was told of."""
    return dict(pair for message in receiver.messages for pair in told(message))


def check(world: World) -> None:
    now, silent = states(), resolved_by_the_clock()
    ops, board = world.receivers["ops"], world.receivers["board"]
    assert waiting() == 0
    known = believes(ops)
    assert {group: over for group, over in known.items() if group not in silent} == {
        group: now[group] == "resolved" for group in known if group not in silent
    }
    assert must_be_known() <= set(known)
    cards = {message.notification_id: message.group for message in board.messages if message.group is not None}
    with session():
        rows = database.execute_sql("SELECT 'ntf_' || id, alert_group_id FROM notification WHERE mode = 'card'")
        shown_now = {card: (group, now[group]) for card, group in rows.fetchall()}
    assert {card: (group["id"], group["status"]) for card, group in cards.items()} == {
        card: shown_now[card] for card in cards
    }
    digests = {message.notification_id: message.is_over for message in board.messages if message.digest is not None}
    assert digests == {digest: open_groups == 0 for digest, open_groups in open_groups_of(digests).items()}
    for receiver in world.receivers.values():
        times = Counter(message.notification_id for message in receiver.messages if not message.external_id)
        doubles = {each: number for each, number in times.items() if number > 1 + receiver.ambiguous[each]}
        assert not doubles


def open_groups_of(digests: Collection[str]) -> dict[str, int]:
    """Return how many groups that each digest stands for are not over; one that got a card of its own is not its."""
    with session():
        rows = database.execute_sql("""
            SELECT d.id, count(g.id) FROM notification d LEFT JOIN notification n ON n.covered_by = d.id
            LEFT JOIN alert_group g ON g.id = n.alert_group_id AND g.status <> 'resolved'
            WHERE d.mode = 'digest' GROUP BY d.id""")
        counts = dict(rows.fetchall())
    return {digest: counts[int(digest.split("_")[1])] for digest in digests}


issues = st.sampled_from("12")
names = st.sampled_from(("ops", "board"))
alerts = st.lists(st.tuples(issues, st.sampled_from(Severity)), min_size=1, max_size=3).map(
    lambda drawn: ("alerts", *drawn)
)
stored = st.one_of(
    alerts,
    st.tuples(st.just("source"), issues, st.sampled_from(Change)),
    st.tuples(st.just("user"), st.integers(0, 1), st.sampled_from(GroupStatus)),
    st.sampled_from((("pass_time", 1), ("pass_time", 61), ("resolve_inactive",), ("end_snoozes",))),
)
run = st.one_of(st.sampled_from((("restart",), ("route",), ("end_pauses",))), st.tuples(st.just("deliver"), names))
faults = st.tuples(st.just("fault"), names, st.sampled_from(sorted(FAULTS)))
during = st.tuples(names, st.lists(st.one_of(stored, run), min_size=1, max_size=3)).map(
    lambda drawn: ("meanwhile", drawn[0], *drawn[1])
)
steps = st.lists(st.one_of(stored, stored, run, run, faults, during), max_size=20)
histories = st.tuples(alerts, steps).map(lambda drawn: [drawn[0], *drawn[1]])


ALERT = ("alerts", ("1", Severity.HIGH))
#: Found once, and more seldom than in every run.
KNOWN: Mapping[str, Sequence[tuple[Any, ...]]] = {
    "a snooze ends": [ALERT, ("restart",), ("user", 0, GroupStatus.SNOOZED), ("restart",), ("end_snoozes",)],
    "may have arrived, then refused, then over": [
        ALERT,
        ("fault", "ops", "unknown, arrived"),
        ("fault", "ops", "refused"),
        ("restart",),
        ("source", "1", Change.RESOLVED),
        ("restart",),
    ],
    "a card may have arrived, then it is over": [
        ALERT,
        ("route",),
        ("fault", "board", "unknown, arrived"),
        ("deliver", "board"),
        ("source", "1", Change.RESOLVED),
        ("restart",),
    ],
    "a card arrived before a crash, then it is over": [
        ALERT,
        ("route",),
        ("fault", "board", "crash, arrived"),
        ("deliver", "board"),
        ("source", "1", Change.RESOLVED),
        ("restart",),
    ],
}


@pytest.mark.usefixtures("clean_database")
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    history=histories,
    storm=st.sampled_from((0, 1, 2)),
    on=st.sampled_from((Route(name="", to=()).on, EVERYTHING)),
    wait=st.sampled_from((timedelta(), timedelta(minutes=1))),
)
def test_when_all_is_quiet_every_receiver_knows_what_is_so(
    history: list[tuple[Any, ...]], storm: int, on: frozenset[str], wait: timedelta
) -> None:
    note(f"{history} storm={storm} on={sorted(on)} wait={wait}")
    begin()
    follow(history, World(storm=storm, on=on, wait=wait))


@pytest.mark.usefixtures("clean_database")
@pytest.mark.parametrize("name", KNOWN)
def test_histories_that_broke_the_law_once_keep_it(name: str) -> None:
    begin()
    follow(KNOWN[name], World(storm=0, on=EVERYTHING, wait=timedelta()))


def follow(history: Sequence[tuple[Any, ...]], world: World) -> None:
    for step in history:
        world.run(step)
    world.become_quiet()
    check(world)


def begin() -> None:
    """Start without rows."""
    names = ", ".join(f'"{table._meta.table_name}"' for table in tables.TABLES)
    with session():
        database.execute_sql(f"TRUNCATE {names} RESTART IDENTITY CASCADE")
        Workspace.create(slug="default")
