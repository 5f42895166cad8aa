"""The key in Redis that proves that a canary was stored."""

import time
from typing import Final

import structlog
from redis import Redis
from redis.exceptions import RedisError

from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import SignalCraftError
from signalcraft.queues import redis_clients

log = structlog.get_logger(__name__)

#: How long a canary may take before it is given up for lost.
PROOF_TIMEOUT_SECONDS: Final = 30.0
_PROOF_KEY: Final = "signalcraft:canary:"
_PROOF_TTL_SECONDS: Final = 600
_POLL_INTERVAL_SECONDS: Final = 0.02


class CanaryLost(SignalCraftError):  # noqa: N818 - reads as DatabaseUnavailable does
    """A canary was refused, or nobody worked it off in time. The message says which."""


def await_proof(redis: Redis, delivery_id: str, *, patience: float = PROOF_TIMEOUT_SECONDS) -> None:
    """Come back once the canary is stored.

    Raises:
        CanaryLost: it was not within ``patience`` seconds.
        QueueUnavailable: Redis is away.
    """
    deadline = time.monotonic() + patience
    with redis_clients.redis_errors_as_unavailable():
        while not redis.exists(_PROOF_KEY + delivery_id):
            if time.monotonic() > deadline:
                raise CanaryLost(f"It was accepted, and not worked off within {patience:.0f} s.")
            time.sleep(_POLL_INTERVAL_SECONDS)


def prove(accepted: AcceptedDelivery, redis: Redis) -> None:
    """Set the key that proves that the canary was stored."""
    try:
        redis.set(_PROOF_KEY + accepted.delivery_id, "stored", ex=_PROOF_TTL_SECONDS)
    except RedisError as error:
        log.warning("canary stored, proof not written", stage="canary", reason=type(error).__name__)
    log.info("canary stored", stage="canary", delivery_id=accepted.delivery_id)
