"""A client with write access to Redis can stop the worker, but cannot make it run other code."""

import json
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rq.job
from redis import Redis
from rq import Callback, Queue, SimpleWorker
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker

import worker as worker_module
from signalcraft import tasks
from signalcraft.queues import enqueue, jobs
from signalcraft.queues.jobs import AllowedJob
from signalcraft.settings import Settings
from signalcraft.storage.database import session
from signalcraft.storage.models import AlertEvent
from tests.support import web_client
from tests.support.builders import accepted

Build = Callable[[Settings], BaseWorker]
WORKERS = [(jobs.ALERTS, worker_module._batch_worker), (jobs.NOTIFICATIONS, worker_module._notification_worker)]

both = pytest.mark.parametrize(("queue", "build"), WORKERS, ids=[name for name, _ in WORKERS])


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Path of a file that exists once the attacker's code has run."""
    return tmp_path / "ran"


@pytest.fixture
def settings(environ: dict[str, str], clean_redis: Redis) -> Settings:
    web_client.add_workspace()
    settings = Settings.from_environ(environ)
    tasks.configure_worker(settings, clean_redis)
    return settings


def work(build: Build, settings: Settings) -> None:
    built = build(settings)
    try:
        built.work(burst=True)
    finally:
        built.connection.connection_pool.disconnect()


def plant(redis: Redis, queue: str, function: str, *arguments: object, **options: Any) -> str:  # noqa: ANN401 - as RQ takes them
    planted = Queue(queue, connection=redis, serializer=JSONSerializer).enqueue(function, *arguments, **options)
    return str(planted.id)


def stored() -> int:
    with session():
        return int(AlertEvent.select().count())


@both
def test_a_worker_reads_jobs_as_allow_listed_ones_and_as_json(settings: Settings, queue: str, build: Build) -> None:
    built = build(settings)
    assert [read.name for read in built.queues] == [queue]
    assert built.job_class is AllowedJob
    assert built.serializer is JSONSerializer
    assert all(read.job_class is AllowedJob and read.serializer is JSONSerializer for read in built.queues)


@both
def test_a_function_that_is_not_ours_does_not_run(
    settings: Settings, clean_redis: Redis, trace: Path, queue: str, build: Build
) -> None:
    plant(clean_redis, queue, "pathlib.Path.touch", str(trace))
    plant(clean_redis, queue, "os.mkdir", str(trace))
    plant(clean_redis, queue, "os.system", f"touch {trace}")
    work(build, settings)
    assert not trace.exists()
    assert clean_redis.llen(f"rq:queue:{queue}") == 0


@both
@pytest.mark.parametrize("callback", ["on_success", "on_failure", "on_stopped"])
def test_a_callback_of_an_allowed_or_a_forbidden_job_does_not_run(
    settings: Settings, clean_redis: Redis, trace: Path, queue: str, build: Build, callback: str
) -> None:
    calling: dict[str, Any] = {callback: Callback("tests.queues.test_hostile_redis.leave_a_trace")}
    plant(clean_redis, queue, jobs.NOTIFY, {"reason": "x"}, meta={"trace": str(trace)}, **calling)
    plant(clean_redis, queue, "builtins.int", "no number", meta={"trace": str(trace)}, **calling)
    work(build, settings)
    assert not trace.exists()


def leave_a_trace(job: AllowedJob, *_: object) -> None:
    Path(job.meta["trace"]).touch()


@both
@pytest.mark.parametrize("field", ["data", "meta", "dependency_ids", "webhooks", "result", "worker_name"])
def test_a_pickle_in_a_job_is_never_unpickled_and_the_next_job_is_processed(
    settings: Settings, clean_redis: Redis, trace: Path, queue: str, build: Build, field: str
) -> None:
    pickled = pickle.dumps(Bomb(trace))
    for value in (pickled, zlib.compress(pickled)):
        job_id = plant(clean_redis, queue, jobs.NOTIFY, {"reason": "x"})
        clean_redis.hset(f"rq:job:{job_id}", field, value)
    good = accepted()
    enqueue.enqueue_once(clean_redis, good, ttl_seconds=60)
    for _ in range(3):  # an unreadable job may end a worker; the next one starts
        work(build, settings)
    assert not trace.exists()
    assert clean_redis.llen(f"rq:queue:{queue}") == 0
    assert stored() == (1 if queue == jobs.ALERTS else 0)


def test_the_pickle_runs_on_a_plain_worker(clean_redis: Redis, trace: Path) -> None:
    queue = Queue("plain", connection=clean_redis)
    job = queue.enqueue("builtins.len", "x")
    clean_redis.hset(job.key, "data", zlib.compress(pickle.dumps(Bomb(trace))))
    SimpleWorker([queue], connection=clean_redis).work(burst=True)
    assert trace.exists()


@both
def test_an_entry_that_is_no_job_does_not_stop_the_next_job(
    settings: Settings, clean_redis: Redis, queue: str, build: Build
) -> None:
    clean_redis.rpush(f"rq:queue:{queue}", "nowhere", "", b"\xff\xfe", "a:b")
    clean_redis.set("rq:job:a:b", "not a hash")
    enqueue.enqueue_once(clean_redis, accepted(), ttl_seconds=60)
    for _ in range(8):
        work(build, settings)
    assert clean_redis.llen(f"rq:queue:{queue}") == 0
    assert stored() == (1 if queue == jobs.ALERTS else 0)


@pytest.mark.parametrize("registry", ["wip", "failed"])
def test_an_unreadable_registry_does_not_stop_the_worker(settings: Settings, clean_redis: Redis, registry: str) -> None:
    clean_redis.zadd(f"rq:{registry}:{jobs.ALERTS}", {b"\xff\xfe:lease": 1 if registry == "wip" else 2**40})
    enqueue.enqueue_once(clean_redis, accepted(), ttl_seconds=60)
    work(worker_module._batch_worker, settings)
    assert stored() == 1


_BODY = {"action": "created", "data": {"error": {}}}


@pytest.mark.parametrize(
    "poison",
    [
        {"workspace_id": "x"},
        {"workspace_id": 2**63},
        {"workspace_id": True},
        {"delivery_id": "a\0b"},
        {"delivery_id": {}},
        {"delivery_key": None},
        {"resource": "a\0b"},
        {"workspace": 5},
        {"headers": {"sentry-hook-resource": 5}},
        {"headers": {"sentry-hook-resource": "\0"}},
        {"received_at": "2026-01-01T00:00:00"},
        {"received_at": "9999-12-31T23:59:59-23:59"},
    ],
    ids=str,
)
def test_a_job_that_cannot_be_dead_lettered_is_refused_and_does_not_affect_others(
    settings: Settings, clean_redis: Redis, poison: dict[str, object]
) -> None:
    argument = accepted().as_job_argument() | {"body": json.dumps(_BODY)} | poison
    plant(clean_redis, jobs.ALERTS, jobs.PROCESS_DELIVERY, argument)
    enqueue.enqueue_once(clean_redis, accepted(), ttl_seconds=60)
    work(worker_module._batch_worker, settings)  # a single worker: it does not end
    assert stored() == 1


@pytest.mark.parametrize(("field", "value"), [("timeout", "abc"), ("created_at", b"\xff"), ("retries_left", "x")])
def test_a_job_with_an_unreadable_field_does_not_affect_others(
    settings: Settings, clean_redis: Redis, field: str, value: bytes
) -> None:
    job_id = plant(clean_redis, jobs.ALERTS, "builtins.len", "x")
    clean_redis.hset(f"rq:job:{job_id}", field, value)
    enqueue.enqueue_once(clean_redis, accepted(), ttl_seconds=60)
    work(worker_module._batch_worker, settings)
    assert stored() == 1


@pytest.mark.parametrize("intervals", ["{}", "5", '["x"]', "[]"])
def test_a_planted_job_that_is_abandoned_does_not_stop_others_from_being_requeued(
    settings: Settings, clean_redis: Redis, intervals: str
) -> None:
    theirs, good = plant(clean_redis, jobs.ALERTS, "builtins.len", "x"), accepted()
    clean_redis.hset(f"rq:job:{theirs}", mapping={"retries_left": 5, "retry_intervals": intervals})
    enqueue.enqueue_once(clean_redis, good, ttl_seconds=60)
    for job_id in (theirs, good.delivery_id):
        clean_redis.hset(f"rq:job:{job_id}", "status", "started")
    clean_redis.delete(f"rq:queue:{jobs.ALERTS}")
    clean_redis.zadd(f"rq:wip:{jobs.ALERTS}", {f"{theirs}:lease": 1, f"{good.delivery_id}:lease": 2})
    work(worker_module._batch_worker, settings)
    assert stored() == 1


@both
@pytest.mark.parametrize("field", ["data", "exc_info"])
def test_a_decompression_bomb_is_not_decompressed(
    settings: Settings, clean_redis: Redis, monkeypatch: pytest.MonkeyPatch, queue: str, build: Build, field: str
) -> None:
    monkeypatch.setattr(jobs, "MAX_DECOMPRESSED_BYTES", 100_000)
    monkeypatch.setattr(rq.job.zlib, "decompress", bounded(zlib.decompress, 100_000))
    job_id = plant(clean_redis, queue, "builtins.len", "x")
    clean_redis.hset(f"rq:job:{job_id}", field, zlib.compress(b'["' + b"0" * 1_000_000 + b'"]'))
    if queue == jobs.ALERTS:
        enqueue.enqueue_once(clean_redis, accepted(), ttl_seconds=60)
    work(build, settings)
    assert clean_redis.llen(f"rq:queue:{queue}") == 0
    assert stored() == (1 if queue == jobs.ALERTS else 0)


def bounded(decompress: Callable[[bytes], bytes], limit: int) -> Callable[[bytes], bytes]:
    """``decompress`` on a machine with ``limit`` bytes of memory."""

    def bounded_decompress(packed: bytes) -> bytes:
        result = decompress(packed)
        if len(result) > limit:
            raise SystemExit("out of memory")
        return result

    return bounded_decompress


def test_no_job_description_has_text_of_a_sender(settings: Settings, clean_redis: Redis) -> None:
    enqueue.enqueue_once(clean_redis, accepted(title="CanaryError: words"), ttl_seconds=60)
    work(worker_module._batch_worker, settings)
    described = [clean_redis.hget(key, "description") for key in clean_redis.keys("rq:job:*")]
    assert described
    assert all(b"Canary" not in (description or b"") for description in described)
