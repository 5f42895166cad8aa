"""The worker on real parts: jobs are taken in by the script of ``jobs`` and worked off by ``BatchingWorker``."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from rq import Queue
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer
from structlog.testing import capture_logs

from signalcraft import tasks
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.queues import jobs, redis_clients
from signalcraft.queues.jobs import AllowedJob
from signalcraft.queues.leases import Lease
from signalcraft.settings import Settings
from signalcraft.storage.database import database, session
from signalcraft.storage.models import AlertEvent, FailedDelivery
from signalcraft.worker import process as processing
from signalcraft.worker import processor
from signalcraft.worker.batch_worker import AlertQueue, BatchWorker
from tests.support import ROOT
from tests.support.builders import accepted, groups
from tests.support.queues import take_in
from tests.support.waiting import wait_until

Work = Callable[..., BatchWorker]


@pytest.fixture
def work(redis: Redis) -> Work:
    """Work off what waits, in this process, and come back."""

    def run(**options: object) -> BatchWorker:
        chosen: dict[str, object] = {"stages": tasks.processor(), "batch_size": 200, "connection": redis}
        worker = BatchWorker(jobs.ALERTS, **chosen | options)  # type: ignore[arg-type]
        worker.work(burst=True)
        return worker

    return run


def failed() -> list[FailedDelivery]:
    with session():
        return list(FailedDelivery.select())


def stages(**replaced: object) -> Any:  # noqa: ANN401 - some of Stages, the others as the worker has them
    real = tasks.processor()
    return SimpleNamespace(**{"prepare": real.prepare, "record": real.record, "conclude": real.conclude} | replaced)


def count_events() -> int:
    with session():
        return int(AlertEvent.select().count())


def test_what_was_taken_in_is_stored_and_leaves_nothing_in_redis_but_its_key(redis: Redis, work: Work) -> None:
    deliveries = [accepted(issue=str(number % 3)) for number in range(30)]
    take_in(redis, *deliveries)
    work()
    assert sorted(group.count for group in groups()) == [10, 10, 10]
    assert redis.exists(*(f"rq:job:{delivery.delivery_id}" for delivery in deliveries)) == 0
    assert redis.exists("rq:queue:alerts", "rq:queue:alerts:intermediate", "rq:wip:alerts", "rq:failed:alerts") == 0
    assert len(redis.keys("signalcraft:delivery:*")) == 30


def test_it_takes_what_waits_up_to_the_batch_size_and_never_waits_for_more(redis: Redis, work: Work) -> None:
    sizes: list[int] = []

    def prepare(deliveries: Sequence[AcceptedDelivery]) -> processor.Batch:
        sizes.append(len(deliveries))
        return tasks.processor().prepare(deliveries)

    take_in(redis, *(accepted() for _ in range(25)))
    work(stages=stages(prepare=prepare), batch_size=10)
    assert sizes == [10, 10, 5]


def test_one_that_cannot_be_worked_off_is_set_aside_with_its_bytes_and_the_others_are_stored(
    redis: Redis,
    work: Work,
) -> None:
    bad = accepted()
    body = b'{"action":"triggered","data":{"event":{"title":"no id anywhere"}}}'
    bad = replace(bad, delivery=replace(bad.delivery, body=body))
    take_in(redis, accepted(), bad, accepted())
    work()
    assert count_events() == 2
    (kept,) = failed()
    assert (kept.delivery_id, bytes(kept.body), kept.stage) == (bad.delivery_id, body, "normalize")
    assert kept.code == "identity_missing"


def test_a_batch_that_the_database_refuses_is_worked_off_one_by_one(redis: Redis, work: Work) -> None:
    stranger = replace(accepted(), workspace_id=99)
    good = [accepted() for _ in range(3)]
    take_in(redis, good[0], stranger, *good[1:])
    work()
    assert count_events() == 3
    assert redis.llen("rq:queue:alerts") == redis.zcard("rq:wip:alerts") == 0


def test_working_off_the_same_delivery_again_changes_nothing(redis: Redis, work: Work) -> None:
    delivery = accepted()
    for _ in range(3):
        redis.flushdb()
        take_in(redis, delivery)
        work()
    assert [group.count for group in groups()] == [1]


def test_while_postgresql_is_away_it_holds_the_batch_and_burns_no_retries(redis: Redis, work: Work) -> None:
    attempts: list[int] = []

    def record(batch: processor.Batch) -> processor.Outcome:
        attempts.append(len(batch.prepared.deliveries))
        if len(attempts) < 4:
            raise DatabaseUnavailable
        return tasks.processor().record(batch)

    take_in(redis, accepted(), accepted())
    work(stages=stages(record=record))
    assert attempts == [2, 2, 2, 2]
    assert count_events() == 2
    assert Queue("alerts", connection=redis).failed_job_registry.count == 0


def test_told_to_stop_while_it_holds_a_batch_it_gives_the_batch_back(redis: Redis, work: Work) -> None:
    deliveries = [accepted() for _ in range(3)]
    take_in(redis, *deliveries)

    def record(_: processor.Batch) -> processor.Outcome:
        os.kill(os.getpid(), signal.SIGTERM)
        raise DatabaseUnavailable

    work(stages=stages(record=record), batch_size=2)
    waiting = [name.decode() for name in redis.lrange("rq:queue:alerts", 0, -1)]
    assert waiting == [delivery.delivery_id for delivery in deliveries]
    assert redis.zcard("rq:wip:alerts") == 0
    work()
    assert count_events() == 3


def test_while_a_full_batch_is_stored_the_next_is_prepared_and_stored_after_it(redis: Redis, work: Work) -> None:
    prepared, stored = threading.Semaphore(0), list[list[str]]()
    deliveries = [accepted() for _ in range(6)]

    def prepare(some: Sequence[AcceptedDelivery]) -> processor.Batch:
        prepared.release()
        return tasks.processor().prepare(some)

    def record(batch: processor.Batch) -> processor.Outcome:
        if not stored:
            assert all(prepared.acquire(timeout=10) for _ in range(2)), "the second batch was not prepared meanwhile"
        stored.append([delivery.delivery_id for delivery in batch.prepared.deliveries])
        return tasks.processor().record(batch)

    take_in(redis, *deliveries)
    work(stages=stages(prepare=prepare, record=record), batch_size=2)
    names = [delivery.delivery_id for delivery in deliveries]
    assert stored == [names[:2], names[2:4], names[4:]]
    assert count_events() == 6
    assert redis.zcard("rq:wip:alerts") == 0


def test_what_is_claimed_ahead_waits_in_the_queue_while_postgresql_is_away(redis: Redis, work: Work) -> None:
    attempts: list[tuple[int, int]] = []

    def record(batch: processor.Batch) -> processor.Outcome:
        time.sleep(0.1)  # for the next batch to be claimed
        attempts.append((redis.llen("rq:queue:alerts"), redis.zcard("rq:wip:alerts")))
        if len(attempts) < 3:
            raise DatabaseUnavailable
        return tasks.processor().record(batch)

    take_in(redis, *(accepted() for _ in range(4)))
    work(stages=stages(record=record), batch_size=2)
    assert attempts[:3] == [(0, 4), (2, 2), (2, 2)]
    assert count_events() == 4


def test_people_hear_of_a_batch_that_is_stored_though_redis_goes_away_at_that_moment(
    redis: Redis, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []

    def gone(*_: object, **__: object) -> None:
        raise RedisConnectionError

    def record(batch: processor.Batch) -> processor.Outcome:
        time.sleep(0.1)  # for the next batch to be claimed
        outcome = tasks.processor().record(batch)
        monkeypatch.setattr(Lease, "renewed", gone)
        return outcome

    take_in(redis, *(accepted() for _ in range(4)))
    work(stages=stages(record=record, conclude=told.append), batch_size=2)
    assert count_events() == 2
    assert len(told) == 1


def test_a_batch_that_takes_long_to_store_stays_with_its_worker(
    redis: Redis, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signalcraft.worker.batch_worker._POLL_INTERVAL_SECONDS", 0.05)
    ends: list[float] = []

    def record(batch: processor.Batch) -> processor.Outcome:
        for _ in range(4):
            ends.append(min(score for _, score in redis.zrange("rq:wip:alerts", 0, -1, withscores=True)))
            time.sleep(0.1)
        return tasks.processor().record(batch)

    take_in(redis, accepted(), accepted())
    work(stages=stages(record=record))
    assert ends[0] < ends[-1], "the lease is renewed meanwhile"
    assert count_events() == 2


def test_a_delivery_that_our_own_code_stumbles_over_is_set_aside_with_what_it_was(
    redis: Redis, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, poison, better = (accepted() for _ in range(3))
    normalize = processing._normalize

    def stumble(one: AcceptedDelivery, *others: Any) -> None:  # noqa: ANN401 - as it is
        if one.delivery_id == poison.delivery_id:
            raise ZeroDivisionError("a value of somebody's")
        normalize(one, *others)

    monkeypatch.setattr(processing, "_normalize", stumble)
    take_in(redis, good, poison, better)
    work()
    (kept,) = failed()
    assert (kept.delivery_id, kept.stage, kept.code) == (poison.delivery_id, "normalize", "delivery_unreadable")
    assert kept.reason == "ZeroDivisionError"
    assert count_events() == 2


def test_a_batch_is_bounded_in_bytes_and_what_had_no_room_keeps_its_place(
    redis: Redis, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliveries = [accepted() for _ in range(5)]
    monkeypatch.setattr(
        "signalcraft.worker.batch_worker.MAX_BATCH_BYTES", 1 + max(len(one.delivery.body) for one in deliveries)
    )
    seen: list[list[str]] = []

    def record(batch: processor.Batch) -> processor.Outcome:
        seen.append([one.delivery_id for one in batch.prepared.deliveries])
        return tasks.processor().record(batch)

    take_in(redis, *deliveries)
    work(stages=stages(record=record))
    names = [delivery.delivery_id for delivery in deliveries]
    assert seen == [names[:2], names[2:4], names[4:]]
    assert redis.zcard("rq:wip:alerts") == 0


def test_a_body_that_our_code_never_gets_done_with_ends_the_process(
    redis: Redis, worker_process: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """The interpreter may be held by a regular expression, so nothing in Python could help."""
    take_in(redis, accepted())
    process = worker_process("tests/support/stuck_worker.py")
    assert process.wait(timeout=30) == 1
    assert redis.zcard("rq:wip:alerts") == 1, "it comes back when its lease is over"


def test_told_to_stop_while_a_batch_is_stored_it_finishes_that_and_gives_the_next_back(
    redis: Redis, work: Work
) -> None:
    deliveries = [accepted() for _ in range(6)]

    def record(batch: processor.Batch) -> processor.Outcome:
        time.sleep(0.1)  # for the next batch to be claimed
        os.kill(os.getpid(), signal.SIGTERM)
        return tasks.processor().record(batch)

    take_in(redis, *deliveries)
    work(stages=stages(record=record), batch_size=2)
    waiting = [name.decode() for name in redis.lrange("rq:queue:alerts", 0, -1)]
    assert waiting == [delivery.delivery_id for delivery in deliveries[2:]]
    assert redis.zcard("rq:wip:alerts") == 0
    assert count_events() == 2


def test_jobs_that_went_into_other_hands_are_not_given_back(redis: Redis) -> None:
    delivery = accepted()
    take_in(redis, delivery)
    queue = AlertQueue(jobs.ALERTS, connection=redis)
    claim = Lease.acquire("", queue, worker_name="slow", most=9)
    redis.zremrangebyrank("rq:wip:alerts", 0, -1)  # its lease was over
    claim.release()
    assert redis.llen("rq:queue:alerts") == 0
    assert redis.hget(f"rq:job:{delivery.delivery_id}", "status") == b"started"


@pytest.mark.parametrize("wait_seconds", [1.0, 0.02], ids=["at once", "after a renewal"])
def test_jobs_of_two_batches_in_hand_come_back_in_their_order(
    redis: Redis, work: Work, monkeypatch: pytest.MonkeyPatch, wait_seconds: float
) -> None:
    monkeypatch.setattr("signalcraft.worker.batch_worker._POLL_INTERVAL_SECONDS", wait_seconds)
    deliveries = [accepted() for _ in range(5)]
    take_in(redis, *deliveries)

    def record(_: processor.Batch) -> processor.Outcome:
        time.sleep(0.1)  # for the next batch to be claimed
        raise KeyboardInterrupt  # as good as dead: nothing of it is finished or given back

    work(stages=stages(record=record), batch_size=2)  # RQ's loop ends and says nothing
    assert redis.zcard("rq:wip:alerts") == 4
    for entry, score in redis.zscan_iter("rq:wip:alerts"):
        redis.zadd("rq:wip:alerts", {entry: score - 3600})
    StartedJobRegistry("alerts", connection=redis, serializer=JSONSerializer, job_class=AllowedJob).cleanup()
    waiting = [name.decode() for name in redis.lrange("rq:queue:alerts", 0, -1)]
    assert waiting == [delivery.delivery_id for delivery in deliveries]


@pytest.mark.parametrize("function", ["os.system", "signalcraft.tasks.configure_worker", "no.such.thing"])
def test_a_job_that_names_another_function_never_runs(redis: Redis, work: Work, function: str) -> None:
    strange = jobs.queue(redis, jobs.ALERTS).enqueue(function, "echo", job_id="strange")
    take_in(redis, accepted())
    work()
    assert count_events() == 1
    assert jobs.queue(redis, jobs.ALERTS).failed_job_registry.get_job_ids() == [strange.id]


def test_a_job_whose_argument_is_no_delivery_fails_alone(redis: Redis, work: Work) -> None:
    jobs.queue(redis, jobs.ALERTS).enqueue(jobs.PROCESS_DELIVERY, {"body": 1}, job_id="strange")
    take_in(redis, accepted())
    work()
    assert count_events() == 1
    assert jobs.queue(redis, jobs.ALERTS).failed_job_registry.get_job_ids() == ["strange"]


def test_rules_notice_new_groups_and_the_notification_is_a_job_of_its_own(redis: Redis, work: Work) -> None:
    take_in(redis, accepted(issue="1"), accepted(issue="1", level="fatal"))
    work()
    notices = jobs.queue(redis, jobs.NOTIFICATIONS).jobs
    assert [job.args[0]["reason"] for job in notices] == ["new"]
    take_in(redis, accepted(issue="1", level="error"), accepted(issue="2"))
    work()
    assert [job.args[0]["reason"] for job in jobs.queue(redis, jobs.NOTIFICATIONS).jobs] == ["new", "new"]


@pytest.mark.usefixtures("redis")
def test_while_redis_is_away_people_do_not_hear_of_a_group_and_that_is_a_warning(settings: Settings) -> None:
    context = tasks.configure_worker(settings, redis_clients.for_web("redis://127.0.0.1:1/0")).context
    with capture_logs() as lines:
        processing.process([accepted()], context)
    (line,) = [line for line in lines if line["log_level"] != "info"]
    assert (line["event"], line["log_level"], line["reason"]) == (
        "notification not queued",
        "warning",
        "ConnectionError",
    )
    assert "traceback" not in line


@pytest.fixture
def worker_process(environ: dict[str, str], redis: Redis) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:  # noqa: ARG001 - for the workspace
    """Start ``python worker.py`` for real; what still runs at the end is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, *(arguments or ("worker.py",))]
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environ | {"PYTHONPATH": str(ROOT)})
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_worker_that_is_told_to_stop_leaves_within_seconds(
    redis: Redis,
    worker_process: Callable[[], subprocess.Popen[bytes]],
) -> None:
    process = worker_process()
    take_in(redis, accepted())
    wait_until(lambda: count_events() == 1, seconds=15)
    process.terminate()
    assert process.wait(timeout=10) == 0


@pytest.mark.parametrize("variable", ["RULES", "NOTIFIER"])
def test_a_rule_or_notifier_that_leads_nowhere_ends_the_start_with_one_line(
    environ: dict[str, str], variable: str
) -> None:
    command = [sys.executable, "worker.py", "--burst"]
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | environ | {variable: "no.such"}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [f"{variable} names no.such, which cannot be imported: No module named 'no'."]


def test_the_jobs_of_a_killed_worker_are_worked_off_within_30_seconds(
    redis: Redis,
    worker_process: Callable[[], subprocess.Popen[bytes]],
) -> None:
    with session(), database.atomic():
        # The worker gets no further than the events while this is held.
        database.execute_sql("LOCK TABLE alert_event IN ACCESS EXCLUSIVE MODE")
        take_in(redis, *(accepted() for _ in range(5)))
        process = worker_process()
        wait_until(lambda: redis.zcard("rq:wip:alerts") >= 1, seconds=15)
        process.kill()
        process.wait()
    worker_process()
    wait_until(lambda: count_events() == 5, seconds=30)
