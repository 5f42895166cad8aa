"""The law of channels: when all is quiet, a channel shows each group once, as it is.

First posts beyond one for each card are as many as there were unknown outcomes that the look-up could not settle: none
while the app may read the channel. The histories are those of ``test_law``, with the fake Slack behind the receiver.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from signalcraft.dev import fake_slack
from signalcraft.dev.fake_slack import FakeSlack, Fault, FaultKind
from signalcraft.domain.alerts import Change, GroupStatus, Severity
from signalcraft.notify import slack_buttons
from signalcraft.notify.contract import Message, Outcome
from signalcraft.notify.receivers.slack import SlackReceiver
from signalcraft.notify.receivers.slack.card import EVENT_TYPE
from signalcraft.storage.database import database, session
from tests.notify import test_law as law
from tests.notify.test_law import Crash, World
from tests.support.slack import buttons, config_of

EXAMPLES = int(os.environ.get("LAW_EXAMPLES", "25"))
#: Faults of one request. The second of a pair is carried out.
FAULTS: Mapping[str, Mapping[str, Any]] = {
    "503": {"kind": FaultKind.STATUS},
    "503, accepted": {"kind": FaultKind.STATUS, "is_accepted": True},
    "reset": {"kind": FaultKind.RESET},
    "reset, accepted": {"kind": FaultKind.RESET, "is_accepted": True},
    "internal error": {"kind": FaultKind.ERROR, "error": "internal_error"},
    "internal error, accepted": {"kind": FaultKind.ERROR, "error": "internal_error", "is_accepted": True},
    "429": {"kind": FaultKind.RATE_LIMITED, "retry_after": 30},
    "channel gone": {"kind": FaultKind.ERROR, "error": "channel_not_found"},
    "form refused": {"kind": FaultKind.ERROR, "error": "invalid_blocks"},
}
CRASHES = ("crash", "crash, arrived")


class CrashingReceiver(SlackReceiver):
    """The process ends before or after a message is sent, and things happen meanwhile."""

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 - of the receiver
        super().__init__(*arguments)
        self.faults: list[str] = []
        self.meanwhile: list[Callable[[], None]] = []

    def send(self, message: Message) -> Outcome:
        crash = self.faults.pop(0) if self.faults else ""
        if crash == "crash":
            raise Crash
        outcome = super().send(message)
        happening, self.meanwhile = self.meanwhile, []
        for happen in happening:
            happen()
        if crash:
            raise Crash
        return outcome


class Channel(World):
    """The world of ``test_law`` with one receiver, whose channel people can see."""

    def __init__(self, slack: FakeSlack, *, storm: int) -> None:
        self.slack = slack
        super().__init__(storm=storm, on=law.EVERYTHING, wait=timedelta())

    def restart(self) -> None:
        if not hasattr(self, "made"):
            self.made = True
            self.config = config_of(self.slack, storm=self.config.storm)
            receiver = self.config.receivers["ops"]
            receiver.__class__ = CrashingReceiver
            receiver.faults, receiver.meanwhile = [], []  # type: ignore[attr-defined] # of that class
            self.receivers = dict(self.config.receivers)  # type: ignore[arg-type] # likewise
            self.fan_out = law.FanOut(law.Router(self.config, [law.default_rule]))
            self.deliveries = {"ops": law.ReceiverDelivery(receiver, self.config, timing=law.TIMING)}
        super().restart()

    def deliver(self, name: str) -> None:  # noqa: ARG002 - of the other world
        super().deliver("ops")

    def meanwhile(self, name: str, *steps: tuple[Any, ...]) -> None:  # noqa: ARG002 - likewise
        super().meanwhile("ops", *steps)

    def fault(self, name: str, fault: str) -> None:  # noqa: ARG002 - likewise
        if fault in CRASHES:
            super().fault("ops", fault)
        else:
            self.slack.faults.add(Fault(times=1, **FAULTS[fault]))

    def may_read(self, *, is_allowed: bool) -> None:
        self.slack.scopes = {"chat:write", *(["channels:history"] if is_allowed else [])}

    def delete(self) -> None:
        """Somebody deletes the newest card."""
        channel = self.slack.channel("alerts")
        shown = [message for message in channel.messages if message.thread_ts is None]
        for message in shown[-1:]:
            channel.by_ts.pop(message.ts)

    def become_quiet(self) -> None:
        self.slack.faults.clear()
        super().become_quiet()


def keys(slack: FakeSlack) -> Counter[str]:
    """How often each message was posted, by our key."""
    found = [message.metadata for message in slack.messages() if message.metadata]
    assert all(each["event_type"] == EVENT_TYPE for each in found)
    return Counter(each["event_payload"]["id"] for each in found)


def replaced() -> set[int]:
    """The groups whose problem opened another one, which may have taken over the card."""
    with session():
        rows = database.execute_sql("SELECT previous_group_id FROM alert_group WHERE previous_group_id IS NOT NULL")
        return {group_id for (group_id,) in rows.fetchall()}


def check(world: Channel, *, has_look_up: bool, has_deletions: bool) -> None:
    now = law.states()
    assert law.waiting() == 0
    posted = keys(world.slack)
    if has_look_up:
        assert {key: count for key, count in posted.items() if count > 1} == {}
    with session():
        rows = database.execute_sql("""
            SELECT n.external_id, n.alert_group_id, d.sent_at IS NOT NULL FROM notification n
            LEFT JOIN notification d ON d.id = n.covered_by WHERE n.mode = 'card'""").fetchall()
    by_ts = world.slack.channel("alerts").by_ts
    shown = {group: by_ts.get(ts) for ts, group, _ in rows if ts}
    for group, message in shown.items():
        if message is None:
            assert has_deletions
            continue
        actions = [action.value for action in slack_buttons._SHOWN[GroupStatus(now[group])]]
        if message.all_blocks:  # else it is plain text, which has no buttons
            assert buttons(message) == actions
            assert next(element["value"] for _, element in message.actions if "value" in element) == str(group)
    told = set(shown) | {group for _, group, by_digest in rows if by_digest}
    assert law.must_be_known() - replaced() <= told


faults = st.tuples(st.just("fault"), st.just("ops"), st.sampled_from([*FAULTS, *CRASHES]))
steps = st.lists(st.one_of(law.stored, law.stored, law.run, law.run, faults, faults, law.during), max_size=15)
histories = st.tuples(law.alerts, steps).map(lambda drawn: [drawn[0], *drawn[1]])
ALERT = ("alerts", ("1", Severity.HIGH))


@pytest.fixture
def serving() -> Iterator[FakeSlack]:
    with fake_slack.serving() as slack:
        yield slack


def begin(slack: FakeSlack) -> None:
    law.begin()
    slack.faults.clear()
    slack.channel("alerts").by_ts.clear()
    slack.scopes = set(fake_slack.workspace.SCOPES)


def follow(world: Channel, history: Sequence[tuple[Any, ...]], *, has_look_up: bool, has_deletions: bool) -> None:
    world.may_read(is_allowed=has_look_up)
    for step in history:
        with suppress(Crash):
            world.run(step)
        if has_deletions:
            world.delete()
    world.become_quiet()
    check(world, has_look_up=has_look_up, has_deletions=has_deletions)


@pytest.mark.usefixtures("clean_database")
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    history=histories,
    storm=st.sampled_from((0, 2)),
    has_look_up=st.sampled_from((True, True, False)),
    has_deletions=st.sampled_from((False, False, True)),
)
def test_a_channel_shows_each_group_once_as_it_is(
    serving: FakeSlack, history: list[tuple[Any, ...]], storm: int, *, has_look_up: bool, has_deletions: bool
) -> None:
    note(f"{history} storm={storm} look_up={has_look_up} deletions={has_deletions}")
    begin(serving)
    follow(Channel(serving, storm=storm), history, has_look_up=has_look_up, has_deletions=has_deletions)


@pytest.mark.usefixtures("clean_database")
@pytest.mark.parametrize(("has_look_up", "posts"), [(True, 1), (False, 2)])
@pytest.mark.parametrize("fault", ["reset, accepted", "internal error, accepted", "503, accepted", "crash, arrived"])
def test_what_the_look_up_settles_is_not_posted_twice(
    serving: FakeSlack, fault: str, posts: int, *, has_look_up: bool
) -> None:
    begin(serving)
    world = Channel(serving, storm=0)
    history = [ALERT, ("fault", "ops", fault), ("route",), ("deliver", "ops")]
    follow(world, history, has_look_up=has_look_up, has_deletions=False)
    assert list(keys(serving).values()) == [posts]


@pytest.mark.usefixtures("clean_database")
def test_a_card_that_was_snoozed_while_it_was_posted_is_found_and_not_posted_again(serving: FakeSlack) -> None:
    begin(serving)
    archived = ("source", "1", Change.ARCHIVED)
    history = [ALERT, ("meanwhile", "ops", archived, ("deliver", "ops"), ALERT), ("restart",)]
    follow(Channel(serving, storm=0), history, has_look_up=True, has_deletions=False)
    assert list(keys(serving).values()) == [1]
