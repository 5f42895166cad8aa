"""What ``create_app`` puts together and the routes use."""

from dataclasses import dataclass
from typing import Final

from flask import current_app

from signalcraft.cursors import Cursors
from signalcraft.domain.alerts import Vocabulary
from signalcraft.domain.grouping import Policy
from signalcraft.ingest.context import Intake
from signalcraft.ingest.rate_limits import Rate
from signalcraft.settings import Settings

EXTENSION: Final = "signalcraft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one application."""

    settings: Settings
    desk: Intake
    policy: Policy
    vocabulary: Vocabulary
    api_rate: Rate
    cursors: Cursors


def parts() -> Parts:
    """Those of the application that answers."""
    found: Parts = current_app.extensions[EXTENSION]
    return found
