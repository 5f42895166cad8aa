"""Risks of losing deliveries in Redis are reported at start and by ``/readyz``, unknown ones too."""

import pytest
from redis import Redis
from structlog.testing import capture_logs

from signalcraft.ingest.credential_cache import CredentialCache
from signalcraft.queues import redis_clients, redis_persistence
from signalcraft.settings import Settings
from signalcraft.web import health

GOOD = {"aof_enabled": 1, "maxmemory_policy": "noeviction"}


def risks(info: dict[str, object]) -> list[str]:
    return [judgement.loss for judgement in redis_persistence.judge(info) if not judgement.is_safe]


def test_a_safe_configuration_has_no_risks() -> None:
    assert risks(GOOD) == []


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ({"aof_enabled": 0}, "appendonly is off"),
        ({"aof_enabled": None}, "unknown whether appendonly"),
        ({"maxmemory_policy": "allkeys-lru"}, "maxmemory-policy is allkeys-lru"),
        ({"maxmemory_policy": None}, "maxmemory-policy is unknown"),
    ],
)
def test_each_risk_is_reported(differences: dict[str, object], expected: str) -> None:
    (loss,) = risks(GOOD | differences)
    assert expected in loss
    assert "a restart of Redis loses" in loss or "a full Redis forgets" in loss


def test_risks_are_logged_at_start_and_reported_by_readyz(clean_redis: Redis, environ: dict[str, str]) -> None:
    credentials = CredentialCache(Settings.from_environ(environ))
    before = clean_redis.config_get("maxmemory-policy")["maxmemory-policy"]
    clean_redis.config_set("maxmemory-policy", "volatile-lru")
    try:
        with capture_logs() as lines:
            redis_persistence.report(clean_redis, "fallback")
        losses = health.check(clean_redis, credentials)["redis"].loses
    finally:
        clean_redis.config_set("maxmemory-policy", before)
    assert any("volatile-lru" in line["reason"] for line in lines)
    assert any("volatile-lru" in loss for loss in losses)


def test_with_all_deliveries_in_the_inbox_there_are_no_risks(clean_redis: Redis) -> None:
    with capture_logs() as lines:
        redis_persistence.report(clean_redis, "inbox")
    assert lines == []


def test_an_unavailable_redis_does_not_stop_the_start() -> None:
    with capture_logs() as lines:
        redis_persistence.report(redis_clients.for_web("redis://127.0.0.1:1/0"), "fallback")
    assert [line["reason"] for line in lines] == ["Error 111 connecting to 127.0.0.1:1. Connection refused."]
