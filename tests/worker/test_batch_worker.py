"""``BatchWorker`` on real Redis and PostgreSQL, with jobs from ``enqueue``."""

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
from signalcraft.storage.delivery_models import FailedDelivery
from signalcraft.storage.models import AlertEvent
from signalcraft.storage.notification_models import Happening
from signalcraft.worker import process as processing
from signalcraft.worker import processor
from signalcraft.worker.batch_worker import BatchWorker
from signalcraft.worker.queue_worker import JobQueue
from tests.support import ROOT
from tests.support.builders import accepted, groups
from tests.support.queues import enqueue_deliveries
from tests.support.waiting import wait_until

Work = Callable[..., BatchWorker]


@pytest.fixture
def work(redis: Redis) -> Work:
    """Process all waiting jobs in this process."""

    def run(**options: object) -> BatchWorker:
        defaults: dict[str, object] = {"stages": tasks.processor(), "batch_size": 200, "connection": redis}
        worker = BatchWorker(jobs.ALERTS, **defaults | options)  # type: ignore[arg-type]
        worker.work(burst=True)
        return worker

    return run


def failed() -> list[FailedDelivery]:
    with session():
        return list(FailedDelivery.select())


def stages(**replaced: object) -> Any:  # noqa: ANN401 - the Stages of the worker, some of them replaced
    real = tasks.processor()
    return SimpleNamespace(**{"prepare": real.prepare, "record": real.record, "conclude": real.conclude} | replaced)


def count_events() -> int:
    with session():
        return int(AlertEvent.select().count())


def test_deliveries_are_stored_and_only_their_keys_stay_in_redis(redis: Redis, work: Work) -> None:
    deliveries = [accepted(issue=str(number % 3)) for number in range(30)]
    enqueue_deliveries(redis, *deliveries)
    work()
    assert sorted(group.count for group in groups()) == [10, 10, 10]
    assert redis.exists(*(f"rq:job:{delivery.delivery_id}" for delivery in deliveries)) == 0
    assert redis.exists("rq:queue:alerts", "rq:queue:alerts:intermediate", "rq:wip:alerts", "rq:failed:alerts") == 0
    assert len(redis.keys("signalcraft:delivery:*")) == 30


def test_a_batch_has_the_waiting_jobs_up_to_the_batch_size_and_never_waits_for_more(redis: Redis, work: Work) -> None:
    sizes: list[int] = []

    def prepare(deliveries: Sequence[AcceptedDelivery]) -> processor.Batch:
        sizes.append(len(deliveries))
        return tasks.processor().prepare(deliveries)

    enqueue_deliveries(redis, *(accepted() for _ in range(25)))
    work(stages=stages(prepare=prepare), batch_size=10)
    assert sizes == [10, 10, 5]


def test_a_delivery_that_cannot_be_processed_is_dead_lettered_with_its_body_and_the_others_are_stored(
    redis: Redis,
    work: Work,
) -> None:
    bad = accepted()
    body = b'{"action":"triggered"}'
    bad = replace(bad, delivery=replace(bad.delivery, body=body))
    enqueue_deliveries(redis, accepted(), bad, accepted())
    work()
    assert count_events() == 2
    (letter,) = failed()
    assert (letter.delivery_id, bytes(letter.body), letter.stage) == (bad.delivery_id, body, "normalize")
    assert letter.code == "shape_unexpected"


def test_a_batch_that_the_database_refuses_is_processed_one_by_one(redis: Redis, work: Work) -> None:
    stranger = replace(accepted(), workspace_id=99)
    good = [accepted() for _ in range(3)]
    enqueue_deliveries(redis, good[0], stranger, *good[1:])
    work()
    assert count_events() == 3
    assert redis.llen("rq:queue:alerts") == redis.zcard("rq:wip:alerts") == 0


def test_processing_the_same_delivery_again_changes_nothing(redis: Redis, work: Work) -> None:
    delivery = accepted()
    for _ in range(3):
        redis.flushdb()
        enqueue_deliveries(redis, delivery)
        work()
    assert [group.count for group in groups()] == [1]


def test_while_postgresql_is_unavailable_a_batch_is_retried_without_job_retries(redis: Redis, work: Work) -> None:
    attempts: list[int] = []

    def record(batch: processor.Batch) -> processor.Outcome:
        attempts.append(len(batch.prepared.deliveries))
        if len(attempts) < 4:
            raise DatabaseUnavailable
        return tasks.processor().record(batch)

    enqueue_deliveries(redis, accepted(), accepted())
    work(stages=stages(record=record))
    assert attempts == [2, 2, 2, 2]
    assert count_events() == 2
    assert Queue("alerts", connection=redis).failed_job_registry.count == 0


def test_a_stop_request_during_the_retries_releases_the_batch(redis: Redis, work: Work) -> None:
    deliveries = [accepted() for _ in range(3)]
    enqueue_deliveries(redis, *deliveries)

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

    def prepare(batch: Sequence[AcceptedDelivery]) -> processor.Batch:
        prepared.release()
        return tasks.processor().prepare(batch)

    def record(batch: processor.Batch) -> processor.Outcome:
        if not stored:
            assert all(prepared.acquire(timeout=10) for _ in range(2)), "the second batch was not prepared meanwhile"
        stored.append([delivery.delivery_id for delivery in batch.prepared.deliveries])
        return tasks.processor().record(batch)

    enqueue_deliveries(redis, *deliveries)
    work(stages=stages(prepare=prepare, record=record), batch_size=2)
    names = [delivery.delivery_id for delivery in deliveries]
    assert stored == [names[:2], names[2:4], names[4:]]
    assert count_events() == 6
    assert redis.zcard("rq:wip:alerts") == 0


def test_a_prefetched_batch_waits_in_the_queue_while_postgresql_is_unavailable(redis: Redis, work: Work) -> None:
    attempts: list[tuple[int, int]] = []

    def record(batch: processor.Batch) -> processor.Outcome:
        if not attempts:
            wait_until(lambda: redis.zcard("rq:wip:alerts") == 4)  # the next batch is claimed
        attempts.append((redis.llen("rq:queue:alerts"), redis.zcard("rq:wip:alerts")))
        if len(attempts) < 3:
            raise DatabaseUnavailable
        return tasks.processor().record(batch)

    enqueue_deliveries(redis, *(accepted() for _ in range(4)))
    work(stages=stages(record=record), batch_size=2)
    assert attempts[:3] == [(0, 4), (2, 2), (2, 2)]
    assert count_events() == 4


def test_a_stored_batch_is_notified_if_redis_becomes_unavailable_at_that_moment(
    redis: Redis, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    concluded: list[object] = []

    def fail(*_: object, **__: object) -> None:
        raise RedisConnectionError

    def record(batch: processor.Batch) -> processor.Outcome:
        wait_until(lambda: redis.zcard("rq:wip:alerts") == 4)  # the next batch is claimed
        outcome = tasks.processor().record(batch)
        monkeypatch.setattr(Lease, "renewed", fail)
        return outcome

    enqueue_deliveries(redis, *(accepted() for _ in range(4)))
    work(stages=stages(record=record, conclude=concluded.append), batch_size=2)
    assert count_events() == 2
    assert len(concluded) == 1


def test_the_lease_of_a_batch_that_takes_long_to_store_is_renewed(
    redis: Redis, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signalcraft.worker.batch_worker._POLL_INTERVAL_SECONDS", 0.05)

    def end() -> float:
        return float(min(score for _, score in redis.zrange("rq:wip:alerts", 0, -1, withscores=True)))

    def record(batch: processor.Batch) -> processor.Outcome:
        first = end()
        wait_until(lambda: end() > first)  # the lease is renewed meanwhile
        return tasks.processor().record(batch)

    enqueue_deliveries(redis, accepted(), accepted())
    work(stages=stages(record=record))
    assert count_events() == 2


def test_a_delivery_that_triggers_a_bug_is_dead_lettered_with_the_exception(
    redis: Redis, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, poison, better = (accepted() for _ in range(3))
    normalize = processing._normalize

    def fail_on_poison(delivery: AcceptedDelivery, *others: Any) -> None:  # noqa: ANN401 - as the original
        if delivery.delivery_id == poison.delivery_id:
            raise ZeroDivisionError("a value of a user")
        normalize(delivery, *others)

    monkeypatch.setattr(processing, "_normalize", fail_on_poison)
    enqueue_deliveries(redis, good, poison, better)
    work()
    (letter,) = failed()
    assert (letter.delivery_id, letter.stage, letter.code) == (poison.delivery_id, "normalize", "delivery_unreadable")
    assert letter.reason.startswith("our own code failed on it with ZeroDivisionError, which is a bug")
    assert count_events() == 2


def test_a_batch_is_bounded_in_bytes_and_the_other_jobs_keep_their_order(
    redis: Redis, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliveries = [accepted() for _ in range(5)]
    monkeypatch.setattr(
        "signalcraft.worker.batch_worker.MAX_BATCH_BYTES", 1 + max(len(item.delivery.body) for item in deliveries)
    )
    seen: list[list[str]] = []

    def record(batch: processor.Batch) -> processor.Outcome:
        seen.append([delivery.delivery_id for delivery in batch.prepared.deliveries])
        return tasks.processor().record(batch)

    enqueue_deliveries(redis, *deliveries)
    work(stages=stages(record=record))
    names = [delivery.delivery_id for delivery in deliveries]
    assert seen == [names[:2], names[2:4], names[4:]]
    assert redis.zcard("rq:wip:alerts") == 0


def test_a_body_that_hangs_the_parser_ends_the_process(
    redis: Redis, worker_process: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """A regular expression may hold the GIL, so no Python code could stop it."""
    enqueue_deliveries(redis, accepted())
    process = worker_process("tests/support/stuck_worker.py")
    assert process.wait(timeout=30) in (1, -signal.SIGALRM)
    assert redis.zcard("rq:wip:alerts") == 1, "it is requeued when its lease ends"


def test_a_process_that_can_start_no_thread_stores_its_batches_without_one_and_uses_no_tries(
    redis: Redis, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RQ has started its own, for commands, when the worker started; without that one the process ends."""
    start = threading.Thread.start

    def no_thread(thread: threading.Thread) -> None:
        if thread.name == "storing":
            raise RuntimeError("can't start new thread")
        start(thread)

    enqueue_deliveries(redis, *(accepted() for _ in range(25)))
    with monkeypatch.context() as exhausted, capture_logs() as lines:
        exhausted.setattr(threading.Thread, "start", no_thread)
        work(batch_size=10)
    assert (count_events(), redis.zcard("rq:wip:alerts"), failed()) == (25, 0, [])
    assert [line["event"] for line in lines if "thread" in line["event"]] == [
        "no thread can be started, storing without one"
    ] * 3


def test_a_process_without_standard_error_stores_its_batch(
    redis: Redis, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``faulthandler`` refuses to watch over it."""
    enqueue_deliveries(redis, accepted())
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", None)
        work()
    assert (count_events(), failed()) == (1, [])


def test_a_stop_request_while_a_batch_is_stored_finishes_it_and_releases_the_next(redis: Redis, work: Work) -> None:
    deliveries = [accepted() for _ in range(6)]

    def record(batch: processor.Batch) -> processor.Outcome:
        wait_until(lambda: redis.zcard("rq:wip:alerts") == 4)  # the next batch is claimed
        os.kill(os.getpid(), signal.SIGTERM)
        return tasks.processor().record(batch)

    enqueue_deliveries(redis, *deliveries)
    work(stages=stages(record=record), batch_size=2)
    waiting = [name.decode() for name in redis.lrange("rq:queue:alerts", 0, -1)]
    assert waiting == [delivery.delivery_id for delivery in deliveries[2:]]
    assert redis.zcard("rq:wip:alerts") == 0
    assert count_events() == 2


def test_jobs_whose_lease_ended_are_not_released(redis: Redis) -> None:
    delivery = accepted()
    enqueue_deliveries(redis, delivery)
    queue = JobQueue(jobs.ALERTS, connection=redis)
    lease = Lease.acquire("", queue, worker_name="slow", limit=9)
    redis.zremrangebyrank("rq:wip:alerts", 0, -1)  # as after the end of the lease
    lease.release()
    assert redis.llen("rq:queue:alerts") == 0
    assert redis.hget(f"rq:job:{delivery.delivery_id}", "status") == b"started"


@pytest.mark.parametrize("wait_seconds", [1.0, 0.02], ids=["at once", "after a renewal"])
def test_jobs_of_two_batches_in_flight_are_requeued_in_their_order(
    redis: Redis, work: Work, monkeypatch: pytest.MonkeyPatch, wait_seconds: float
) -> None:
    monkeypatch.setattr("signalcraft.worker.batch_worker._POLL_INTERVAL_SECONDS", wait_seconds)
    deliveries = [accepted() for _ in range(5)]
    enqueue_deliveries(redis, *deliveries)

    def record(_: processor.Batch) -> processor.Outcome:
        wait_until(lambda: redis.zcard("rq:wip:alerts") == 4)  # the next batch is claimed
        time.sleep(0.1)  # and renewed
        raise KeyboardInterrupt  # like a crash: nothing is finished or released

    work(stages=stages(record=record), batch_size=2)  # RQ's loop ends without an error
    assert redis.zcard("rq:wip:alerts") == 4
    for entry, score in redis.zscan_iter("rq:wip:alerts"):
        redis.zadd("rq:wip:alerts", {entry: score - 3600})
    StartedJobRegistry("alerts", connection=redis, serializer=JSONSerializer, job_class=AllowedJob).cleanup()
    waiting = [name.decode() for name in redis.lrange("rq:queue:alerts", 0, -1)]
    assert waiting == [delivery.delivery_id for delivery in deliveries]


@pytest.mark.parametrize("function", ["os.system", "signalcraft.tasks.configure_worker", "no.such.thing"])
def test_a_job_that_names_another_function_never_runs(redis: Redis, work: Work, function: str) -> None:
    planted = jobs.queue(redis, jobs.ALERTS).enqueue(function, "echo", job_id="planted")
    enqueue_deliveries(redis, accepted())
    work()
    assert count_events() == 1
    assert jobs.queue(redis, jobs.ALERTS).failed_job_registry.get_job_ids() == [planted.id]


def test_the_line_of_a_delivery_with_many_alerts_counts_them(redis: Redis, work: Work) -> None:
    body = (
        b'[{"title": "Disk full", "status": "firing", "id": 1}, {"title": "Disk full", "status": "firing", "id": 2}, 3]'
    )
    like = accepted()
    many = replace(like, source="generic", resource="alert", delivery=replace(like.delivery, headers={}, body=body))
    enqueue_deliveries(redis, many)
    with capture_logs() as lines:
        work()
    (line,) = (line for line in lines if line["event"] == "delivery processed")
    assert (line["delivery_id"], line["alerts"], line["dead_letters"]) == (many.delivery_id, 2, 1)
    assert [letter.delivery_id for letter in failed()] == [f"{many.delivery_id}:body[2]"]


def test_a_job_whose_argument_is_no_delivery_fails_alone(redis: Redis, work: Work) -> None:
    jobs.queue(redis, jobs.ALERTS).enqueue(jobs.PROCESS_DELIVERY, {"body": 1}, job_id="planted")
    enqueue_deliveries(redis, accepted())
    work()
    assert count_events() == 1
    assert jobs.queue(redis, jobs.ALERTS).failed_job_registry.get_job_ids() == ["planted"]


def test_a_new_group_wakes_the_notifier_by_one_job_and_an_alert_that_joins_by_none(redis: Redis, work: Work) -> None:
    queue = jobs.queue(redis, jobs.NOTIFICATIONS)
    enqueue_deliveries(redis, accepted(issue="1"), accepted(issue="2"))
    work()
    enqueue_deliveries(redis, accepted(issue="3"))
    work()
    assert [job.args for job in queue.jobs] == [[{}]]
    queue.empty()
    enqueue_deliveries(redis, accepted(issue="1"))
    work()
    assert queue.jobs == []


@pytest.mark.usefixtures("redis")
def test_while_redis_is_unavailable_what_happened_is_kept_for_the_notifier(settings: Settings) -> None:
    processor = tasks.configure_worker(settings, redis_clients.for_web("redis://127.0.0.1:1/0"))
    with capture_logs() as lines:
        processor.process([accepted()])
    assert [line["event"] for line in lines if line["log_level"] != "info"] == []
    with session():
        (happening,) = Happening.select()
    assert (happening.kind, happening.routed_at) == ("opened", None)


@pytest.fixture
def worker_process(environ: dict[str, str], redis: Redis) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:  # noqa: ARG001 - for the workspace
    """Return a function that starts ``python worker.py``; kill what still runs at the end."""
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


def test_a_worker_exits_within_seconds_of_a_stop_request(
    redis: Redis,
    worker_process: Callable[[], subprocess.Popen[bytes]],
) -> None:
    process = worker_process()
    enqueue_deliveries(redis, accepted())
    wait_until(lambda: count_events() == 1, seconds=15)
    process.terminate()
    assert process.wait(timeout=10) == 0


@pytest.mark.parametrize("variable", ["RULES", "NOTIFIER"])
def test_a_rule_or_notifier_that_cannot_be_imported_ends_the_start_with_one_line(
    environ: dict[str, str], variable: str
) -> None:
    command = [sys.executable, "worker.py", "--burst"]
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | environ | {variable: "no.such"}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [f"{variable} names no.such, which cannot be imported: No module named 'no'."]


def test_the_jobs_of_a_killed_worker_are_processed_within_30_seconds(
    redis: Redis,
    worker_process: Callable[[], subprocess.Popen[bytes]],
) -> None:
    with session(), database.atomic():
        # This lock blocks the worker at the insert of events.
        database.execute_sql("LOCK TABLE alert_event IN ACCESS EXCLUSIVE MODE")
        enqueue_deliveries(redis, *(accepted() for _ in range(5)))
        process = worker_process()
        wait_until(lambda: redis.zcard("rq:wip:alerts") >= 1, seconds=15)
        process.kill()
        process.wait()
    worker_process()
    wait_until(lambda: count_events() == 5, seconds=30)


@pytest.mark.parametrize("shift", [3600, -3600], ids=["ahead", "behind"])
def test_a_worker_whose_clock_is_off_keeps_its_jobs_while_it_lives_and_not_longer(
    redis: Redis,
    worker_process: Callable[..., subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    shift: int,
) -> None:
    """By its own clock its lease ended in an hour, or an hour ago."""
    monkeypatch.setenv("CLOCK_SHIFT_SECONDS", str(shift))
    with session(), database.atomic():
        database.execute_sql("LOCK TABLE alert_event IN ACCESS EXCLUSIVE MODE")
        enqueue_deliveries(redis, *(accepted() for _ in range(5)))
        process = worker_process("tests/support/shifted_worker.py")
        wait_until(lambda: redis.zcard("rq:wip:alerts") == 5, seconds=15)
        time.sleep(1.5)  # the lease is renewed meanwhile
        BatchWorker(jobs.ALERTS, connection=redis, stages=tasks.processor(), batch_size=9).clean_registries()
        assert redis.zcard("rq:wip:alerts") == 5
        process.kill()
        process.wait()
    worker_process()
    wait_until(lambda: count_events() == 5, seconds=30)


def test_a_lease_that_ends_in_an_hour_ends_in_seconds(redis: Redis, work: Work) -> None:
    """As a worker of an earlier release left it, whose clock was an hour ahead."""
    deliveries = [accepted() for _ in range(3)]
    enqueue_deliveries(redis, *deliveries)
    lease = Lease.acquire("", JobQueue(jobs.ALERTS, connection=redis), worker_name="dead", limit=9)
    for entry, score in redis.zrange("rq:wip:alerts", 0, -1, withscores=True):
        redis.zadd("rq:wip:alerts", {entry: score + 3600})
    work()
    first, *_, last = (score for _, score in redis.zrange("rq:wip:alerts", 0, -1, withscores=True, desc=True))
    assert lease.ends_at < last < first < lease.ends_at + 15
