"""What may happen once: a link signs in, a session ends. Redis remembers it for as long as either could last."""

from typing import Final

from redis import Redis

from signalcraft.queues.redis_clients import deadline, redis_errors_as_unavailable
from signalcraft.resilience import CircuitBreaker

_TIMEOUT_SECONDS: Final = 0.2


class UsedOnce:
    """Nonces of used links and ended sessions."""

    def __init__(self, redis: Redis, breaker: CircuitBreaker) -> None:
        """Remember them in ``redis``."""
        self._redis = redis
        self._breaker = breaker

    def use(self, nonce: str, *, seconds: int) -> bool:
        """Mark ``nonce`` as used for so many seconds; return whether it was not used before.

        Raises:
            QueueUnavailable: Redis is unavailable.
        """
        with self._breaker.guard(), deadline(_TIMEOUT_SECONDS), redis_errors_as_unavailable():
            return bool(self._redis.set(_key(nonce), "1", ex=max(1, seconds), nx=True))

    def is_used(self, nonce: str) -> bool:
        """Return whether ``nonce`` was used.

        Raises:
            QueueUnavailable: Redis is unavailable.
        """
        with self._breaker.guard(), deadline(_TIMEOUT_SECONDS), redis_errors_as_unavailable():
            return bool(self._redis.exists(_key(nonce)))


def _key(nonce: str) -> str:
    return f"signalcraft:used:{nonce}"
