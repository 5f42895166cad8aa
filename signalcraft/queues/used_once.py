"""What may happen once: a link signs in, a session ends, a press of a button counts. Redis remembers it for a time."""

from dataclasses import dataclass

from redis import Redis

from signalcraft.queues.redis_clients import deadline, redis_errors_as_unavailable
from signalcraft.resilience import CircuitBreaker


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedOnce:
    """What was used, by names that are unique under ``prefix``. Redis has ``timeout_seconds`` to answer."""

    redis: Redis
    breaker: CircuitBreaker
    prefix: str
    timeout_seconds: float

    def use(self, name: str, *, seconds: int) -> bool:
        """Mark ``name`` as used for so many seconds; return whether it was not used before.

        Raises:
            QueueUnavailable: Redis is unavailable.
        """
        with self.breaker.guard(), deadline(self.timeout_seconds), redis_errors_as_unavailable():
            return bool(self.redis.set(self.prefix + name, "1", ex=max(1, seconds), nx=True))

    def is_used(self, name: str) -> bool:
        """Return whether ``name`` was used.

        Raises:
            QueueUnavailable: Redis is unavailable.
        """
        with self.breaker.guard(), deadline(self.timeout_seconds), redis_errors_as_unavailable():
            return bool(self.redis.exists(self.prefix + name))

    def forget(self, name: str) -> None:
        """Let ``name`` be used again.

        Raises:
            QueueUnavailable: Redis is unavailable.
        """
        with self.breaker.guard(), deadline(self.timeout_seconds), redis_errors_as_unavailable():
            self.redis.delete(self.prefix + name)
