"""A thread of the worker that goes on with status changes of issues with very many unresolved groups, step by step."""

from collections.abc import Callable
from typing import Final

import structlog

from signalcraft import logs, metrics
from signalcraft.domain.errors import RecoverableError
from signalcraft.groups import unfinished_updates
from signalcraft.resilience import every
from signalcraft.storage.database import session

log = structlog.get_logger(__name__)

_POLL_INTERVAL_SECONDS: Final = 1.0
#: Between two steps, so that alerts of those groups and the other work of PostgreSQL come in between.
_PAUSE_SECONDS: Final = 0.02
_STOP_TIMEOUT_SECONDS: Final = 1.0


def start() -> Callable[[], None]:
    """Apply steps in a thread; return what stops it, after the current step."""
    return every(_POLL_INTERVAL_SECONDS, _poll, name="unfinished-changes", stop_timeout=_STOP_TIMEOUT_SECONDS)


def finish() -> None:
    """Apply all steps that remain."""
    while _poll() == _PAUSE_SECONDS:
        pass


def _poll() -> float:
    """Apply a step; return the seconds until the next one."""
    try:
        with session():
            changed = unfinished_updates.apply_next_step()
    except RecoverableError as error:
        metrics.count("signalcraft_errors_total", stage="store", kind="recoverable")
        log.warning("status changes paused, database unavailable", stage="store", reason=str(error))
        return _POLL_INTERVAL_SECONDS
    except Exception as error:  # noqa: BLE001 - the change is stored: try again
        metrics.count("signalcraft_errors_total", stage="store", kind="permanent")
        log.error("status change not applied", stage="store", **logs.exception_fields(error))  # noqa: TRY400 - the fields have the traceback
        return _POLL_INTERVAL_SECONDS
    if changed is None:
        return _POLL_INTERVAL_SECONDS
    metrics.count("signalcraft_status_changes_total", changed)
    return _PAUSE_SECONDS
