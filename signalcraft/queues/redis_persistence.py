"""Checks whether Redis persists acknowledged deliveries and refuses writes when it is full.

The source is INFO, which hosted Redis permits even where it forbids CONFIG. A missing field is reported as unknown.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError

from signalcraft.queues.redis_clients import reason

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One setting of Redis: its value, None if INFO does not show it; and, unless it is safe, what can be lost."""

    setting: str
    value: str | None
    loss: str
    advice: str

    @property
    def is_safe(self) -> bool:
        """Whether nothing can be lost by this setting."""
        return not self.loss


def judge(info: Mapping[str, Any]) -> Iterator[Judgement]:
    """Judge persistence and eviction by the fields of INFO."""
    appendonly = {None: None, 0: "no"}.get(info.get("aof_enabled"), "yes")
    yield Judgement(
        setting="appendonly",
        value=appendonly,
        loss={
            None: "It is unknown whether appendonly is on. If not, a restart of Redis loses what waits in it.",
            "no": "appendonly is off: a restart of Redis loses every acknowledged delivery that waits in it.",
        }.get(appendonly, ""),
        advice="Turn it on, or set INGEST_DURABILITY=inbox: a restart would lose acknowledged deliveries.",
    )
    policy = info.get("maxmemory_policy")
    yield Judgement(
        setting="maxmemory-policy",
        value=policy,
        loss={
            None: "maxmemory-policy is unknown. If it is not noeviction, a full Redis forgets acknowledged deliveries.",
            "noeviction": "",
        }.get(
            policy,
            f"maxmemory-policy is {policy}: a full Redis forgets acknowledged deliveries, and refuses no new ones.",
        ),
        advice="Set it to noeviction: a full Redis must refuse writes, not evict jobs.",
    )


def losses(redis: Redis) -> tuple[str, ...]:
    """Return a sentence for each way to lose deliveries.

    Empty for a safe configuration.

    Raises:
        RedisError: Redis is unavailable.
    """
    info: Any = {}
    for section in ("persistence", "memory"):
        info |= redis.info(section)
    return tuple(judgement.loss for judgement in judge(info) if not judgement.is_safe)


def report(redis: Redis, durability: str) -> None:
    """Log each risk at the start of a process.

    With ``durability`` inbox nothing waits in Redis.
    """
    if durability == "inbox":
        return
    try:
        found = losses(redis)
    except RedisError as error:
        log.warning("Redis persistence unknown", stage="start", reason=reason(error))
        return
    for loss in found:
        log.warning("Redis may lose acknowledged deliveries", stage="start", reason=loss)
