"""Whatever somebody else wrote into the keys of RQ and of us: our jobs are processed and recovered all the same."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import DataError, RedisError, ResponseError
from structlog.testing import capture_logs

import worker as worker_module
from signalcraft import metrics, tasks
from signalcraft.cli.main import main
from signalcraft.domain.errors import QueueUnavailable
from signalcraft.ingest.credential_cache import CredentialCache
from signalcraft.queues import backlog, enqueue, jobs, leases, quarantine
from signalcraft.settings import Settings
from signalcraft.storage.database import session
from signalcraft.storage.delivery_models import FailedDelivery
from signalcraft.storage.models import AlertEvent
from signalcraft.web import health, prometheus
from signalcraft.worker.queue_worker import JobQueue
from tests.support import web_client
from tests.support.builders import accepted

FOREIGN = b"\xff\xfe no id"


@pytest.fixture
def settings(environ: dict[str, str], clean_redis: Redis) -> Settings:
    web_client.add_workspace()
    settings = Settings.from_environ(environ)
    tasks.configure_worker(settings, clean_redis)
    return settings


def work(settings: Settings, queue: str = jobs.ALERTS) -> None:
    """Run one worker as ``worker.py`` does, until the queue is empty or the worker ends."""
    build = {jobs.ALERTS: worker_module._batch_worker, jobs.NOTIFICATIONS: worker_module._notification_worker}[queue]
    with suppress(RedisError):
        built = build(settings)
        quarantine.move_keys_of_other_types(built.connection)
        built.work(burst=True)
    built.connection.connection_pool.disconnect()


def stored() -> tuple[int, int]:
    """Return the number of events and of dead letters."""
    with session():
        return AlertEvent.select().count(), FailedDelivery.select().count()


def put_jobs(redis: Redis) -> None:
    """Put one job into each place where a job can be: two are neighbours in the queue of what is planted there."""
    waiting, last, claimed, popped, failed = (accepted() for _ in range(5))
    for delivery in (waiting, last, claimed, popped, failed):
        enqueue.enqueue_once(redis, delivery, ttl_seconds=60)
    for delivery in (claimed, popped, failed):
        redis.lrem("rq:queue:alerts", 1, delivery.delivery_id)
    redis.hset(f"rq:job:{claimed.delivery_id}", "status", "started")
    redis.zadd("rq:wip:alerts", {f"{claimed.delivery_id}:lease": 1})
    redis.rpush("rq:queue:alerts:intermediate", popped.delivery_id)
    redis.set(f"rq:queue:alerts:intermediate:first_seen:{popped.delivery_id}", 1)
    redis.zadd("rq:failed:alerts", {failed.delivery_id: 2e10})


def run(environ: dict[str, str], *arguments: str) -> str:
    result = CliRunner().invoke(main, arguments, env=environ, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_an_id_that_is_no_utf8_does_not_keep_the_jobs_of_a_dead_worker(settings: Settings, clean_redis: Redis) -> None:
    deliveries = [accepted() for _ in range(4)]
    for delivery in deliveries:
        enqueue.enqueue_once(clean_redis, delivery, ttl_seconds=60)
    clean_redis.linsert("rq:queue:alerts", "BEFORE", deliveries[2].delivery_id, FOREIGN.decode("latin-1"))
    clean_redis.linsert("rq:queue:alerts", "BEFORE", deliveries[2].delivery_id, FOREIGN)  # type: ignore[arg-type]
    lease = leases.Lease.acquire("", JobQueue(jobs.ALERTS, connection=clean_redis), worker_name="dead", limit=9)
    assert len(lease.jobs) == 4
    for entry, score in clean_redis.zrange("rq:wip:alerts", 0, -1, withscores=True):
        clean_redis.zadd("rq:wip:alerts", {entry: score - 60})
    for _ in range(4):  # jobs that were claimed before are claimed one by one
        work(settings)
    assert stored() == (4, 0)


def test_what_is_no_job_id_is_skipped_logged_once_counted_and_quarantined_by_command(
    settings: Settings, clean_redis: Redis, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "_logged", set())
    clean_redis.rpush("rq:queue:alerts", FOREIGN)
    clean_redis.zadd("rq:wip:alerts", {b"\xfe:lease": 1})
    clean_redis.zadd("rq:failed:alerts", {b"\xfd": 2e10})
    clean_redis.set("rq:job:planted", "no hash")
    clean_redis.hset("rq:job:half", "origin", "alerts")
    with capture_logs() as lines:
        for _ in range(3):
            work(settings)
    skipped = [(line["key"], line["entry"]) for line in lines if line["event"] == "unreadable entry skipped"]
    assert skipped == [
        ("rq:wip:alerts", "\\xfe:lease"),
        ("rq:failed:alerts", "\\xfd"),
        ("rq:queue:alerts:intermediate", "\\xff\\xfe no id"),
    ]
    assert backlog.unreadable_entries(clean_redis)[jobs.ALERTS,] == 3
    assert "5 entries are not ours and are skipped: `reconcile --quarantine` moves them." in run(environ, "reconcile")
    assert "5 entries that are not ours were moved" in run(environ, "reconcile", "--quarantine")
    assert run(environ, "reconcile", "--quarantine") == "0 jobs were put back.\n"
    work(settings)
    assert backlog.unreadable_entries(clean_redis)[jobs.ALERTS,] == 0
    kept = clean_redis.keys(f"{quarantine.PREFIX}*")
    assert len(kept) == 5
    assert clean_redis.lrange(f"{quarantine.PREFIX}rq:queue:alerts:intermediate", 0, -1) == [FOREIGN]
    assert all(0 < clean_redis.ttl(key) <= 30 * 86_400 for key in kept)


@pytest.mark.parametrize("key", ["rq:queues", "rq:workers", "rq:queue:alerts", "rq:wip:alerts", "rq:failed:alerts"])
def test_a_key_of_another_type_is_quarantined_by_the_worker(settings: Settings, clean_redis: Redis, key: str) -> None:
    clean_redis.set(key, "somebody's")
    with capture_logs() as lines:
        work(settings)
    put_jobs(clean_redis)
    for _ in range(3):
        work(settings)
    assert [line["key"] for line in lines if line["event"] == "key of another type quarantined"] == [key]
    (kept,) = clean_redis.keys(f"{quarantine.PREFIX}*")
    assert clean_redis.get(kept) == b"somebody's"
    assert stored() == (4, 1)


def test_a_planted_key_without_an_end_keeps_nobody_from_maintenance(clean_redis: Redis) -> None:
    clean_redis.set("signalcraft:chores", "1")
    assert leases.once_per(clean_redis, "signalcraft:chores", seconds=60)
    assert not leases.once_per(clean_redis, "signalcraft:chores", seconds=60)


@pytest.mark.parametrize("planted", [b"\xff", b""])
def test_a_delivery_key_that_names_no_delivery_refuses_none(clean_redis: Redis, planted: bytes) -> None:
    delivery = accepted()
    clean_redis.set(enqueue._delivery_key(delivery), planted)
    assert not enqueue.enqueue_once(clean_redis, delivery, ttl_seconds=60).is_duplicate
    again = replace(delivery, delivery_id="f" * 32)
    assert enqueue.enqueue_once(clean_redis, again, ttl_seconds=60).is_duplicate


@pytest.mark.parametrize(
    ("field", "amount"),
    [
        (b"\xff", b"1"),
        (b"no JSON", b"1"),
        (b"{}", b"1"),
        (b"[[]]", b"1"),
        (b'["signalcraft_alerts_total", {}, ""]', b"1"),
        (b'["signalcraft_rejected_total", "\\ud800", ""]', b"1"),
        (b"[" * 100_000, b"1"),
        (b'["signalcraft_duplicates_total", ""]', b"no number"),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_a_field_of_somebody_else_hides_no_other_metric(
    settings: Settings, clean_redis: Redis, field: bytes, amount: bytes
) -> None:
    clean_redis.hset(metrics.SUMS, field, amount)
    registry = metrics.Registry(metrics.DECLARED)
    registry.count("signalcraft_duplicates_total", 2)
    registry.count("signalcraft_alerts_total", 3)
    assert registry.flush(clean_redis)
    text = prometheus.as_text(clean_redis, health.gauges(clean_redis, CredentialCache(settings)))
    assert "signalcraft_alerts_total 3.0" in text
    assert "signalcraft_duplicates_total 2.0" in text


@dataclass(frozen=True)
class Planting:
    """A write of somebody else; ``kind`` is a type of Redis."""

    key: bytes
    kind: str
    entry: bytes
    value: bytes
    score: float

    def write(self, redis: Redis) -> None:
        with suppress(ResponseError, DataError):  # the key has another type, or Redis takes no such score
            match self.kind:
                case "string":
                    if not redis.exists(self.key):
                        redis.set(self.key, self.value)
                case "list":
                    redis.lpush(self.key, self.entry)
                    redis.rpush(self.key, self.value)
                case "set":
                    redis.sadd(self.key, self.entry)
                case "zset":
                    redis.zadd(self.key, {self.entry: self.score})
                case "hash":
                    redis.hset(self.key, self.entry, self.value)
                case _:
                    redis.xadd(self.key, {self.entry: self.value})


_PLACES = [
    f"rq:{place}:{queue}"
    for place in ("queue", "wip", "failed", "scheduled", "deferred", "finished", "canceled", "ready", "workers")
    for queue in (jobs.ALERTS, jobs.NOTIFICATIONS)
]
_KEYS: Sequence[str] = [
    *_PLACES,
    *("rq:queue:alerts:intermediate", "rq:queue:notifications:intermediate", "rq:clean_registries:alerts"),
    *("rq:queues", "rq:workers", "rq:groups", "rq:clean_groups", "rq:rl-keys", "rq:group:x"),
    *(
        "rq:job:planted",
        "rq:job:planted:dependents",
        "rq:results:planted",
        "rq:executions:planted",
        "rq:worker:planted",
    ),
    *("signalcraft:metrics", "signalcraft:unreadable:alerts", "signalcraft:chores", "signalcraft:written"),
    "rq:queue:alerts:intermediate:first_seen:planted",
]
_ENTRIES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [b"planted", b"planted:lease", b"rq:worker:planted", b"a:b:c", b":", b"\xff:lease", b"-", b"nobody"]
    ),
)
_SCORES = st.one_of(st.floats(allow_nan=False), st.sampled_from([0, 1, 2e10]))
_FIELDS = st.sampled_from(
    [
        "data",
        "status",
        "origin",
        "created_at",
        "enqueued_at",
        "started_at",
        "ended_at",
        "timeout",
        "retries_left",
        "retry_intervals",
        "result_ttl",
        "failure_ttl",
        "meta",
        "exc_info",
        "description",
        "worker_name",
        "dependency_ids",
        "webhooks",
        "group_id",
        "repeats_left",
    ]
)
_PLANTED_JOBS = st.builds(
    lambda field, value: Planting(b"rq:job:planted", "hash", field.encode(), value, 0), _FIELDS, st.binary(max_size=12)
)
_PLANTINGS = st.one_of(
    st.builds(
        Planting,
        key=st.one_of(st.sampled_from([key.encode() for key in _KEYS]), st.binary(max_size=4).map(b"rq:job:".__add__)),
        kind=st.sampled_from(["string", "list", "set", "zset", "hash", "stream"]),
        entry=_ENTRIES,
        value=_ENTRIES,
        score=_SCORES,
    ),
    _PLANTED_JOBS,
    st.builds(lambda entry: Planting(b"rq:queue:alerts", "list", entry, entry, 0), _ENTRIES),
    st.builds(lambda entry, score: Planting(b"rq:wip:alerts", "zset", entry, b"", score), _ENTRIES, _SCORES),
)


@hypothesis_settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(before=st.lists(_PLANTINGS, max_size=6), after=st.lists(_PLANTINGS, min_size=1, max_size=6))
def test_whatever_is_planted_our_jobs_are_stored_and_no_command_fails(
    settings: Settings, clean_redis: Redis, environ: dict[str, str], before: list[Planting], after: list[Planting]
) -> None:
    clean_redis.flushdb()
    events, dead_letters = stored()
    for planting in before:
        planting.write(clean_redis)
    work(settings)  # keys of another type are moved
    put_jobs(clean_redis)
    enqueue.enqueue_notification(clean_redis, {"reason": "new"}, description="ours")
    for planting in after:
        planting.write(clean_redis)
    for _ in range(3):
        work(settings)
        work(settings, jobs.NOTIFICATIONS)
    assert stored() == (events + 4, dead_letters + 1)
    assert not clean_redis.exists("rq:queue:notifications")
    with suppress(QueueUnavailable):
        backlog.heartbeat_seconds(clean_redis, jobs.ALERTS)
        backlog.backlog(clean_redis, jobs.ALERTS)
    gauges = health.gauges(clean_redis, CredentialCache(settings))
    assert "signalcraft_alerts_total" in prometheus.as_text(clean_redis, gauges)
    for arguments in chain([["reconcile"]], [["reconcile", "--quarantine"]] * 2):
        output = run(environ, *arguments)
    assert output == "0 jobs were put back.\n"
