"""A thread of the worker that works off PostgreSQL's shelf: what was acknowledged while Redis was away.

It needs no Redis, so it goes on while Redis is still away. Rows are taken, worked off and removed in one
transaction: a worker that dies in between leaves them as they were, but for a note that they were tried, which is made
before. What was tried as often as the queue would try it is set aside.
"""

import math
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import structlog

from signalcraft import logs, metrics
from signalcraft.domain.errors import AbandonedDelivery, RecoverableError
from signalcraft.queues import dead_letters, inbox
from signalcraft.queues.jobs import MAX_RETRIES
from signalcraft.storage.database import database, session
from signalcraft.worker import watchdog
from signalcraft.worker.context import PREPARE_TIMEOUT_SECONDS, InboxStages

log = structlog.get_logger(__name__)

_POLL_INTERVAL_SECONDS: Final = 0.5
_RETRY_INTERVAL_SECONDS: Final = 2.0
#: Less than what is left of a platform's 10 s once the queue's batch is done.
_STOP_TIMEOUT_SECONDS: Final = 3.0
#: As often as a job is tried.
MAX_TRIES: Final = 1 + MAX_RETRIES


class InboxConsumer:
    """Works the shelf off, oldest first, some at a time, together with other workers' drainers."""

    def __init__(self, stages: InboxStages, *, batch_size: int) -> None:
        """``stages`` are those of the worker: what it does with jobs, this does with rows."""
        self._stages = stages
        self._batch_size = batch_size
        self._trying: Sequence[int] = []
        #: When this worker last found something on the shelf, on the monotonic clock.
        self.last_consumed_at = -math.inf
        self._stored: list[Any] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drainer", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is in hand and end; while PostgreSQL hangs, leave it: its transaction ends with the process."""
        self._stopped.set()
        self._thread.join(_STOP_TIMEOUT_SECONDS)

    def drain(self) -> int:
        """Work off one batch; how many deliveries it had.

        Raises:
            RecoverableError: PostgreSQL is away or busy; everything is as it was.
        """
        self._conclude()
        with session():
            self._begin()
            with database.atomic():
                taken = inbox.lock_rows(self._trying)
                stored = self._work_off(taken)
                inbox.delete(row.row_id for row in taken)
        self._trying = []
        if taken:
            self.last_consumed_at = time.monotonic()
        self._stored = stored
        self._conclude()
        return len(taken)

    def _conclude(self) -> None:
        """What is left to do of what is stored, now that others see it; what fails for the moment is left once more."""
        while self._stored:
            outcome = self._stored.pop()
            try:
                self._stages.reapply(outcome)
            except RecoverableError:
                self._stored.append(outcome)
                raise
            self._stages.conclude(outcome)

    def _begin(self) -> None:
        """Note what is tried next. What was tried last is here still if PostgreSQL did not see it through."""
        with database.atomic():
            inbox.undo_attempt(self._trying)
            trying = inbox.begin_attempt(self._batch_size)
        self._trying = trying

    def _work_off(self, taken: Sequence[inbox.InboxRow]) -> list[Any]:
        """Work rows off; what that came to, if they were stored."""
        if not taken:
            return []
        first = taken[0]
        if first.tries > MAX_TRIES:
            dead_letters.add(first.accepted, AbandonedDelivery(), stage="drain")
            return []
        with watchdog.kill_process_after(PREPARE_TIMEOUT_SECONDS):
            batch = self._stages.prepare([row.accepted for row in taken])
        return [self._stages.record(batch)]

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._stopped.wait(self._drain_some())

    def _drain_some(self) -> float:
        """How long to wait before the next look, in seconds."""
        try:
            drained = self.drain()
        except RecoverableError as error:
            metrics.count("signalcraft_errors_total", stage="drain", kind="recoverable")
            log.warning("inbox paused, database unavailable", stage="drain", reason=str(error))
            return _RETRY_INTERVAL_SECONDS
        except Exception as error:  # noqa: BLE001 - whatever it is, what is on the shelf was acknowledged: try again
            metrics.count("signalcraft_errors_total", stage="drain", kind="permanent")
            log.error("inbox processing failed", stage="drain", **logs.exception_fields(error))  # noqa: TRY400 - fault says why
            return _RETRY_INTERVAL_SECONDS
        if drained:
            log.info("inbox batch processed", stage="drain", batch_size=drained)
        return 0 if drained else _POLL_INTERVAL_SECONDS
