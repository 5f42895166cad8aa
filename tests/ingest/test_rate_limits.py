"""Rate limit counters: in memory at once, in Redis after the next synchronization.

Each test has its own keys, since the thread of an earlier test may still be synchronizing.
"""

import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from redis import Redis

from signalcraft.ingest.rate_limits import SharedCounters
from signalcraft.queues import redis_clients


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def storage(redis: Redis) -> SharedCounters:
    return SharedCounters("signalcraft://", redis=redis)


def test_hits_are_counted_at_once(clean_redis: Redis) -> None:
    counters = storage(clean_redis)
    assert [counters.incr("hits", 60) for _ in range(3)] == [1, 2, 3]
    assert counters.get("hits") == 3
    assert counters.get("hits-2") == 0
    assert 55 < counters.get_expiry("hits") - time.time() <= 60
    assert counters.check()


def test_a_window_ends(clean_redis: Redis) -> None:
    counters = storage(clean_redis)
    counters.incr("window", 1)
    wait_for(lambda: counters.get("window") == 0)
    assert counters.incr("window", 1) <= 2


def test_redis_holds_the_sum_of_all_processes_and_each_reads_it(clean_redis: Redis) -> None:
    one, other = storage(clean_redis), storage(clean_redis)
    for _ in range(5):
        one.incr("sum", 60)
        other.incr("sum", 60)
    wait_for(lambda: clean_redis.get("signalcraft:rate:sum") == b"10")
    one.incr("sum", 60)
    other.incr("sum", 60)
    wait_for(lambda: one.get("sum") >= 11 and other.get("sum") >= 11)
    assert clean_redis.ttl("signalcraft:rate:sum") <= 60


def test_a_clock_that_is_set_back_makes_no_window_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = storage(redis_clients.for_web("redis://127.0.0.1:1/0"))
    with monkeypatch.context() as before:
        ahead = SimpleNamespace(time=lambda: time.time() + 3600, sleep=time.sleep)
        before.setattr("signalcraft.ingest.rate_limits.time", ahead)
        assert [counters.incr("back", 60) for _ in range(3)] == [1, 2, 3]
    assert counters.get("back") == 0
    assert counters.incr("back", 60) == 1
    assert counters.get_expiry("back") <= time.time() + 60


def test_a_window_in_redis_that_a_clock_made_longer_is_shortened(clean_redis: Redis) -> None:
    clean_redis.set("signalcraft:rate:cut", 5, ex=3600)
    storage(clean_redis).incr("cut", 60)
    wait_for(lambda: clean_redis.ttl("signalcraft:rate:cut") <= 60)


def test_a_counter_of_somebody_else_does_not_stop_the_synchronization_of_the_others(clean_redis: Redis) -> None:
    clean_redis.hset("signalcraft:rate:planted", "not", "ours")
    clean_redis.set("signalcraft:rate:planted-2", b"\xff")
    counters = storage(clean_redis)
    for key in ("planted", "planted-2", "beside"):
        counters.incr(key, 60)
    wait_for(lambda: clean_redis.get("signalcraft:rate:beside") == b"1")
    wait_for(lambda: clean_redis.get("signalcraft:rate:planted") == b"1")
    assert clean_redis.get("signalcraft:rate:planted-2") == b"1"


def test_windows_can_be_dropped(clean_redis: Redis) -> None:
    counters = storage(clean_redis)
    counters.incr("forgotten", 60)
    counters.incr("forgotten-2", 60)
    counters.clear("forgotten")
    assert (counters.get("forgotten"), counters.get("forgotten-2")) == (0, 1)
    assert counters.reset() == 1
    assert counters.get("forgotten-2") == 0
    assert counters.get_expiry("forgotten-2") <= time.time()


def test_hits_are_synchronized_when_redis_is_back(clean_redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signalcraft.ingest.rate_limits.PAUSE_SECONDS", 0.01)
    counters = storage(redis_clients.for_web("redis://127.0.0.1:1/0"))
    assert [counters.incr("away", 60) for _ in range(3)] == [1, 2, 3]
    time.sleep(0.1)
    counters._redis = clean_redis
    wait_for(lambda: clean_redis.get("signalcraft:rate:away") == b"3")
