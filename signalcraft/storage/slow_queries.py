"""Which query was slow: logged by the name of the function in ``store``, ``retrieval`` or wherever that asked it.

Never the SQL's parameters, which are alerts. Peewee tells how long a query took; who asked is read from the stack,
and only for those that were slow, so the others pay for a clock and a comparison.
"""

import sys
from types import FrameType
from typing import Final

import structlog
from peewee import QueryEvent

from signalcraft.storage.database import database

log = structlog.get_logger(__name__)

#: Modules that pass queries on for others.
_PASSED_OVER: Final = frozenset({"signalcraft.storage.database", "signalcraft.storage.sql", __name__})


def watch(slow_query_ms: int) -> None:
    """Log queries of this process that take ``slow_query_ms`` or longer; 0 logs them all."""

    def note(event: QueryEvent) -> None:
        if event.duration * 1000 < slow_query_ms:
            return
        log.warning(
            "slow query",
            stage="query",
            query=_calling_function(sys._getframe(1)),  # noqa: SLF001 - what inspect.currentframe is, at a hundredth of the cost
            duration_ms=round(event.duration * 1000, 2),
            failed=event.exception is not None,
        )

    database.query_hooks[:] = [note]


def _calling_function(frame: FrameType | None) -> str:
    """The nearest function of ours that is no go-between: ``store._insert_events``."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("signalcraft.") and module not in _PASSED_OVER:
            return f"{module.removeprefix('signalcraft.')}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "unknown"
