"""Growth of a worker's memory, size of a queued job in Redis, and keys left by finished jobs."""

import time
import zlib
from collections import Counter
from collections.abc import Iterator
from statistics import mean

import psutil
from redis import Redis

from bench import draining
from bench.arena import Arena, running
from bench.deliveries import Maker, enqueue
from bench.figures import Figure

_CHUNK = 5_000
_WAITING = 1_000
#: Keys that exist without any job: RQ's workers and queue names, sums of metrics, rate counters.
_PERMANENT = (
    "rq:worker:",
    "rq:workers",
    "rq:queues",
    "rq:clean_",
    "signalcraft:metrics",
    "signalcraft:rate:",
)
_DELIVERY = "signalcraft:delivery:"


def run(arena: Arena) -> Iterator[Figure]:
    """Measure a queued job, then a worker after many deliveries, then the keys left."""
    with arena.lane("memory") as lane:
        yield _waiting_job(lane.redis, lane.redis_url)
        lane.redis.flushdb()
        with draining.ours(lane) as drainer, running(lane, "notifier", "worker.py", "notifications"):
            yield _growth(drainer, last=40_000 if arena.quick else 200_000)
            pause = 15 if arena.quick else 60
            time.sleep(pause)
            yield _left(lane.redis, pause)


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
