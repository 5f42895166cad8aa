"""Dependencies shared by the pages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flask import Flask, current_app
from redis import Redis

from signalcraft.groups.reading.cursors import Cursors
from signalcraft.ingest.credential_cache import CredentialCache
from signalcraft.ingest.rate_limits import Rate
from signalcraft.queues.used_once import UsedOnce
from signalcraft.settings import Settings
from signalcraft.ui.session import Sessions

_EXTENSION: Final = "signalcraft.ui"


@dataclass(frozen=True, slots=True, kw_only=True)
class UiContext:
    """Dependencies of the pages.

    ``rate`` limits requests per token, as those of the API; ``refused`` those without a session, per ``client_key()``.
    ``check_health`` returns the state of each component by its name.
    """

    settings: Settings
    credentials: CredentialCache
    sessions: Sessions
    used_once: UsedOnce
    rate: Rate
    refused: Rate
    client_key: Callable[[], str]
    cursors: Cursors
    redis: Redis
    wake_notifier: Callable[[], None]
    check_health: Callable[[], Mapping[str, Any]]

    def install(self, app: Flask) -> None:
        """Store this as the context of ``app``."""
        app.extensions[_EXTENSION] = self


def current() -> UiContext:
    """Return the context of the application that serves this request."""
    found: UiContext = current_app.extensions[_EXTENSION]
    return found
