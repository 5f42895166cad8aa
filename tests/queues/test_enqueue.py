"""Enqueueing: one script, ordinary RQ jobs, each delivery once."""

import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from rq import Callback, Queue, Retry
from rq.serializers import JSONSerializer
from rq.utils import as_text, utcformat
from rq.webhook import Webhook

from signalcraft.dev import embedded_servers
from signalcraft.domain.errors import QueueUnavailable
from signalcraft.queues import backlog as queues_backlog
from signalcraft.queues import enqueue, jobs, redis_clients
from signalcraft.queues.jobs import AllowedJob, ForbiddenJob
from signalcraft.resilience import CircuitBreaker
from tests.support.builders import accepted
from tests.support.stopwatch import stopwatch

_TIMES = ("created_at", "enqueued_at")
#: Fields that are not written, of all jobs and of a delivery's job.
_OMITTED = ("retry_intervals", "timeout", "result_ttl")
_OMITTED_OF_DELIVERIES = ("failure_ttl",)


def queued(redis: Redis) -> list[str]:
    return [as_text(job_id) for job_id in redis.lrange("rq:queue:alerts", 0, -1)]


def fields_of(redis: Redis, job_id: str) -> dict[str, Any]:
    """Return the fields of a job with ``data`` decompressed and parsed: compression level and whitespace may differ."""
    fields = {as_text(name): value for name, value in redis.hgetall(f"rq:job:{job_id}").items()}
    fields["data"] = json.loads(zlib.decompress(fields["data"]))
    return {name: value for name, value in fields.items() if name not in _TIMES}


def written(fields: dict[str, Any], *omitted: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value and name not in (*_OMITTED, *omitted)}


@pytest.mark.parametrize("size", [6_500, 300_000], ids=["as most are", "serialized in pieces"])
def test_a_job_has_the_fields_that_rq_writes_except_for_empty_and_default_ones(clean_redis: Redis, size: int) -> None:
    delivery = accepted(size=size)
    enqueue.enqueue_once(clean_redis, delivery, ttl_seconds=60)
    ours = fields_of(clean_redis, delivery.delivery_id)
    our_queue, our_queues = queued(clean_redis), clean_redis.smembers("rq:queues")
    clean_redis.flushdb()
    Queue("alerts", connection=clean_redis, serializer=JSONSerializer).enqueue(
        "signalcraft.tasks.process_delivery",
        delivery.as_job_argument(),
        job_id=delivery.delivery_id,
        job_timeout=jobs.JOB_TIMEOUT_SECONDS,
        result_ttl=0,
        failure_ttl=jobs.FAILURE_TTL_SECONDS,
        retry=Retry(max=jobs.MAX_RETRIES, enqueue_at_front=True),
        description="sentry event_alert",
    )
    assert ours == written(fields_of(clean_redis, delivery.delivery_id), *_OMITTED_OF_DELIVERIES)
    assert our_queue == queued(clean_redis)
    assert our_queues == clean_redis.smembers("rq:queues")
    assert clean_redis.ttl(f"rq:job:{delivery.delivery_id}") == -1


def test_a_notification_has_the_fields_that_rq_writes(clean_redis: Redis) -> None:
    notification = {"reason": "new", "group_id": 7}
    enqueue.enqueue_notification(clean_redis, notification, description="new group 7")
    (job_id,) = clean_redis.lrange("rq:queue:notifications", 0, -1)
    ours, ttl = fields_of(clean_redis, job_id.decode()), clean_redis.ttl(f"rq:job:{job_id.decode()}")
    our_queues = clean_redis.smembers("rq:queues")
    clean_redis.flushdb()
    Queue("notifications", connection=clean_redis, serializer=JSONSerializer).enqueue(
        "signalcraft.tasks.notify",
        notification,
        job_id=job_id.decode(),
        ttl=enqueue.NOTIFY_TTL_SECONDS,
        result_ttl=0,
        failure_ttl=enqueue.NOTIFY_TTL_SECONDS,
        description="new group 7",
    )
    assert ours == written(fields_of(clean_redis, job_id.decode()))
    assert our_queues == clean_redis.smembers("rq:queues")
    assert ttl == clean_redis.ttl(f"rq:job:{job_id.decode()}")


def test_omitted_fields_have_their_defaults_when_a_job_is_read(clean_redis: Redis) -> None:
    delivery = accepted()
    enqueue.enqueue_once(clean_redis, delivery, ttl_seconds=60)
    job = jobs.queue(clean_redis, jobs.ALERTS).fetch_job(delivery.delivery_id)
    assert job is not None
    assert (job.timeout, job.result_ttl, job.retries_left) == (jobs.JOB_TIMEOUT_SECONDS, 0, jobs.MAX_RETRIES)
    assert (job.get_retry_interval(), job.enqueued_at) == (0, job.created_at)
    assert (job.failure_ttl, job.enqueue_at_front_on_retry) == (jobs.FAILURE_TTL_SECONDS, True)


def test_a_waiting_job_takes_little_memory_besides_its_compressed_body(clean_redis: Redis) -> None:
    """The average counts, because Redis rounds up each allocation. ``bench`` measures it over a thousand jobs."""
    deliveries = [accepted() for _ in range(100)]
    for delivery in deliveries:
        enqueue.enqueue_once(clean_redis, delivery, ttl_seconds=60)
        assert len(clean_redis.hgetall(f"rq:job:{delivery.delivery_id}")) <= 8, "a ninth field doubles the table"
    keys = [key for key in clean_redis.scan_iter() if key.startswith((b"rq:job:", b"signalcraft:delivery:"))]
    assert len(keys) == 2 * len(deliveries)
    used = sum(clean_redis.memory_usage(key, samples=0) or 0 for key in keys)
    bodies = sum(len(zlib.compress(delivery.delivery.body)) for delivery in deliveries)
    assert (used - bodies) / len(deliveries) < 1_500


def test_the_times_of_a_job_are_written_as_rq_writes_them(clean_redis: Redis) -> None:
    delivery = accepted()
    enqueue.enqueue_once(clean_redis, delivery, ttl_seconds=60)
    job = jobs.queue(clean_redis, jobs.ALERTS).fetch_job(delivery.delivery_id)
    assert job is not None
    assert job.enqueued_at is not None
    assert abs(datetime.now(UTC) - job.enqueued_at) < timedelta(seconds=5)


def test_a_second_delivery_with_the_same_key_is_a_duplicate_and_gets_the_id_of_the_first(clean_redis: Redis) -> None:
    first, second = accepted(event_id="a" * 32), accepted(event_id="a" * 32)
    assert enqueue.enqueue_once(clean_redis, first, ttl_seconds=60) == enqueue.EnqueueResult(
        is_duplicate=False, delivery_id=first.delivery_id
    )
    again = enqueue.enqueue_once(clean_redis, second, ttl_seconds=60)
    assert again == enqueue.EnqueueResult(is_duplicate=True, delivery_id=first.delivery_id)
    assert queued(clean_redis) == [first.delivery_id]
    assert not clean_redis.exists(f"rq:job:{second.delivery_id}")


def test_a_delivery_key_expires(clean_redis: Redis) -> None:
    enqueue.enqueue_once(clean_redis, accepted(event_id="a" * 32), ttl_seconds=60)
    (key,) = clean_redis.keys("signalcraft:delivery:*")
    assert 0 < clean_redis.ttl(key) <= 60


def test_a_failed_enqueue_leaves_no_delivery_key(clean_redis: Redis) -> None:
    clean_redis.set("rq:queue:alerts", "not a list")
    with pytest.raises(QueueUnavailable):
        enqueue.enqueue_once(clean_redis, accepted(), ttl_seconds=60)
    assert clean_redis.keys("signalcraft:delivery:*") == []


def test_a_delivery_whose_first_reply_was_lost_is_no_duplicate_of_itself(clean_redis: Redis) -> None:
    delivery = accepted()
    for _ in range(2):
        assert not enqueue.enqueue_once(clean_redis, delivery, ttl_seconds=60).is_duplicate
    assert clean_redis.lrange("rq:queue:alerts", 0, -1) == [delivery.delivery_id.encode()]


def test_the_script_is_loaded_again_after_a_script_flush(clean_redis: Redis) -> None:
    clean_redis.script_flush()
    assert not enqueue.enqueue_once(clean_redis, accepted(), ttl_seconds=60).is_duplicate


def test_a_delivery_is_enqueued_although_redis_has_closed_the_connection_of_the_thread(clean_redis: Redis) -> None:
    enqueue.enqueue_once(clean_redis, accepted(event_id="a" * 32), ttl_seconds=60)
    clean_redis.client_kill_filter(_type="normal", skipme=True)
    assert not enqueue.enqueue_once(clean_redis, accepted(event_id="b" * 32), ttl_seconds=60).is_duplicate
    assert clean_redis.llen("rq:queue:alerts") == 2


def test_a_job_description_has_no_event_data(clean_redis: Redis) -> None:
    delivery = accepted(title="CanaryError: do not log me")
    enqueue.enqueue_once(clean_redis, delivery, ttl_seconds=60)
    description = fields_of(clean_redis, delivery.delivery_id)["description"]
    assert as_text(description) == "sentry event_alert"


@pytest.fixture
def frozen(servers: embedded_servers.Servers) -> Iterator[embedded_servers.Servers]:
    servers.redis.freeze()
    try:
        yield servers
    finally:
        servers.redis.thaw()


def test_a_frozen_redis_takes_half_a_second_at_most(frozen: embedded_servers.Servers) -> None:
    with redis_clients.for_web(frozen.redis_url) as redis:
        for _ in range(2):
            with stopwatch() as watch, pytest.raises(QueueUnavailable):
                enqueue.enqueue_once(redis, accepted(), ttl_seconds=60)
            assert watch.seconds < 0.55


def test_all_replies_of_a_slow_redis_together_take_half_a_second_at_most(redis_url: str) -> None:
    """Each reply alone is within the timeout: AUTH, SELECT, EVALSHA and EVAL."""
    url = urlsplit(redis_url)
    with slowed(url.hostname or "", url.port or 0, seconds=0.2) as port:
        slow = url._replace(netloc=f"{url.netloc.rpartition(':')[0]}:{port}", path="/3").geturl()
        with redis_clients.for_web(slow) as redis:
            with stopwatch() as watch, pytest.raises(QueueUnavailable):
                enqueue.enqueue_once(redis, accepted(), ttl_seconds=60)
            assert watch.seconds < 0.6


@contextmanager
def slowed(host: str, port: int, *, seconds: float) -> Iterator[int]:
    """Run a proxy whose responses are delayed by ``seconds``; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def forward(source: socket.socket, target: socket.socket, pause: float) -> None:
            with suppress(OSError):
                while chunk := source.recv(65_536):
                    time.sleep(pause)
                    target.sendall(chunk)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    upstream = socket.create_connection((host, port))
                    for source, target, pause in ((client, upstream, 0.0), (upstream, client, seconds)):
                        threading.Thread(target=forward, args=(source, target, pause), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield int(server.getsockname()[1])


def test_a_redis_that_refuses_connections_takes_next_to_no_time() -> None:
    with redis_clients.for_web("redis://127.0.0.1:1/0") as redis:
        with stopwatch() as watch, pytest.raises(QueueUnavailable):
            enqueue.enqueue_once(redis, accepted(), ttl_seconds=60)
        assert watch.seconds < 0.25


def test_a_redis_that_refuses_writes_is_unavailable(clean_redis: Redis) -> None:
    clean_redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(QueueUnavailable):
            enqueue.enqueue_once(clean_redis, accepted(), ttl_seconds=60)
    finally:
        clean_redis.config_set("maxmemory", "0")
    assert not enqueue.enqueue_once(clean_redis, accepted(), ttl_seconds=60).is_duplicate


def test_a_self_signed_certificate_is_accepted_unless_the_url_requires_verification() -> None:
    for connect in (redis_clients.for_web, redis_clients.for_worker):
        with connect("rediss://localhost") as lenient, connect("rediss://localhost?ssl_cert_reqs=required") as strict:
            assert lenient.connection_pool.connection_kwargs["ssl_cert_reqs"] == "none"
            assert strict.connection_pool.connection_kwargs["ssl_cert_reqs"] == "required"


def test_a_backlog_has_a_depth_and_the_age_of_its_oldest_job_by_the_clock_of_redis(clean_redis: Redis) -> None:
    assert queues_backlog.backlog(clean_redis, jobs.ALERTS) == queues_backlog.Backlog(depth=0, oldest_seconds=0)
    first = accepted()
    enqueue.enqueue_once(clean_redis, first, ttl_seconds=60)
    enqueue.enqueue_once(clean_redis, accepted(), ttl_seconds=60)
    backlog = queues_backlog.backlog(clean_redis, jobs.ALERTS)
    assert backlog.depth == 2
    assert 0 <= backlog.oldest_seconds < 5
    earlier = utcformat(datetime.now(UTC) - timedelta(seconds=100))
    clean_redis.hset(f"rq:job:{first.delivery_id}", "created_at", earlier)
    assert 100 <= queues_backlog.backlog(clean_redis, jobs.ALERTS).oldest_seconds < 105


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 12, 31)))  # noqa: DTZ001 - Hypothesis wants them so
def test_a_job_is_created_at_the_time_of_redis_as_rq_writes_it(clean_redis: Redis, moment: datetime) -> None:
    seconds, microseconds = int(moment.replace(tzinfo=UTC).timestamp()), moment.microsecond
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)
    script = enqueue._NOW.replace('redis.call("TIME")', "ARGV") + "return now()"
    assert as_text(clean_redis.eval(script, 0, seconds, microseconds)) == utcformat(moment)


def plant(redis: Redis, function: str = jobs.PROCESS_DELIVERY, **options: Any) -> AllowedJob:  # noqa: ANN401 - as RQ takes them
    """Enqueue a job as a client with write access to Redis could, and return it as a worker reads it."""
    queue = Queue("alerts", connection=redis, serializer=JSONSerializer)
    planted = queue.enqueue(function, accepted().as_job_argument(), **options)
    job = AllowedJob.fetch(planted.id, connection=redis, serializer=JSONSerializer)
    assert isinstance(job, AllowedJob)
    return job


@pytest.mark.parametrize("function", [jobs.PROCESS_DELIVERY, jobs.NOTIFY])
def test_our_own_functions_may_run(clean_redis: Redis, function: str) -> None:
    job = plant(clean_redis, function)
    job.check()
    assert job.func_name == function


@pytest.mark.parametrize("function", ["os.system", "signalcraft.tasks.configure_worker", "builtins.eval"])
def test_no_other_function_may_run(clean_redis: Redis, function: str) -> None:
    job = plant(clean_redis, function)
    with pytest.raises(ForbiddenJob):
        job.check()
    with pytest.raises(ForbiddenJob):
        _ = job.func


@pytest.mark.parametrize("callback", ["on_success", "on_failure", "on_stopped"])
def test_a_callback_is_refused_and_dropped(clean_redis: Redis, callback: str) -> None:
    job = plant(clean_redis, jobs.NOTIFY, **{callback: Callback("os.system")})
    with pytest.raises(ForbiddenJob):
        job.check()
    assert (job.success_callback, job.failure_callback, job.stopped_callback) == (None, None, None)


def test_a_webhook_is_refused_and_dropped(clean_redis: Redis) -> None:
    job = plant(clean_redis)
    clean_redis.hset(job.key, "webhooks", json.dumps([Webhook("http://127.0.0.1:1/", "finished").to_dict()]))
    job.refresh()  # type: ignore[no-untyped-call] # RQ's
    with pytest.raises(ForbiddenJob):
        job.check()
    assert job.webhooks == []


def test_a_dependency_is_refused(clean_redis: Redis) -> None:
    job = plant(clean_redis)
    clean_redis.hset(job.key, "dependency_ids", json.dumps(["another"]))
    job.refresh()  # type: ignore[no-untyped-call] # RQ's
    with pytest.raises(ForbiddenJob):
        job.check()


@pytest.mark.parametrize("data", [b"[]", b"not JSON", b'["os.system"]'])
def test_a_job_that_cannot_be_read_is_refused(clean_redis: Redis, data: bytes) -> None:
    job = plant(clean_redis)
    clean_redis.hset(job.key, "data", data)
    job.refresh()  # type: ignore[no-untyped-call] # RQ's
    with pytest.raises(ForbiddenJob):
        job.check()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not compressed",
        zlib.compress(b"not json"),
        zlib.compress(b"[" * 100_000),
        zlib.compress(b'{"a": 1}'),
        zlib.compress(b'["os.system", null, ["true"], {}]'),
        zlib.compress(b'["signalcraft.tasks.process_delivery", null, [], {}]'),
        zlib.compress(b'["signalcraft.tasks.process_delivery", null, [{"delivery_id": "x"}], {}]'),
        zlib.compress(b'["signalcraft.tasks.process_delivery", 1, [{}], {}]'),
    ],
)
def test_data_that_is_no_delivery_is_refused(data: bytes) -> None:
    with pytest.raises(ForbiddenJob):
        jobs.read_delivery(data)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_breaker_is_open_for_a_pause_after_a_failure() -> None:
    clock = Clock()
    breaker = CircuitBreaker(QueueUnavailable, pause_seconds=2, clock=clock)
    with pytest.raises(QueueUnavailable, match="frozen"), breaker.guard():
        raise QueueUnavailable("frozen")
    with pytest.raises(QueueUnavailable, match="a moment ago"), breaker.guard():
        pytest.fail("called while open")
    clock.now = 2.0
    with breaker.guard():
        pass
    with breaker.guard():
        pass


def test_a_half_open_breaker_lets_one_caller_through() -> None:
    clock = Clock()
    breaker = CircuitBreaker(QueueUnavailable, pause_seconds=2, clock=clock)
    with pytest.raises(QueueUnavailable), breaker.guard():
        raise QueueUnavailable
    clock.now = 2.5
    with breaker.guard(), pytest.raises(QueueUnavailable), breaker.guard():
        pytest.fail("two at once")


def test_a_breaker_ignores_other_exceptions() -> None:
    breaker = CircuitBreaker(QueueUnavailable)
    with pytest.raises(ZeroDivisionError), breaker.guard():
        raise ZeroDivisionError
    with breaker.guard():
        pass
