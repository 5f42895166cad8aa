"""A process is killed at each of its steps, and nothing is lost: worker, inbox consumer, web and notifier.

``make sweep`` kills at every step; otherwise all but web at one step in ``SWEEP_EVERY``. After each crash
the leases and locks in Redis are aged, so that the next worker does not wait for them, and it processes the rest.
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from redis import Redis

from signalcraft import tasks
from signalcraft.dev import fake_slack
from signalcraft.dev.fake_slack import FakeSlack
from signalcraft.domain.alerts import GroupStatus, Severity
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.domain.notifications import default_rule
from signalcraft.groups import user_updates
from signalcraft.notify import config as notify_config
from signalcraft.notify.notifier import Notifier
from signalcraft.queues import enqueue, inbox
from signalcraft.storage.database import database, session
from signalcraft.storage.delivery_models import FailedDelivery, Inbox
from signalcraft.storage.models import AlertEvent, AlertGroup, GroupChange
from signalcraft.storage.notification_models import Notification
from signalcraft.worker.inbox_consumer import InboxConsumer
from tests.support import slack as slack_support
from tests.support.builders import accepted, groups, pending_event, record
from tests.support.crash import CrashingProcess, RunResult
from tests.support.queues import work_after_a_crash
from tests.support.waiting import wait_until
from tests.support.web_client import sample
from tests.support.webhook_server import WebhookServer, webhook_server

EVERY = int(os.environ.get("SWEEP_EVERY", "11"))
#: More than the steps of any role: the sweep ends when a process survives.
MAX_STEPS = 1_000


@pytest.fixture
def doomed(environ: dict[str, str]) -> Iterator[CrashingProcess]:
    one = CrashingProcess(environ)
    yield one
    one.end()


def begin(redis: Redis) -> None:
    """Start without rows and without keys in Redis."""
    redis.flushdb()
    with session():
        for table in (Notification, AlertEvent, AlertGroup, Inbox, FailedDelivery):
            table.delete().execute()


def deliveries_of_each_kind() -> list[AcceptedDelivery]:
    """Two alerts of one issue, one of another, one repeated by another rule, a status change, one unreadable."""
    twice = accepted(issue="1", event_id="a" * 32)
    bad = accepted()
    body = b'{"action":"triggered"}'
    return [
        twice,
        accepted(issue="1", minute=1),
        accepted(issue="2", minute=1),
        replace(accepted(issue="1", event_id="a" * 32, rule="other", minute=2), delivery_key="other rule"),
        accepted("issue.resolved", issue="2", minute=3),
        replace(bad, delivery=replace(bad.delivery, body=body)),
    ]


def consume_inbox() -> None:
    """Process the inbox, once PostgreSQL has released the locks of the killed process."""
    consumer = InboxConsumer(tasks.processor(), batch_size=200)

    def is_empty() -> bool:
        with suppress(DatabaseUnavailable):
            consumer.consume_batch()
        return not inbox_depth()

    if inbox_depth():
        wait_until(is_empty)


def inbox_depth() -> int:
    with session():
        return inbox.depth()


def result() -> tuple[list[tuple[int, str]], int, list[str]]:
    """Counts and states of the groups, events, and codes of the dead letters."""
    seen = sorted((group.count, group.status) for group in groups())
    with session():
        return seen, AlertEvent.select().count(), [failed.code for failed in FailedDelivery.select()]


EXPECTED = ([(1, "resolved"), (2, "open")], 3, ["shape_unexpected"])


def sweep(play: Callable[[int], RunResult], check: Callable[[RunResult], None], every: int = EVERY) -> int:
    """Kill at one step after the other until the process survives; return how often it was killed."""
    for died, step in enumerate(range(1, MAX_STEPS, every)):
        fate = play(step)
        check(fate)
        if not fate.killed:
            print(f"\n{fate.steps} points, killed at {died} of them: 0 lost")  # noqa: T201 - what the sweep is for
            return died
    raise AssertionError("it never survives")


@pytest.mark.parametrize("batch_size", [200, 2], ids=["one batch", "two batches in flight"])
def test_a_worker_may_be_killed_at_any_step_of_a_batch(doomed: CrashingProcess, redis: Redis, batch_size: int) -> None:
    deliveries = deliveries_of_each_kind()

    def play(step: int) -> RunResult:
        begin(redis)
        for delivery in deliveries:
            enqueue.enqueue_once(redis, delivery, ttl_seconds=60)
        return doomed.play("worker", step, batch_size=batch_size)

    def check(_: RunResult) -> None:
        work_after_a_crash(redis)
        assert result() == EXPECTED
        assert not redis.exists(*(f"rq:job:{delivery.delivery_id}" for delivery in deliveries))

    assert sweep(play, check) > 60 / EVERY


def test_an_inbox_consumer_may_be_killed_at_any_step(doomed: CrashingProcess, redis: Redis) -> None:
    def play(step: int) -> RunResult:
        begin(redis)
        with session():
            for delivery in deliveries_of_each_kind():
                inbox.add(delivery)
        return doomed.play("inbox_consumer", step)

    def check(_: RunResult) -> None:
        consume_inbox()
        assert result() == EXPECTED

    assert sweep(play, check) > 20 / EVERY


@pytest.mark.parametrize(
    "changes",
    [{}, {"REDIS_URL": "redis://127.0.0.1:1/0"}, {"INGEST_DURABILITY": "inbox"}],
    ids=["into Redis", "Redis unavailable", "always into the inbox"],
)
def test_web_may_be_killed_at_any_step_of_receiving(
    doomed: CrashingProcess, redis: Redis, changes: dict[str, str]
) -> None:
    """A client without a response sends again, and gets a true one: accepted, or a duplicate of a stored delivery."""
    sent = sample()
    order = {"body": sent.body.decode(), "headers": dict(sent.headers), "environ": changes}

    def play(step: int) -> RunResult:
        for _ in range(5):
            begin(redis)
            fate = doomed.play("web", step, **order)
            if fate.killed or fate.status != 503:  # a machine that is too busy for a response is no end of the sweep
                break
        return fate

    def check(fate: RunResult) -> None:
        if fate.status not in (200, 202):
            wait_until(lambda: doomed.play("web", 0, **order).status in (200, 202))
        work_after_a_crash(redis)
        consume_inbox()
        assert [group.count for group in groups()] == [1]

    assert sweep(play, check, every=1) >= 8


CONFIG = """
storm = {storm}
[receivers.hook]
kind = "webhook"
url = "{url}/hook"
secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
[receivers.pager]
kind = "pagerduty"
url = "{url}/pager"
routing_key = "env:PAGER_KEY"
[[routes]]
name = "all"
to = {to}
update_every = "0s"
"""


@pytest.mark.parametrize(
    ("to", "storm", "new"), [(["hook", "pager"], 0, 2), (["hook"], 2, 4)], ids=["one by one", "a digest"]
)
def test_a_notifier_may_be_killed_at_any_step(
    doomed: CrashingProcess, redis: Redis, to: list[str], storm: int, new: int
) -> None:
    """What was being sent is sent again, with the same id; and nothing else is."""
    doubles = Counter[str]()
    with webhook_server() as server:
        environ = {"NOTIFY": CONFIG.format(to=to, storm=storm, url=server.url), "PAGER_KEY": "test-routing-key"}

        def play(step: int) -> RunResult:
            begin(redis)
            server.posts.clear()
            ids = open_groups("old", number=1)
            notify_after_a_crash(environ)
            resolve(ids[0])
            open_groups("new", number=new)
            enqueue.wake_notifier(redis)
            return doomed.play("notifier", step, environ=environ)

        def check(fate: RunResult) -> None:
            notify_after_a_crash(environ)
            twice = sent_twice(server)
            doubles.update(twice)
            assert sum(twice.values()) <= fate.killed
            assert known(server) == {name: {group.title: group.status for group in groups()} for name in to}

        assert sweep(play, check) > 60 / EVERY
    print(f"{doubles.total()} messages were sent again, with the same id")  # noqa: T201 - what the sweep is for


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    with fake_slack.serving() as serving:
        yield serving


def environ_of(slack: FakeSlack) -> dict[str, str]:
    notify = slack_support.CONFIG.format(storm=0, update_every="0s")
    secrets = {"BOT_TOKEN": slack.token, "SLACK_SIGNING_SECRET": slack.signing_secret}
    return {"NOTIFY": notify, "SLACK_API_URL": slack.url, **secrets}


def shown(slack: FakeSlack) -> dict[str, list[str]]:
    """The buttons of each message of the channel, by the group that it is about."""
    titles = {group.id: group.title for group in groups()}
    return {titles[group_id]: found for group_id, found in slack_support.cards(slack).items()}


def test_a_notifier_may_be_killed_at_any_step_of_posting_and_editing(
    doomed: CrashingProcess, redis: Redis, slack: FakeSlack
) -> None:
    """Each group is there once, as it is: a message that was posted before the end is found."""
    environ = environ_of(slack)

    def play(step: int) -> RunResult:
        begin(redis)
        slack.channel("alerts").by_ts.clear()
        (old,) = open_groups("old", number=1)
        notify_after_a_crash(environ)
        resolve(old)
        open_groups("new", number=2)
        enqueue.wake_notifier(redis)
        return doomed.play("notifier", step, environ=environ)

    def check(_: RunResult) -> None:
        notify_after_a_crash(environ)
        opened = ["ack,snooze,resolve"]
        assert shown(slack) == {"old 0": ["reopen"], "new 0": opened, "new 1": opened}

    assert sweep(play, check) > 60 / EVERY


def test_web_may_be_killed_at_any_step_of_a_press(doomed: CrashingProcess, redis: Redis, slack: FakeSlack) -> None:
    """Who sees that the press failed presses again; the group and its card are what was asked for."""
    environ = environ_of(slack)

    def play(step: int) -> RunResult:
        begin(redis)
        slack.channel("alerts").by_ts.clear()
        open_groups("new", number=1)
        notify_after_a_crash(environ)
        return press(step)

    def press(step: int) -> RunResult:
        (message,) = slack.messages()
        body = urlencode({"payload": json.dumps(slack._payload(message, "ack", None, None, "U1"))})
        return doomed.play("press", step, environ=environ, body=body, headers=slack.sign(body.encode()))

    def check(fate: RunResult) -> None:
        if fate.status != 200:
            wait_until(lambda: press(0).status == 200)
        notify_after_a_crash(environ)
        assert [group.status for group in groups()] == ["ack"]
        assert shown(slack) == {"new 0": ["resolve,snooze"]}
        with session():
            assert GroupChange.select().where(GroupChange.field == "status").count() == 1

    assert sweep(play, check, every=min(EVERY, 5)) > 20 / EVERY


def open_groups(name: str, *, number: int) -> list[int]:
    """Open groups titled ``name`` and a number; the last is the most urgent."""
    now = datetime.now(UTC)
    events = [
        pending_event(issue=f"{name} {place}", title=f"{name} {place}", severity=severity)
        for place, severity in zip(range(number), [Severity.LOW] * (number - 1) + [Severity.HIGH], strict=True)
    ]
    recorded = record(*(replace(event, alert=replace(event.alert, received_at=now)) for event in events))
    return sorted(recorded.group_ids)


def resolve(group_id: int) -> None:
    update = user_updates.GroupUpdate(fields={"status": GroupStatus.RESOLVED}, by="ann", at=datetime.now(UTC))
    with session():
        user_updates.update_group(1, group_id, update)


def notify_after_a_crash(environ: Mapping[str, str]) -> None:
    """End the leases of the killed process, and tell the rest, once PostgreSQL has released its locks."""
    config = notify_config.load(environ["NOTIFY"], environ)
    for receiver in config.receivers.values():
        receiver.pace = 0.0

    def is_told() -> bool:
        with session():
            database.execute_sql("UPDATE notification SET lease_until = now() WHERE state = 'sending'")
            database.execute_sql("UPDATE receiver_state SET busy_until = '-infinity'")
        Notifier(config, [default_rule]).run_until_idle()
        with session():
            (waits,) = database.execute_sql("""
                SELECT EXISTS (SELECT FROM happening WHERE routed_at IS NULL)
                    OR EXISTS (SELECT FROM notification WHERE state IN ('pending', 'sending'))""").fetchone()
        return not waits

    wait_until(is_told)


def sent_twice(server: WebhookServer) -> Counter[str]:
    """Messages beyond the first, by the receiver's idempotency key: the id, or the incident with its action."""
    times = Counter(
        webhook_id or f"{body['dedup_key']} {body['event_action']}" for _, webhook_id, body in list(server.posts)
    )
    return times - Counter(dict.fromkeys(times, 1))


def known(server: WebhookServer) -> dict[str, dict[str, str]]:
    """The status that each receiver was last told of each group, by the receiver and the group's title."""
    told: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for path, _, body in list(server.posts):
        if path == "/pager":
            status = {"trigger": "open", "resolve": "resolved"}[body["event_action"]]
            told["pager"][body["payload"]["summary"]] = status
            continue
        data = body["data"]
        of_message = [data["group"]] if data["group"] else data["digest"]["groups"]
        told["hook"] |= {group["title"]: group["status"] for group in of_message}
    return told
