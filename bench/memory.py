"""Memory: of a worker as it works, of all processes together, of a queued job in Redis, and of what jobs leave."""

import time
import zlib
from collections import Counter
from collections.abc import Iterator
from statistics import mean

import psutil
from redis import Redis

from bench import draining, http
from bench.arena import Arena, BenchError, PausableProcess, running
from bench.deliveries import Maker, enqueue
from bench.figures import Figure
from bench.serving import PATH, processes, served

_MIB = 1024 * 1024
_CHUNK = 5_000
_WAITING = 1_000
#: Keys that exist without any job: of RQ's workers and queues, sums of metrics, rate counters, what maintenance found.
_PERMANENT = (
    "rq:worker:",
    "rq:workers",
    "rq:queues",
    "rq:clean_",
    "signalcraft:metrics",
    "signalcraft:rate:",
    "signalcraft:unreadable:",
)
_DELIVERY = "signalcraft:delivery:"


def run(arena: Arena) -> Iterator[Figure]:
    """Measure a queued job, a worker after many deliveries, the keys left, then all processes together."""
    with arena.lane("memory") as lane:
        yield _waiting_job(lane.redis, lane.redis_url)
        lane.redis.flushdb()
        with draining.ours(lane) as drainer, running(lane, "notifier", "worker.py", "notifications"):
            yield _growth(drainer, last=40_000 if arena.quick else 200_000)
            pause = 15 if arena.quick else 60
            time.sleep(pause)
            yield _left(lane.redis, pause)
    with (
        arena.lane("together") as lane,
        served(lane) as port,
        draining.ours(lane) as drainer,
        running(lane, "notifier", "worker.py", "notifications") as notifier,
    ):
        yield _together(port, drainer, notifier, last=arena.events or (10_000 if arena.quick else 100_000))


def _waiting_job(redis: Redis, redis_url: str) -> Figure:
    """Compare the bytes of a queued job, with its queue entry and delivery key, with its compressed body."""
    deliveries = Maker(seed=5).accepted(_WAITING)
    before = redis.info("memory")["used_memory"]
    enqueue(redis_url, deliveries)
    grown = (redis.info("memory")["used_memory"] - before) / _WAITING
    per_key = Counter[str]()
    for key in redis.scan_iter(count=1000):
        per_key[key.decode().rpartition(":")[0]] += redis.memory_usage(key, samples=0) or 0
    compressed = mean(len(zlib.compress(accepted.delivery.body)) for accepted in deliveries)
    taken = sum(per_key.values()) / _WAITING
    return Figure(
        benchmark="memory",
        name="Redis: a waiting job over its compressed body",
        value=round(taken - compressed),
        unit="bytes",
        against="zlib of the body",
        at_most=1_500,
        detail={"job, entry and key": round(taken), "compressed": round(compressed), "by used_memory": round(grown)},
    )


def _growth(drainer: draining.Drainer, last: int) -> Figure:
    """Return the growth of resident memory from 10,000 to ``last`` events, in MB."""
    process = psutil.Process(drainer.workers[0].process.pid)
    maker = Maker(seed=6)
    resident: dict[int, int] = {}
    for done in range(_CHUNK, last + 1, _CHUNK):
        drainer.drain(maker.accepted(_CHUNK))
        resident[done] = process.memory_info().rss
    return Figure(
        benchmark="memory",
        name=f"worker: resident after {last:,} events over 10,000",
        value=(resident[last] - resident[10_000]) / 1e6,
        unit="MB",
        against="itself after 10,000",
        at_most=20,
        detail={"after 10,000, MB": resident[10_000] / 1e6, f"after {last:,}, MB": resident[last] / 1e6},
    )


def _together(port: int, drainer: draining.Drainer, notifier: PausableProcess, last: int) -> Figure:
    """Return the proportional set size of all processes after ``last`` deliveries were taken in, stored and told of.

    A page that several processes share counts for each in proportion.
    """
    maker, target = Maker(seed=7), http.Target(port=port)
    for _ in range(0, last, _CHUNK):
        made = (maker.sample(group) for group in maker.groups(_CHUNK))
        requests = [http.request_of("POST", PATH, one.headers, one.body, keep_alive=True) for one in made]
        if http.closed_loop(target, requests, expected=202).unexpected:
            raise BenchError("a delivery was not accepted")
        drainer.wait()
    web = [process.memory_full_info() for process in processes(port)]
    worker, notifying = (psutil.Process(one.process.pid).memory_full_info() for one in (drainer.workers[0], notifier))
    total = sum(one.pss for one in (*web, worker, notifying))
    return Figure(
        benchmark="memory",
        name=f"web, worker and notifier together after {last:,} deliveries",
        value=total / _MIB,
        unit="MiB",
        against="absolute, PSS",
        at_most=200,
        detail={
            "web, with its master": sum(one.pss for one in web) / _MIB,
            "shared by master and web process": (sum(one.pss - one.uss for one in web)) / _MIB,
            "worker": worker.pss / _MIB,
            "notifier": notifying.pss / _MIB,
        },
    )


def _left(redis: Redis, seconds: int) -> Figure:
    """Count the keys that finished jobs left, besides their delivery keys."""
    kinds = Counter(_kind(key.decode()) for key in redis.scan_iter(count=1000))
    permanent = sum(number for kind, number in kinds.items() if kind in _PERMANENT)
    deliveries = kinds[_DELIVERY]
    others = {kind: number for kind, number in kinds.items() if kind not in (*_PERMANENT, _DELIVERY)}
    return Figure(
        benchmark="memory",
        name=f"Redis: other keys left {seconds} s after the last job",
        value=sum(others.values()),
        unit="keys",
        against="delivery keys, which stay for an hour",
        at_most=0,
        detail={"delivery keys": deliveries, "without any job": permanent, **others},
    )


def _kind(key: str) -> str:
    known = (prefix for prefix in (*_PERMANENT, _DELIVERY) if key.startswith(prefix))
    return next(known, key if key.count(":") < 2 else f"{key.rpartition(':')[0]}:…")
