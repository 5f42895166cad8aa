"""Cards in a channel of the fake Slack: one for each group, always true, in peace, storms and rate limits."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from signalcraft.dev import fake_slack
from signalcraft.dev.fake_slack import FakeSlack, Fault, FaultKind, RateLimit
from signalcraft.domain.alerts import GroupStatus, Severity
from signalcraft.domain.notifications import default_rule
from signalcraft.groups import user_updates
from signalcraft.notify import queries
from signalcraft.notify.delivery import Timing
from signalcraft.notify.notifier import Notifier
from signalcraft.storage.audit_log import Actor
from signalcraft.storage.database import database, session
from tests.notify.test_notifier import SHORT, alert, resolve, update
from tests.support.builders import groups, record
from tests.support.slack import cards, notifier_of, read

pytestmark = pytest.mark.usefixtures("redis")

OPEN, ACK, RESOLVED = "ack,snooze,resolve", "resolve,snooze", "reopen"


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    with fake_slack.serving() as serving:
        yield serving


def pass_time(minutes: float) -> None:
    """Let what happened and was sent be so long ago."""
    with session():
        length = timedelta(minutes=minutes)
        for table, columns in {
            "notification": ("sent_at", "created_at", "due_at", "happened_at"),
            "happening": ("at",),
            "alert_group": ("first_seen_at", "last_seen_at", "resolved_at"),
            "receiver_state": ("not_before",),
        }.items():
            changes = ", ".join(f"{column} = {column} - %(length)s" for column in columns)
            database.execute_sql(f"UPDATE {table} SET {changes}", {"length": length})  # noqa: S608 - names of ours


def act(group_id: int, status: GroupStatus, actor: Actor = Actor.SLACK) -> None:
    change = user_updates.GroupUpdate(fields={"status": status}, by="ann (U1)", at=datetime.now(UTC), actor=actor)
    with session():
        user_updates.update_group(1, group_id, change)


def channel(slack: FakeSlack) -> list[str]:
    """The first line of what the channel shows, replies with a mark."""
    marks = {True: "broadcast ", False: "reply "}
    return [
        f"{marks[message.is_broadcast] if message.thread_ts else ''}{message.text.partition(':')[0]}"
        for message in slack.messages()
    ]


def flap(running: Notifier, times: int, minutes: float) -> None:
    for _ in range(times):
        resolve()
        running.run_until_idle()
        pass_time(minutes)
        record(alert())
        running.run_until_idle()


def test_a_regression_stays_in_its_card_and_the_third_one_is_told_in_the_thread_alone(slack: FakeSlack) -> None:
    running = notifier_of(slack, SHORT)
    record(alert())
    running.run_until_idle()
    flap(running, 4, minutes=10)

    assert channel(slack) == ["Regression", "broadcast Regression", "broadcast Regression", *["reply Regression"] * 2]
    assert cards(slack) == {5: [OPEN]}
    assert "regression of #4, resolved" in read(slack.messages()[0])
    assert "4 times within an hour." in read(slack.messages()[-1])


def test_a_regression_after_a_quiet_hour_is_a_card_of_its_own(slack: FakeSlack) -> None:
    running = notifier_of(slack, SHORT)
    record(alert())
    running.run_until_idle()
    flap(running, 1, minutes=61)

    assert channel(slack) == ["Resolved", "Regression"]
    assert cards(slack) == {1: [RESOLVED], 2: [OPEN]}


def test_a_group_that_escalates_is_told_in_the_channel(slack: FakeSlack) -> None:
    running = notifier_of(slack, SHORT)
    record(alert(severity=Severity.LOW))
    running.run_until_idle()
    record(alert(severity=Severity.CRITICAL))
    running.run_until_idle()

    assert channel(slack) == ["More severe", "broadcast More severe"]
    assert "Its severity is critical now." in read(slack.messages()[1])
    assert cards(slack) == {1: [OPEN]}


def test_a_reply_about_what_somebody_has_taken_is_not_sent(slack: FakeSlack) -> None:
    running = notifier_of(slack, SHORT)
    record(alert(severity=Severity.LOW))
    running.run_until_idle()
    record(alert(severity=Severity.CRITICAL))
    act(1, GroupStatus.ACK)
    running.run_until_idle()

    assert channel(slack) == ["Acknowledged"]


def test_who_leaves_a_group_open_is_reminded_three_times_in_the_channel(slack: FakeSlack) -> None:
    running = notifier_of(slack, SHORT)
    route = replace(running._config.routes[0], remind_after=timedelta(hours=4))
    config = replace(running._config, routes=[route])
    running = Notifier(config, [default_rule], timing=SHORT)
    record(alert())
    for _ in range(6):
        running._upkeep_at = 0
        running.run_until_idle()
        with session():
            database.execute_sql("UPDATE notification SET remind_at = now() WHERE remind_at IS NOT NULL")
    assert channel(slack) == ["New", *["broadcast Still open"] * 3]
    assert "Nobody has acknowledged the problem." in read(slack.messages()[-1])

    act(1, GroupStatus.ACK)
    running._upkeep_at = 0
    running.run_until_idle()
    assert len(slack.messages()) == 4


def test_a_problem_that_recurs_is_quietly_the_same_card(slack: FakeSlack) -> None:
    running = notifier_of(slack, SHORT)
    for _ in range(3):
        record(alert())
        running.run_until_idle()
        pass_time(120)

    assert channel(slack) == ["Back again", "reply Back again", "reply Back again"]
    assert "2 times within a day." in read(slack.messages()[-1])
    assert list(cards(slack).values()) == [[OPEN]]


def test_automatic_edits_wait_for_each_other_and_what_a_person_does_is_shown_at_once(slack: FakeSlack) -> None:
    running = notifier_of(slack, SHORT, update_every="30s")
    record(alert())
    running.run_until_idle()
    resolve()
    running.run_until_idle()
    assert cards(slack) == {1: [OPEN]}
    act(1, GroupStatus.OPEN)
    running.run_until_idle()

    assert (cards(slack), slack.messages()[0].edits) == ({1: [OPEN]}, 1)
    assert "Reopened by ann" in read(slack.messages()[0])


def test_a_card_shows_when_its_alerts_came(slack: FakeSlack) -> None:
    running = notifier_of(slack, SHORT)
    record(alert(), alert(), alert())
    running.run_until_idle()
    assert "3 alerts since" in read(slack.messages()[0])
    assert "▁▁▁▁▁▁▁█ in 24 hours" in read(slack.messages()[0])


def test_who_took_it_over_from_whom_is_shown(slack: FakeSlack) -> None:
    running = notifier_of(slack, SHORT)
    record(alert())
    running.run_until_idle()
    for name in ("ann", "ben"):
        for status in (GroupStatus.ACK, GroupStatus.OPEN, GroupStatus.ACK):
            change = user_updates.GroupUpdate(fields={"status": status}, by=name, at=datetime.now(UTC))
            with session():
                user_updates.update_group(1, 1, change)
        running.run_until_idle()
        assert f"Acknowledged by {name}" in read(slack.messages()[0])


def test_a_card_has_the_note_of_who_gave_the_group_its_status_until_the_next_one(slack: FakeSlack) -> None:
    running = notifier_of(slack, SHORT)
    record(alert())
    for status, note in ((GroupStatus.ACK, "ask <!channel> *later*"), (GroupStatus.RESOLVED, None)):
        change = user_updates.GroupUpdate(fields={"status": status, "note": note}, by="ann", at=datetime.now(UTC))
        with session():
            user_updates.update_group(1, 1, change)
        running.run_until_idle()
        (message,) = slack.messages()
        assert ("Note: “ask <!channel> *later*”." in read(message)) is (note is not None)
        assert message.pings == []


def test_eighty_groups_at_once_are_a_digest_and_each_gets_a_card_when_it_matters(slack: FakeSlack) -> None:
    running = notifier_of(slack, SHORT, storm=10)
    for start in range(0, 80, 8):
        record(*(alert(issue=str(number), severity=Severity.HIGH) for number in range(start, start + 8)))
        running.run_until_idle()
    for _ in range(3):
        pass_time(1.1)
        running.run_until_idle()

    posts = slack.messages()
    digests = [message for message in posts if "groups open" in read(message)]
    assert len(posts) <= 30
    assert len(cards(slack)) + sum(int(read(each).split(" groups")[0].split()[-1]) for each in digests) == 80
    assert all(any(link.target.endswith("/alerts?status=open") for link in message.links) for message in digests)

    without = sorted({*range(1, 81)} - set(cards(slack)))
    before = len(posts)
    issues = {group.id: group.issue_id for group in groups()}
    record(alert(issue=issues[without[0]], severity=Severity.CRITICAL))
    act(without[1], GroupStatus.ACK)
    act(without[2], GroupStatus.ACK, Actor.TOKEN)
    act(without[3], GroupStatus.RESOLVED)
    running.run_until_idle()
    expected = {without[0]: [OPEN], without[1]: [ACK], without[2]: [ACK], without[3]: [RESOLVED]}
    assert {group: shown for group, shown in cards(slack).items() if group in without} == expected
    print(f"80 groups: {before} messages, {len(digests)} digests")  # noqa: T201 - the figure


def test_what_many_do_at_once_in_a_storm_is_no_storm_of_cards(slack: FakeSlack) -> None:
    running = notifier_of(slack, SHORT, storm=10)
    record(*(alert(issue=str(number)) for number in range(40)))
    running.run_until_idle()
    before = len(slack.messages())
    ids = sorted({*range(1, 41)} - set(cards(slack)))
    change = user_updates.GroupUpdate(fields={"status": GroupStatus.ACK}, by="ann", at=datetime.now(UTC))
    with session():
        user_updates.update_groups(1, ids, change)
    running.run_until_idle()

    assert len(slack.messages()) - before <= 11


def test_what_a_person_did_goes_first(slack: FakeSlack) -> None:
    running = notifier_of(slack, SHORT)
    record(alert(severity=Severity.LOW))
    running.run_until_idle()
    record(*(alert(issue=str(number), severity=Severity.CRITICAL) for number in range(2, 8)))
    act(1, GroupStatus.ACK)
    running._route()
    running._deliveries["ops"].run_once()

    assert cards(slack) == {1: [ACK]}


def test_ten_minutes_of_429_lose_and_double_nothing(slack: FakeSlack) -> None:
    """Slack's word is kept: no request before the time that it names."""
    running = notifier_of(slack, SHORT)
    record(*(alert(issue=str(number)) for number in range(10)))
    running.run_until_idle()
    slack.calls.clear()
    slack.faults.add(Fault(kind=FaultKind.RATE_LIMITED, retry_after=30))
    attempts = 0
    for minute in range(10):
        record(*(alert(issue=f"{minute} {number}") for number in range(5)))
        act(minute + 1, GroupStatus.ACK)
        for _ in range(3):
            running.run_until_idle()
        attempts += 2
        pass_time(0.52)
        running.run_until_idle()
        pass_time(0.52)
    with session():
        sent = database.execute_sql("SELECT outcome, count(*) FROM notification_attempt GROUP BY outcome").fetchall()
    assert dict(sent)["rate_limited"] <= attempts + 1
    slack.faults.clear()
    running.run_until_idle()

    shown = cards(slack)
    assert {group: number for group, number in shown.items() if len(number) > 1} == {}
    assert sorted(shown) == list(range(1, 61))
    assert [shown[group] for group in range(1, 11)] == [[ACK]] * 10
    assert [shown[group] for group in range(11, 61)] == [[OPEN]] * 50


def test_the_pace_is_what_slack_allows(slack: FakeSlack) -> None:
    slack.rate_limit = RateLimit(per_second=1.0, burst=1)
    running = notifier_of(slack, SHORT)
    running._config.receivers["ops"].pace = 1.0
    record(*(alert(issue=str(number)) for number in range(3)))
    until = time.monotonic() + 10
    while len(slack.messages()) < 3 and time.monotonic() < until:
        running.run_until_idle()
        time.sleep(0.05)
    assert {call.error for call in slack.calls} == {""}
    assert len(cards(slack)) == 3


def test_a_broken_channel_keeps_its_messages_and_says_so(slack: FakeSlack) -> None:
    running = notifier_of(slack, SHORT)
    slack.channel("alerts").is_archived = True
    record(alert())
    running.run_until_idle()
    with session():
        (state,) = queries.receivers()
    assert (state["broken_code"], state["waiting"]) == ("slack_is_archived", 1)
    slack.channel("alerts").is_archived = False
    pass_time(61)
    notifier_of(slack, SHORT).run_until_idle()
    assert cards(slack) == {1: [OPEN]}


def test_a_card_deleted_in_slack_is_posted_again_with_the_next_change(slack: FakeSlack) -> None:
    running = notifier_of(slack, SHORT)
    record(alert())
    running.run_until_idle()
    slack.channel("alerts").by_ts.clear()
    update(1, GroupStatus.ACK)
    running.run_until_idle()
    update(1, GroupStatus.RESOLVED)
    running.run_until_idle()

    assert cards(slack) == {1: [RESOLVED]}
    assert len(slack.messages()) == 1


def test_a_notifier_with_another_database_is_not_mistaken_for_this_one(slack: FakeSlack) -> None:
    """Both have a notification 1, in one channel, by one app."""
    running = notifier_of(slack, Timing(lease=timedelta(), backoff=(0.0,), failed=0.0))
    record(alert())
    running.run_until_idle()
    with session():
        database.execute_sql("UPDATE receiver_state SET key = 'of another deployment'")
        database.execute_sql(
            "UPDATE notification SET external_id = NULL, state = 'pending', tries = 1, told_digest = NULL"
        )
    running.run_until_idle()

    assert len(slack.messages()) == 2
