"""A thread of the worker that works off PostgreSQL's shelf: what was acknowledged while Redis was away.

It needs no Redis, so it goes on while Redis is still away. Rows are taken, worked off and removed in one
transaction: a worker that dies in between leaves them as they were.
"""

import threading
from typing import Any, Final

import structlog

from signalcraft import inbox, logs, metrics, models
from signalcraft.errors import RecoverableError
from signalcraft.workbench import Stages

log = structlog.get_logger(__name__)

_LOOK_EVERY_SECONDS: Final = 0.5
_AFTER_FAILURE_SECONDS: Final = 2.0
#: Less than the 10 s that a platform gives.
_STOP_SECONDS: Final = 8.0


class Drainer:
    """Works the shelf off, oldest first, some at a time, together with other workers' drainers."""

    def __init__(self, stages: Stages, *, batch_size: int) -> None:
        """``stages`` are those of the worker: what it does with jobs, this does with rows."""
        self._stages = stages
        self._batch_size = batch_size
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drainer", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is in hand and end; while PostgreSQL hangs, leave it: its transaction ends with the process."""
        self._stopped.set()
        self._thread.join(_STOP_SECONDS)

    def drain(self) -> int:
        """Work off one batch; how many deliveries it had.

        Raises:
            RecoverableError: PostgreSQL is away or busy; everything is as it was.
        """
        outcome: Any = None
        with models.session(), models.database.atomic():
            taken = inbox.take(self._batch_size)
            if taken:
                outcome = self._stages.record(self._stages.prepare(list(taken.values())))
                inbox.remove(taken)
        if taken:
            self._stages.conclude(outcome)
        return len(taken)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._stopped.wait(self._drain_some())

    def _drain_some(self) -> float:
        """How long to wait before the next look, in seconds."""
        try:
            drained = self.drain()
        except RecoverableError as error:
            metrics.count("signalcraft_errors_total", stage="drain", kind="recoverable")
            log.warning("shelf left alone for a moment", stage="drain", reason=str(error))
            return _AFTER_FAILURE_SECONDS
        except Exception as error:  # noqa: BLE001 - whatever it is, what is on the shelf was acknowledged: try again
            metrics.count("signalcraft_errors_total", stage="drain", kind="permanent")
            log.error("shelf cannot be worked off", stage="drain", **logs.fault(error))  # noqa: TRY400 - fault says why
            return _AFTER_FAILURE_SECONDS
        if drained:
            log.info("shelf worked off", stage="drain", batch_size=drained)
        return 0 if drained else _LOOK_EVERY_SECONDS
