"""Dependencies of receiving a delivery."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flask import Flask, current_app
from redis import Redis

from signalcraft.ingest.credential_cache import Directory
from signalcraft.resilience import Breaker
from signalcraft.settings import Settings

_EXTENSION: Final = "signalcraft.ingest"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestContext:
    """What ``receive`` is handed besides the delivery.

    ``limit`` counts a verified delivery of a workspace and raises ``TooManyRequests`` over the limit.
    """

    settings: Settings
    source: str
    directory: Directory
    limit: Callable[[str], None]
    redis: Redis
    breaker: Breaker

    def install(self, app: Flask) -> None:
        """Make this the context of ``app``."""
        app.extensions[_EXTENSION] = self


def current() -> IngestContext:
    """Return the context of the application that serves this request."""
    found: IngestContext = current_app.extensions[_EXTENSION]
    return found
