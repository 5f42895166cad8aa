"""Dependencies shared by the API's routes."""

import contextlib
from dataclasses import dataclass
from typing import Final

from flask import Flask, current_app
from redis import Redis

from signalcraft.api.slack_replies import SlackReplies
from signalcraft.domain.errors import QueueUnavailable
from signalcraft.groups.reading.cursors import Cursors
from signalcraft.ingest.credential_cache import CredentialCache
from signalcraft.ingest.rate_limits import Rate
from signalcraft.queues import enqueue, redis_clients
from signalcraft.queues.used_once import UsedOnce
from signalcraft.resilience import CircuitBreaker
from signalcraft.settings import Settings

_EXTENSION: Final = "signalcraft.api"
#: A notifier that is not woken looks by itself within a second.
_WAKE_TIMEOUT_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """Dependencies of the API's routes."""

    settings: Settings
    credentials: CredentialCache
    rate: Rate
    cursors: Cursors
    redis: Redis
    breaker: CircuitBreaker
    slack_presses: UsedOnce
    slack_replies: SlackReplies

    def install(self, app: Flask) -> None:
        """Store this as the context of ``app``."""
        app.extensions[_EXTENSION] = self

    def wake_notifier(self) -> None:
        """Let the notifier tell of an update at once, unless Redis is unavailable."""
        with (
            contextlib.suppress(QueueUnavailable),
            self.breaker.guard(),
            redis_clients.deadline(_WAKE_TIMEOUT_SECONDS),
        ):
            enqueue.wake_notifier(self.redis)


def of(app: Flask) -> ApiContext:
    """Return the context of ``app``."""
    found: ApiContext = app.extensions[_EXTENSION]
    return found


def current() -> ApiContext:
    """Return the context of the application that serves this request."""
    return of(current_app)
