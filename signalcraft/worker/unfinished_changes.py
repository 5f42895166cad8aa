"""A thread of the worker that goes on with status changes of issues with very many unresolved groups, step by step.

A change whose step fails waits, longer after each failure, while others go on; it stays stored until it is applied.
"""

import time
from collections.abc import Callable, Sequence
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
#: How long a change waits after its first failure, twice as long after each further one, and at most.
_FIRST_WAIT_SECONDS: Final = 1.0
_MAX_WAIT_SECONDS: Final = 300.0


class UnfinishedChanges:
    """Applies unfinished status changes, the oldest first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` is monotonic, in seconds."""
        self._clock = clock
        #: Of each change that failed: how long it waits, and until when.
        self._waits: dict[int, tuple[float, float]] = {}

    def start(self) -> Callable[[], None]:
        """Apply steps in a thread; return what stops it, after the current step."""
        return every(_POLL_INTERVAL_SECONDS, self.poll, name="unfinished-changes", stop_timeout=_STOP_TIMEOUT_SECONDS)

    def finish(self) -> None:
        """Apply all steps that remain, but those that fail."""
        while self.poll() == _PAUSE_SECONDS:
            pass

    def poll(self) -> float:
        """Apply a step; return the seconds until the next one."""
        tried: list[int] = []
        now = self._clock()
        waiting = [row_id for row_id, (_, until) in self._waits.items() if until > now]
        try:
            with session():
                changed = unfinished_updates.apply_next_step(waiting, tried.append)
        except RecoverableError as error:
            metrics.count("signalcraft_errors_total", stage="store", kind="recoverable")
            log.warning(
                "status changes paused, database unavailable",
                stage="store",
                reason=str(error),
                waits_seconds=self._put_off(tried),
            )
            return _POLL_INTERVAL_SECONDS
        except Exception as error:  # noqa: BLE001 - the change is stored: try again
            metrics.count("signalcraft_errors_total", stage="store", kind="permanent")
            why = logs.exception_fields(error)
            log.error("status change not applied", stage="store", waits_seconds=self._put_off(tried), **why)  # noqa: TRY400 - the fields have the traceback
            return _PAUSE_SECONDS if tried else _POLL_INTERVAL_SECONDS
        for row_id in tried:
            self._waits.pop(row_id, None)
        if changed is None:
            return _POLL_INTERVAL_SECONDS
        metrics.count("signalcraft_status_changes_total", changed)
        return _PAUSE_SECONDS

    def _put_off(self, tried: Sequence[int]) -> float | None:
        """Let the change that failed wait; return for how long, None if none was found."""
        wait = None
        for row_id in tried:
            before, _ = self._waits.get(row_id, (0.0, 0.0))
            wait = min(2 * before, _MAX_WAIT_SECONDS) or _FIRST_WAIT_SECONDS
            self._waits[row_id] = wait, self._clock() + wait
        return wait
