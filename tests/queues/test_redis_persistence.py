"""What Redis would forget is said at start and at ``/readyz``, plainly, also where nobody knows."""

import pytest
from redis import Redis
from structlog.testing import capture_logs

from signalcraft.queues import redis_clients, redis_persistence
from signalcraft.web import health

GOOD = {"aof_enabled": 1, "maxmemory_policy": "noeviction"}


def test_a_redis_as_it_should_be_loses_nothing() -> None:
    assert list(redis_persistence.judge(GOOD)) == []


@pytest.mark.parametrize(
    ("differs", "says"),
    [
        ({"aof_enabled": 0}, "appendonly is off"),
        ({"aof_enabled": None}, "unknown whether appendonly"),
        ({"maxmemory_policy": "allkeys-lru"}, "maxmemory-policy is allkeys-lru"),
        ({"maxmemory_policy": None}, "maxmemory-policy is unknown"),
    ],
)
def test_each_difference_is_said_plainly(differs: dict[str, object], says: str) -> None:
    (loss,) = redis_persistence.judge(GOOD | differs)
    assert says in loss
    assert "a restart of Redis loses" in loss or "a full Redis forgets" in loss


def test_a_real_one_is_asked_at_start_and_by_readyz(clean_redis: Redis) -> None:
    before = clean_redis.config_get("maxmemory-policy")["maxmemory-policy"]
    clean_redis.config_set("maxmemory-policy", "volatile-lru")
    try:
        with capture_logs() as lines:
            redis_persistence.report(clean_redis, "fallback")
        losses = health.check(clean_redis)["redis"].loses
    finally:
        clean_redis.config_set("maxmemory-policy", before)
    assert any("volatile-lru" in line["reason"] for line in lines)
    assert any("volatile-lru" in loss for loss in losses)


def test_with_everything_on_the_shelf_it_does_not_matter(clean_redis: Redis) -> None:
    with capture_logs() as lines:
        redis_persistence.report(clean_redis, "inbox")
    assert lines == []


def test_a_redis_that_is_away_stops_no_start() -> None:
    with capture_logs() as lines:
        redis_persistence.report(redis_clients.for_web("redis://127.0.0.1:1/0"), "fallback")
    assert [line["reason"] for line in lines] == ["ConnectionError"]
