"""Senders of alerts: what a source is (``protocol``), and the table of all sources.

A source is a package. ``docs/adding-a-source.md`` says how to add one.
"""

from collections.abc import Mapping
from typing import Final

from signalcraft.sources import alertmanager, generic, grafana, sentry
from signalcraft.sources.protocol import Source as Source

_SOURCES: Final[tuple[Source, ...]] = (sentry, alertmanager, grafana, generic)

SOURCES: Final[Mapping[str, Source]] = {source.NAME: source for source in _SOURCES}
#: The source of commands and requests that name none.
DEFAULT_SOURCE: Final = _SOURCES[0]


def title(source: str) -> str:
    """Return the name of ``source`` in a sentence: "the source" if it is no one sender, or a newer release had it."""
    return "the source" if source not in SOURCES or source == generic.NAME else SOURCES[source].TITLE


def fingerprints(source: str) -> Mapping[str, str]:
    """Return what each type of fingerprint of ``source`` means; nothing of a source that a newer release had."""
    return SOURCES[source].FINGERPRINTS if source in SOURCES else {}
