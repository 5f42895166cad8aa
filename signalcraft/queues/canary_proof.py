"""The Redis key that proves that a canary was stored."""

import time
from typing import Final

import structlog
from redis import Redis
from redis.exceptions import RedisError

from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import SignalCraftError
from signalcraft.queues import redis_clients

log = structlog.get_logger(__name__)

#: A canary that takes longer is reported as lost.
PROOF_TIMEOUT_SECONDS: Final = 30.0
_PROOF_KEY: Final = "signalcraft:canary:"
_PROOF_TTL_SECONDS: Final = 600
_POLL_INTERVAL_SECONDS: Final = 0.02


class CanaryLost(SignalCraftError):  # noqa: N818 - reads as DatabaseUnavailable does
    """A canary was refused or not processed in time. The message says which."""


def await_proof(redis: Redis, delivery_id: str, *, timeout_seconds: float = PROOF_TIMEOUT_SECONDS) -> None:
    """Wait until the canary is stored.

    Raises:
        CanaryLost: it was not stored within ``timeout_seconds``.
        QueueUnavailable: Redis is unavailable.
    """
    deadline = time.monotonic() + timeout_seconds
    with redis_clients.redis_errors_as_unavailable():
        while not redis.exists(_PROOF_KEY + delivery_id):
            if time.monotonic() > deadline:
                raise CanaryLost(f"It was accepted, and not processed within {timeout_seconds:.0f} s.")
            time.sleep(_POLL_INTERVAL_SECONDS)


def write_proof(accepted: AcceptedDelivery, redis: Redis) -> None:
    """Set the key that proves that the canary was stored."""
    try:
        redis.set(_PROOF_KEY + accepted.delivery_id, "stored", ex=_PROOF_TTL_SECONDS)
    except RedisError as error:
        log.warning("canary stored, proof not written", stage="canary", reason=redis_clients.reason(error))
    log.info("canary stored", stage="canary", delivery_id=accepted.delivery_id)
