"""Dependencies shared by the API's routes."""

from dataclasses import dataclass
from typing import Final

from flask import Flask, current_app

from signalcraft.api.pagination import Cursors
from signalcraft.ingest.credential_cache import CredentialCache
from signalcraft.ingest.rate_limits import Rate
from signalcraft.settings import Settings

_EXTENSION: Final = "signalcraft.api"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """Dependencies of the API's routes."""

    settings: Settings
    credentials: CredentialCache
    rate: Rate
    cursors: Cursors

    def install(self, app: Flask) -> None:
        """Store this as the context of ``app``."""
        app.extensions[_EXTENSION] = self


def current() -> ApiContext:
    """Return the context of the application that serves this request."""
    found: ApiContext = current_app.extensions[_EXTENSION]
    return found
