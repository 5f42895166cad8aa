"""What both kinds of worker share: pauses while Redis is unavailable, and times by Redis's clock."""

import time

import pytest
from redis import Redis
from rq import Worker

from signalcraft.queues import backlog, enqueue, jobs
from signalcraft.queues.jobs import WORKER_TTL_SECONDS
from signalcraft.worker.queue_worker import QueueWorker


@pytest.fixture
def worker(clean_redis: Redis) -> QueueWorker:
    return QueueWorker(jobs.NOTIFICATIONS, connection=clean_redis, lease_seconds=100)


def test_the_pauses_between_attempts_to_reach_redis_are_short_and_vary(worker: QueueWorker) -> None:
    pauses = [worker.max_connection_wait_time for _ in range(100)]
    assert 0.5 <= min(pauses) < max(pauses) <= 1.5


def test_a_job_that_rq_runs_is_claimed_until_a_time_of_redis(
    worker: QueueWorker, clean_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rq.registry.current_timestamp", lambda: int(time.time()) + 3600)
    enqueue.enqueue_notification(clean_redis, {"reason": "new"}, description="a notification")
    (job,) = worker.queues[0].jobs
    worker.prepare_execution(job)
    ((_, ends_at),) = clean_redis.zrange("rq:wip:notifications", 0, -1, withscores=True)
    assert 95 < ends_at - time.time() < 105


def test_a_heartbeat_ages_by_the_clock_of_redis(worker: QueueWorker, clean_redis: Redis) -> None:
    assert backlog.heartbeat_seconds(clean_redis, jobs.NOTIFICATIONS) is None
    worker.register_birth()  # type: ignore[no-untyped-call] # RQ's
    clean_redis.hset(worker.key, "last_heartbeat", "2000-01-01T00:00:00.000000Z")
    worker.heartbeat()
    ttl = WORKER_TTL_SECONDS + 60
    assert ttl - 5 < clean_redis.ttl(worker.key) <= ttl, "RQ's rule, by which the age is known"
    clean_redis.hset(worker.key, "last_heartbeat", "2000-01-01T00:00:00.000000Z")
    assert backlog.heartbeat_seconds(clean_redis, jobs.NOTIFICATIONS) == pytest.approx(0, abs=5)
    clean_redis.expire(worker.key, WORKER_TTL_SECONDS + 60 - 30)
    assert backlog.heartbeat_seconds(clean_redis, jobs.NOTIFICATIONS) == pytest.approx(30, abs=5)


def test_a_worker_that_redis_has_forgotten_registers_again(worker: QueueWorker, clean_redis: Redis) -> None:
    worker.register_birth()  # type: ignore[no-untyped-call] # RQ's
    clean_redis.flushall()
    worker.heartbeat()
    assert backlog.heartbeat_seconds(clean_redis, jobs.NOTIFICATIONS) is None
    worker.clean_registries()
    assert backlog.heartbeat_seconds(clean_redis, jobs.NOTIFICATIONS) == pytest.approx(0, abs=5)
    (found,) = Worker.all(clean_redis)
    assert (found.name, found.queue_names()) == (worker.name, [jobs.NOTIFICATIONS])
