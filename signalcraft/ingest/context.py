"""Dependencies of receiving a delivery."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flask import Flask, current_app
from redis import Redis

from signalcraft.domain.alerts import Vocabulary
from signalcraft.ingest.credential_cache import CredentialCache
from signalcraft.resilience import CircuitBreaker
from signalcraft.settings import Settings

_EXTENSION: Final = "signalcraft.ingest"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestContext:
    """Dependencies of ``receive``.

    ``limit`` counts a verified delivery of a workspace and raises ``TooManyRequests`` over the limit.
    """

    settings: Settings
    vocabulary: Vocabulary
    credentials: CredentialCache
    limit: Callable[[str], None]
    redis: Redis
    breaker: CircuitBreaker

    def install(self, app: Flask) -> None:
        """Store this as the context of ``app``."""
        app.extensions[_EXTENSION] = self


def start_threads(app: Flask) -> None:
    """Start what keeps the context of ``app`` fresh; an application without one needs nothing."""
    if _EXTENSION in app.extensions:
        of(app).credentials.start()


def of(app: Flask) -> IngestContext:
    """Return the context of ``app``."""
    found: IngestContext = app.extensions[_EXTENSION]
    return found


def current() -> IngestContext:
    """Return the context of the application that serves this request."""
    return of(current_app)
