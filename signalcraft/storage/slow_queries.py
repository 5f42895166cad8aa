"""A log of slow queries, each with the name of the function that ran it.

The SQL parameters are never logged: they are alerts. Peewee measures each query; the calling function is read from the
stack only for slow ones, so other queries cost one comparison.
"""

import sys
from types import FrameType
from typing import Final

import structlog
from peewee import QueryEvent

from signalcraft.storage.database import database

log = structlog.get_logger(__name__)

#: Modules that run queries for their callers.
_SKIPPED_MODULES: Final = frozenset({"signalcraft.storage.database", "signalcraft.storage.sql", __name__})


def watch(slow_query_ms: int) -> None:
    """Log this process's queries of at least ``slow_query_ms`` (0: all)."""

    def log_if_slow(event: QueryEvent) -> None:
        if event.duration * 1000 < slow_query_ms:
            return
        log.warning(
            "slow query",
            stage="query",
            query=_calling_function(sys._getframe(1)),  # noqa: SLF001 - what inspect.currentframe is, at a hundredth of the cost
            duration_ms=round(event.duration * 1000, 2),
            failed=event.exception is not None,
        )

    database.query_hooks[:] = [log_if_slow]


def _calling_function(frame: FrameType | None) -> str:
    """Return the nearest function that runs its own query: ``groups.record._insert_events``."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("signalcraft.") and module not in _SKIPPED_MODULES:
            return f"{module.removeprefix('signalcraft.')}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "unknown"
