"""The notifier: a thread that fans out, one that delivers for each receiver, and what wakes them.

A job of RQ wakes them at once, and the clock every second: Redis away costs a second, and no message. A thread for each
receiver, so that one that hangs holds up no other.
"""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

import structlog

from signalcraft import logs, metrics
from signalcraft.domain.errors import RecoverableError
from signalcraft.domain.notifications import Evaluate
from signalcraft.notify.config import NotifyConfig
from signalcraft.notify.delivery import ReceiverDelivery, Timing
from signalcraft.notify.delivery_sql import UPDATE_DIGESTS
from signalcraft.notify.fan_out import FanOut
from signalcraft.notify.routing import Router
from signalcraft.storage.database import database, session

log = structlog.get_logger(__name__)

#: The longest time without a look at PostgreSQL.
POLL_SECONDS: Final = 1.0
_UPKEEP_SECONDS: Final = 30.0
_MAX_REMINDERS: Final = 3

_REGISTER: Final = """
    INSERT INTO receiver_state AS s (receiver) SELECT unnest(%(receivers)s)
    ON CONFLICT (receiver) DO UPDATE
    SET not_before = CASE WHEN s.broken_since IS NULL THEN s.not_before ELSE now() END"""
#: So that readyz and alarms are about receivers that exist. Messages for others are given up after a day.
_FORGET: Final = "DELETE FROM receiver_state WHERE receiver <> ALL(%(receivers)s)"
#: A card is reminded of in its thread, by the first reminder; what follows is as with messages for events.
_REMIND: Final = f"""
    WITH due AS (
        UPDATE notification n SET remind_at = NULL FROM alert_group g
        WHERE n.remind_at <= now() AND g.id = n.alert_group_id AND (
            n.mode IN ('event', 'reply') OR n.mode = 'card' AND n.told_status = 'open' AND n.receiver = ANY(%(threads)s)
              AND NOT EXISTS (
                SELECT FROM notification o WHERE o.alert_group_id = n.alert_group_id AND o.receiver = n.receiver
                  AND o.mode = 'reply' AND o.reason = 'reminder'))
        RETURNING n.*, g.status AS group_status)
    INSERT INTO notification (workspace_id, alert_group_id, receiver, route, mode, reason, rank, happened_at, due_at,
        reminders)
    SELECT workspace_id, alert_group_id, receiver, route, CASE mode WHEN 'event' THEN mode ELSE 'reply' END, 'reminder',
           rank, now(), now(), reminders + 1
    FROM due WHERE group_status = 'open' AND reminders < {_MAX_REMINDERS}"""
#: Cards that show a snooze which has ended since: no happening says so.
_SHOW_ENDED_SNOOZES: Final = """
    UPDATE notification SET state = 'pending', due_at = now(), remind_at = NULL, reason = 'snooze_ended',
        revision = revision + 1
    WHERE remind_at <= now() AND mode = 'card' AND state = 'sent' AND told_status = 'snoozed'"""
#: Messages that waited too long for a receiver that is broken or away, and those of receivers that are no more.
_GIVE_UP: Final = """
    UPDATE notification SET state = 'given_up'
    WHERE state = 'pending' AND (sent_at IS NULL OR undelivered_to IS NOT NULL)
      AND created_at < now() - %(after)s AND due_at < now()"""


class Notifier:
    """Runs the threads of one notifier process."""

    def __init__(
        self,
        config: NotifyConfig,
        rules: Sequence[Evaluate],
        *,
        public_url: str = "",
        timing: Timing | None = None,
    ) -> None:
        """Create it; ``rules`` are those of the setting RULES, ``public_url`` where people reach the pages."""
        self._config = config
        self._timing = timing or Timing()
        self._fan_out = FanOut(Router(config, rules))
        self._deliveries = {
            name: ReceiverDelivery(receiver, config, public_url=public_url, timing=self._timing)
            for name, receiver in config.receivers.items()
        }
        self._stopped = threading.Event()
        self._woken = threading.Event()
        self._due = {name: threading.Event() for name in self._deliveries}
        self._upkeep_at = 0.0

    def start(self) -> Callable[[float], None]:
        """Start the threads; return what stops them, within so many seconds."""
        loops = {
            "notify-fan-out": lambda: self._loop(self._route, self._woken),
            **{f"notify-{name}": self._delivery_loop(name) for name in self._deliveries},
        }
        threads = [threading.Thread(target=loop, name=name, daemon=True) for name, loop in loops.items()]
        for thread in threads:
            thread.start()

        def stop(timeout: float) -> None:
            self._stopped.set()
            for event in (self._woken, *self._due.values()):
                event.set()
            deadline = time.monotonic() + timeout
            for thread in threads:
                thread.join(max(deadline - time.monotonic(), 0))

        return stop

    def wake(self) -> None:
        """Look for something to route now."""
        self._woken.set()

    def run_until_idle(self) -> None:
        """Route and send whatever is due now, and return.

        Raises:
            DatabaseUnavailable: PostgreSQL is unavailable.
        """
        deliveries = self._deliveries.values()
        while self._route() | sum(delivery.run_once() for delivery in deliveries):
            continue

    def _delivery_loop(self, name: str) -> Callable[[], None]:
        return lambda: self._loop(self._deliveries[name].run_once, self._due[name])

    def _loop(self, work: Callable[[], bool], woken: threading.Event) -> None:
        """Call ``work`` while it finds something; then wait until woken, or a second."""
        is_reported = False
        while not self._stopped.is_set():
            try:
                found = work()
                is_reported = False
            except RecoverableError as error:
                found = False
                if not is_reported:
                    log.warning("notifier waits for PostgreSQL", stage="notify", reason=str(error))
                is_reported = True
            except Exception as error:  # noqa: BLE001 - a bug in one pass must not end the thread
                found = False
                metrics.count("signalcraft_errors_total", stage="notify", kind="permanent")
                log.error("notifier failed", stage="notify", **logs.exception_fields(error))  # noqa: TRY400
            if not found:
                woken.wait(POLL_SECONDS)
                woken.clear()

    def _route(self) -> bool:
        """Fan out once, and do what the clock asks for; return whether anything was routed."""
        with session():
            if time.monotonic() >= self._upkeep_at:
                self._upkeep()
                self._upkeep_at = time.monotonic() + _UPKEEP_SECONDS
            routed = self._fan_out.run_once()
        if routed:
            for event in self._due.values():
                event.set()
        return routed > 0

    def _upkeep(self) -> None:
        """Register receivers, remind, and give up what waited too long."""
        if not self._upkeep_at:
            for statement in (_REGISTER, _FORGET):
                database.execute_sql(statement, {"receivers": list(self._deliveries)})
        threads = [name for name, receiver in self._config.receivers.items() if receiver.has_threads]
        database.execute_sql(_REMIND, {"threads": threads})
        database.execute_sql(_SHOW_ENDED_SNOOZES)
        database.execute_sql(UPDATE_DIGESTS)
        database.execute_sql(_GIVE_UP, {"after": self._timing.give_up_after + timedelta(hours=1)})
