"""What Redis would forget: whether it keeps on disk what it acknowledged, and whether it refuses when it is full.

Asked of INFO, which hosted Redis answers also where CONFIG is forbidden. Where it does not say, that is what we say.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)


def losses(redis: Redis) -> tuple[str, ...]:
    """What would be lost, and when, a sentence each; empty where Redis is set up as it should be.

    Raises:
        RedisError: Redis is away.
    """
    said: Any = {}
    for section in ("persistence", "memory"):
        said |= redis.info(section)
    return tuple(judge(said))


def judge(info: Mapping[str, Any]) -> Iterator[str]:
    """The same of what INFO said."""
    match info.get("aof_enabled"):
        case None:
            yield "It is unknown whether appendonly is on. If not, a restart of Redis loses what waits in it."
        case 0:
            yield "appendonly is off: a restart of Redis loses every acknowledged delivery that waits in it."
    policy = info.get("maxmemory_policy")
    if policy is None:
        yield "maxmemory-policy is unknown. If it is not noeviction, a full Redis forgets acknowledged deliveries."
    elif policy != "noeviction":
        yield f"maxmemory-policy is {policy}: a full Redis forgets acknowledged deliveries, and refuses no new ones."


def report(redis: Redis, durability: str) -> None:
    """Write a line for each loss, once, at the start of a process. With ``durability`` inbox nothing waits in Redis."""
    if durability == "inbox":
        return
    try:
        found = losses(redis)
    except RedisError as error:
        log.warning("Redis persistence unknown", stage="start", reason=type(error).__name__)
        return
    for loss in found:
        log.warning("Redis may lose acknowledged deliveries", stage="start", reason=loss)
