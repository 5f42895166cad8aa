"""A process is killed at each of its steps, and nothing is lost: worker, inbox consumer and web.

``make sweep`` kills at every step; otherwise worker and inbox consumer at one step in ``SWEEP_EVERY``. After each crash
the leases and locks in Redis are aged, so that the next worker does not wait for them, and it processes the rest.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from redis import Redis

from signalcraft import tasks
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.queues import enqueue, inbox
from signalcraft.storage.database import session
from signalcraft.storage.models import AlertEvent, AlertGroup, FailedDelivery, Inbox
from signalcraft.worker.inbox_consumer import InboxConsumer
from tests.support.builders import accepted, groups
from tests.support.crash import CrashingProcess, RunResult
from tests.support.queues import work_after_a_crash
from tests.support.web_client import sample

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
        for table in (AlertEvent, AlertGroup, Inbox, FailedDelivery):
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
    deadline = time.monotonic() + 5
    while inbox_depth():
        assert time.monotonic() < deadline
        InboxConsumer(tasks.processor(), batch_size=200).consume_batch()


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
        begin(redis)
        return doomed.play("web", step, **order)

    def check(fate: RunResult) -> None:
        if not fate.status:
            assert doomed.play("web", 0, **order).status in (200, 202)
        work_after_a_crash(redis)
        consume_inbox()
        assert [group.count for group in groups()] == [1]

    assert sweep(play, check, every=1) >= 8
