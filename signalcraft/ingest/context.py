"""The dependencies of receiving a delivery."""

from collections.abc import Callable
from dataclasses import dataclass

from redis import Redis

from signalcraft.ingest.credential_cache import Directory
from signalcraft.resilience import Breaker


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """All that ``receive`` needs beside the delivery.

    ``limit`` counts a verified delivery of a workspace and raises ``TooManyRequests`` where there are too many.
    """

    source: str
    directory: Directory
    limit: Callable[[str], None]
    redis: Redis
    breaker: Breaker
    durability: str
    delivery_key_ttl: int
