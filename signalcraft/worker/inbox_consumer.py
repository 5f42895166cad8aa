"""A thread of the worker that processes the inbox: deliveries acknowledged while Redis was unavailable.

It needs no Redis, so it works while Redis is still unavailable. One transaction locks and processes rows; they are
deleted once the status changes that it could not see are applied too. If the worker dies before, the rows stay, except
for the number of tries, which is committed first, and are processed again, which is idempotent. A row with as many
tries as the queue allows is dead-lettered.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

from signalcraft import logs, metrics
from signalcraft.domain.errors import AbandonedDelivery, RecoverableError
from signalcraft.queues import dead_letters, inbox
from signalcraft.queues.jobs import MAX_RETRIES
from signalcraft.resilience import every
from signalcraft.storage.database import database, session
from signalcraft.worker import watchdog
from signalcraft.worker.context import PREPARE_TIMEOUT_SECONDS, InboxStages

log = structlog.get_logger(__name__)

_POLL_INTERVAL_SECONDS: Final = 0.5
_RETRY_INTERVAL_SECONDS: Final = 2.0
#: Less than the rest of a platform's 10 s after the queue's batch.
_STOP_TIMEOUT_SECONDS: Final = 3.0
#: As many as for a job in the queue.
MAX_TRIES: Final = 1 + MAX_RETRIES


class InboxConsumer:
    """Processes the inbox in batches, oldest first, concurrently with other workers."""

    def __init__(self, stages: InboxStages, *, batch_size: int) -> None:
        """Create a consumer that runs ``stages`` over rows.

        The stages are the same as for jobs.
        """
        self._stages = stages
        self._batch_size = batch_size
        self._attempted_ids: Sequence[int] = []
        #: When this consumer last found rows in the inbox, on the monotonic clock.
        self.last_consumed_at = -math.inf
        #: What was stored by a batch, and its rows.
        self._unconcluded: tuple[Sequence[Any], Sequence[int]] | None = None

    def start(self) -> Callable[[], None]:
        """Consume in a thread; return what stops it.

        It stops after the current batch. If PostgreSQL hangs, stopping gives up: the transaction ends with the process.
        """
        return every(
            _POLL_INTERVAL_SECONDS, self._poll, name="inbox-consumer", delay=0, stop_timeout=_STOP_TIMEOUT_SECONDS
        )

    def consume_batch(self) -> int:
        """Process one batch and return its number of deliveries.

        Raises:
            RecoverableError: PostgreSQL is unavailable or busy; the rows are still in the inbox.
        """
        self._conclude()
        with session():
            self._begin_attempt()
            with database.atomic():
                rows = inbox.lock_rows(self._attempted_ids)
                outcomes, row_ids = self._process(rows), [row.row_id for row in rows]
                inbox.claim(row_ids)
        self._attempted_ids = []
        if rows:
            self.last_consumed_at = time.monotonic()
            self._unconcluded = outcomes, row_ids
        self._conclude()
        return len(rows)

    def _conclude(self) -> None:
        """Reapply status changes, delete the rows and notify, for a committed batch.

        The next call retries if PostgreSQL is unavailable. After another failure the rows are processed again.
        """
        if self._unconcluded is None:
            return
        outcomes, row_ids = self._unconcluded
        try:
            for outcome in outcomes:
                self._stages.reapply(outcome)
            with session():
                inbox.delete(row_ids)
        except RecoverableError:
            raise
        except BaseException:
            self._unconcluded = None
            raise
        self._unconcluded = None
        for outcome in outcomes:
            self._stages.conclude(outcome)

    def _begin_attempt(self) -> None:
        """Count the next attempt.

        The last one is undone if it failed without a crash.
        """
        with database.atomic():
            inbox.undo_attempt(self._attempted_ids)
            attempted_ids = inbox.begin_attempt(self._batch_size)
        self._attempted_ids = attempted_ids

    def _process(self, rows: Sequence[inbox.InboxRow]) -> list[Any]:
        """Process rows and return the outcomes of those stored."""
        if not rows:
            return []
        first, *others = rows
        if first.tries > MAX_TRIES:
            dead_letters.add(first.accepted, AbandonedDelivery(), stage="drain")
            return self._process(others)  # it comes alone, unless others died of it since this worker claimed it
        with watchdog.kill_process_after(PREPARE_TIMEOUT_SECONDS):
            batch = self._stages.prepare([row.accepted for row in rows])
        return [self._stages.record(batch)]

    def _poll(self) -> float:
        """Consume a batch; return the seconds until the next poll."""
        try:
            consumed = self.consume_batch()
        except RecoverableError as error:
            metrics.count("signalcraft_errors_total", stage="drain", kind="recoverable")
            log.warning("inbox paused, database unavailable", stage="drain", reason=str(error))
            return _RETRY_INTERVAL_SECONDS
        except Exception as error:  # noqa: BLE001 - the deliveries were acknowledged: try again
            metrics.count("signalcraft_errors_total", stage="drain", kind="permanent")
            log.error("inbox processing failed", stage="drain", **logs.exception_fields(error))  # noqa: TRY400 - the fields have the traceback
            return _RETRY_INTERVAL_SECONDS
        if consumed:
            log.info("inbox batch processed", stage="drain", batch_size=consumed)
        return 0.0 if consumed else _POLL_INTERVAL_SECONDS
