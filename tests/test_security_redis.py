"""Whoever can write to Redis can stop us, but cannot make us run anything of theirs."""

import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq import Callback, Queue, SimpleWorker
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker

import worker as worker_module
from signalcraft import jobs, models, tasks
from signalcraft.jobs import AllowedJob
from signalcraft.models import AlertEvent
from signalcraft.settings import Settings
from tests import client as web
from tests.builders import accepted

Build = Callable[[Settings], BaseWorker]
WORKERS = [(jobs.ALERTS, worker_module._batching_worker), (jobs.NOTIFICATIONS, worker_module._notifier)]

both = pytest.mark.parametrize(("queue", "build"), WORKERS, ids=[name for name, _ in WORKERS])


class Bomb:
    """What is unpickled as a file being made."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A file that is there once something of the attacker's has run."""
    return tmp_path / "ran"


@pytest.fixture
def settings(environ: dict[str, str], clean_redis: Redis) -> Settings:
    web.add_workspace()
    settings = Settings.from_environ(environ)
    tasks.equip(settings, clean_redis)
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
    with models.session():
        return int(AlertEvent.select().count())


@both
def test_a_worker_reads_jobs_as_allow_listed_ones_and_as_json(settings: Settings, queue: str, build: Build) -> None:
    built = build(settings)
    assert [one.name for one in built.queues] == [queue]
    assert built.job_class is AllowedJob
    assert built.serializer is JSONSerializer
    assert all(one.job_class is AllowedJob and one.serializer is JSONSerializer for one in built.queues)


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
def test_a_callback_of_a_good_and_of_a_bad_job_does_not_run(
    settings: Settings, clean_redis: Redis, trace: Path, queue: str, build: Build, callback: str
) -> None:
    calling: dict[str, Any] = {callback: Callback("tests.test_security_redis.leave_a_trace")}
    plant(clean_redis, queue, jobs.NOTIFY, {"reason": "x"}, meta={"trace": str(trace)}, **calling)
    plant(clean_redis, queue, "builtins.int", "no number", meta={"trace": str(trace)}, **calling)
    work(build, settings)
    assert not trace.exists()


def leave_a_trace(job: AllowedJob, *_: object) -> None:
    Path(job.meta["trace"]).touch()


@both
@pytest.mark.parametrize("field", ["data", "meta", "dependency_ids", "webhooks", "result", "worker_name"])
def test_a_pickle_in_a_job_is_never_unpickled_and_the_next_job_is_worked_off(
    settings: Settings, clean_redis: Redis, trace: Path, queue: str, build: Build, field: str
) -> None:
    pickled = pickle.dumps(Bomb(trace))
    for value in (pickled, zlib.compress(pickled)):
        job_id = plant(clean_redis, queue, jobs.NOTIFY, {"reason": "x"})
        clean_redis.hset(f"rq:job:{job_id}", field, value)
    good = accepted()
    jobs.take_in(clean_redis, good, ttl_seconds=60)
    for _ in range(3):  # a job that cannot even be read may end a worker; another one begins
        work(build, settings)
    assert not trace.exists()
    assert clean_redis.llen(f"rq:queue:{queue}") == 0
    assert stored() == (1 if queue == jobs.ALERTS else 0)


def test_the_pickle_would_have_worked_on_a_plain_worker(clean_redis: Redis, trace: Path) -> None:
    queue = Queue("plain", connection=clean_redis)
    job = queue.enqueue("builtins.len", "x")
    clean_redis.hset(job.key, "data", zlib.compress(pickle.dumps(Bomb(trace))))
    SimpleWorker([queue], connection=clean_redis).work(burst=True)
    assert trace.exists()


@both
def test_what_is_no_job_at_all_does_not_stop_the_next_one(
    settings: Settings, clean_redis: Redis, queue: str, build: Build
) -> None:
    clean_redis.rpush(f"rq:queue:{queue}", "nowhere", "", b"\xff\xfe", "a:b")
    clean_redis.set("rq:job:a:b", "not a hash")
    jobs.take_in(clean_redis, accepted(), ttl_seconds=60)
    for _ in range(8):
        work(build, settings)
    assert clean_redis.llen(f"rq:queue:{queue}") == 0
    assert stored() == (1 if queue == jobs.ALERTS else 0)


def test_no_job_of_ours_names_a_sender_s_words(settings: Settings, clean_redis: Redis) -> None:
    jobs.take_in(clean_redis, accepted(title="CanaryError: words"), ttl_seconds=60)
    work(worker_module._batching_worker, settings)
    described = [clean_redis.hget(key, "description") for key in clean_redis.keys("rq:job:*")]
    assert described
    assert all(b"Canary" not in (description or b"") for description in described)
