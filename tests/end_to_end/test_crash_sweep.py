"""A process is killed at each of its steps, and nothing is lost: worker, drainer and web.

``make sweep`` walks every step; else worker and drainer do one in ``SWEEP_EVERY``. After each death time is made to
pass for Redis: leases and locks that a worker would have to wait for are aged, and the next worker does what is left.
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
from tests.support.crash import CrashingProcess, Fate
from tests.support.queues import work_after_a_crash
from tests.support.web_client import sample

EVERY = int(os.environ.get("SWEEP_EVERY", "11"))
#: More lives than any role has steps: the sweep ends where a process lives.
MOST_STEPS = 1_000


@pytest.fixture
def doomed(environ: dict[str, str]) -> Iterator[CrashingProcess]:
    one = CrashingProcess(environ)
    yield one
    one.end()


def begin(redis: Redis) -> None:
    """As at the first moment: no rows, nothing in Redis."""
    redis.flushdb()
    with session():
        for table in (AlertEvent, AlertGroup, Inbox, FailedDelivery):
            table.delete().execute()


def cast() -> list[AcceptedDelivery]:
    """Two alerts of one issue, one of another; one of them again by another rule; a change; one without identity."""
    twice = accepted(issue="1", event_id="a" * 32)
    bad = accepted()
    body = b'{"action":"triggered","data":{"event":{"title":"no id anywhere"}}}'
    return [
        twice,
        accepted(issue="1", minute=1),
        accepted(issue="2", minute=1),
        replace(accepted(issue="1", event_id="a" * 32, rule="other", minute=2), delivery_key="other rule"),
        accepted("issue.resolved", issue="2", minute=3),
        replace(bad, delivery=replace(bad.delivery, body=body)),
    ]


def drain() -> None:
    """A drainer that comes after, once PostgreSQL has noticed that the one before is dead."""
    deadline = time.monotonic() + 5
    while shelved():
        assert time.monotonic() < deadline
        InboxConsumer(tasks.processor(), batch_size=200).drain()


def shelved() -> int:
    with session():
        return inbox.depth()


def result() -> tuple[list[tuple[int, str]], int, list[str]]:
    """Counts and states of the groups, events, and why deliveries were set aside."""
    seen = sorted((group.count, group.status) for group in groups())
    with session():
        return seen, AlertEvent.select().count(), [failed.code for failed in FailedDelivery.select()]


EXPECTED = ([(1, "resolved"), (2, "open")], 3, ["identity_missing"])


def sweep(play: Callable[[int], Fate], check: Callable[[Fate], None], every: int = EVERY) -> int:
    """Die at one step after the other until there is none left; how many there were."""
    for died, step in enumerate(range(1, MOST_STEPS, every)):
        fate = play(step)
        check(fate)
        if not fate.killed:
            print(f"\n{fate.steps} points, of which {died} were died at: 0 lost")  # noqa: T201 - what the sweep is for
            return died
    raise AssertionError("it never lives")


@pytest.mark.parametrize("batch_size", [200, 2], ids=["one batch", "two batches in hand"])
def test_a_worker_may_die_at_any_step_of_a_batch(doomed: CrashingProcess, redis: Redis, batch_size: int) -> None:
    deliveries = cast()

    def play(step: int) -> Fate:
        begin(redis)
        for delivery in deliveries:
            enqueue.enqueue_once(redis, delivery, ttl_seconds=60)
        return doomed.play("worker", step, batch_size=batch_size)

    def check(_: Fate) -> None:
        work_after_a_crash(redis)
        assert result() == EXPECTED
        assert not redis.exists(*(f"rq:job:{delivery.delivery_id}" for delivery in deliveries))

    assert sweep(play, check) > 60 / EVERY


def test_a_drainer_may_die_at_any_step(doomed: CrashingProcess, redis: Redis) -> None:
    def play(step: int) -> Fate:
        begin(redis)
        with session():
            for delivery in cast():
                inbox.add(delivery)
        return doomed.play("drainer", step)

    def check(_: Fate) -> None:
        drain()
        assert result() == EXPECTED

    assert sweep(play, check) > 20 / EVERY


@pytest.mark.parametrize(
    "changes",
    [{}, {"REDIS_URL": "redis://127.0.0.1:1/0"}, {"INGEST_DURABILITY": "inbox"}],
    ids=["into Redis", "Redis is away", "always onto the shelf"],
)
def test_web_may_die_at_any_step_of_taking_in(doomed: CrashingProcess, redis: Redis, changes: dict[str, str]) -> None:
    """Whoever hears nothing sends again, and is then told the truth: accepted and stored, or a duplicate of what is."""
    sent = sample()
    order = {"body": sent.body.decode(), "headers": dict(sent.headers), "environ": changes}

    def play(step: int) -> Fate:
        begin(redis)
        return doomed.play("web", step, **order)

    def check(fate: Fate) -> None:
        if not fate.answer:
            assert doomed.play("web", 0, **order).answer in (200, 202)
        work_after_a_crash(redis)
        drain()
        assert [group.count for group in groups()] == [1]

    assert sweep(play, check, every=1) >= 8
