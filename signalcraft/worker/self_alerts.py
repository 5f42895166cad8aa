"""Notify people of trouble of SignalCraft's own, through the notifier of their alerts.

A thread of each worker checks every few seconds for three things: deliveries that were lately dead-lettered,
deliveries in the inbox because Redis did not take them, and PostgreSQL unavailable for a minute. Each is one incident,
however many deliveries it concerns and however many workers see it: it is notified once, and is over when it has not
been seen for ``RESOLVED_AFTER_SECONDS``. Redis holds the incidents that are open; while it is unavailable, each worker
knows its own.
"""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Final

import structlog
from redis import Redis
from redis.exceptions import RedisError

from signalcraft import logs, metrics
from signalcraft.domain.alerts import GroupSnapshot, GroupStatus, Severity
from signalcraft.domain.errors import DatabaseUnavailable, RecoverableError
from signalcraft.domain.notifications import QueueNotification
from signalcraft.queues import dead_letters, inbox
from signalcraft.resilience import BoundedCall, every
from signalcraft.storage.database import session

log = structlog.get_logger(__name__)

RESOLVED_AFTER_SECONDS: Final = 300
UNAVAILABLE_SECONDS: Final = 60.0
_POLL_INTERVAL_SECONDS: Final = 10.0
#: How long PostgreSQL may take to answer: frozen counts as unavailable.
_QUERY_TIMEOUT_SECONDS: Final = 3.0
_ACTIVE_KEY: Final = "signalcraft:episode:"


class Incident(StrEnum):
    """What is wrong; the value is the reason that a notifier is handed."""

    DEAD_LETTERS = "deliveries_set_aside"
    INBOX_IN_USE = "inbox_in_use"
    DATABASE_UNAVAILABLE = "database_away"


_TITLES: Final = {
    Incident.DEAD_LETTERS: "SignalCraft could not process deliveries: see signalcraft failed list",
    Incident.INBOX_IN_USE: "SignalCraft keeps deliveries in PostgreSQL: Redis does not take them",
    Incident.DATABASE_UNAVAILABLE: "A SignalCraft worker cannot reach PostgreSQL",
}


class IncidentMonitor:
    """Detect incidents, and notify once of each."""

    def __init__(
        self,
        queue_notification: QueueNotification,
        redis: Redis,
        *,
        unavailable_seconds: float = UNAVAILABLE_SECONDS,
        resolved_after: int = RESOLVED_AFTER_SECONDS,
        inbox_is_incident: bool = True,
        last_consumed_at: Callable[[], float] = lambda: -math.inf,
    ) -> None:
        """Create a monitor.

        ``queue_notification`` is the configured notifier; ``redis`` a client with short timeouts. ``last_consumed_at``
        says when this worker last took something from the inbox: what comes between two polls is gone by the second.
        With INGEST_DURABILITY=inbox a delivery in the inbox is no incident: all are there.
        """
        self._inbox_is_incident = inbox_is_incident
        self._last_consumed_at = last_consumed_at
        self._queue_notification = queue_notification
        self._redis = redis
        self._unavailable_seconds = unavailable_seconds
        self._resolved_after = resolved_after
        self._reached_at = time.monotonic()
        self._seen_at: dict[Incident, float] = {}
        self._bounded = BoundedCall(DatabaseUnavailable)

    def check(self) -> None:
        """Detect the open incidents and notify of new ones."""
        for incident in self._detect():
            if self._is_new(incident):
                self._notify(incident)

    def _detect(self) -> list[Incident]:
        try:
            waits, failed = self._bounded.run(
                partial(_query_inbox_and_dead_letters, self._resolved_after), timeout=_QUERY_TIMEOUT_SECONDS
            )
        except RecoverableError:
            is_long = time.monotonic() - self._reached_at >= self._unavailable_seconds
            return [Incident.DATABASE_UNAVAILABLE] if is_long else []
        self._reached_at = time.monotonic()
        in_use = waits or self._reached_at - self._last_consumed_at() < self._resolved_after
        found = {Incident.DEAD_LETTERS: failed, Incident.INBOX_IN_USE: in_use and self._inbox_is_incident}
        return [incident for incident, is_on in found.items() if is_on]

    def _is_new(self, incident: Incident) -> bool:
        """Return whether no worker has seen ``incident`` lately.

        It is marked as seen.
        """
        before, now = self._seen_at.get(incident), time.monotonic()
        self._seen_at[incident] = now
        known_here = before is not None and now - before < self._resolved_after
        try:
            known = self._redis.set(_ACTIVE_KEY + incident, "on", ex=self._resolved_after, get=True) is not None
        except RedisError:
            return not known_here
        return not known and not known_here

    def _notify(self, incident: Incident) -> None:
        """Call the notifier.

        Whatever it raises, the next check tries again.
        """
        log.error("incident started", stage="watch", episode=incident.value)
        try:
            self._queue_notification(incident.value, _as_group(incident))
        except Exception as error:  # noqa: BLE001 - it may be anybody's code
            metrics.count("signalcraft_errors_total", stage="notify", kind="recoverable")
            why = logs.exception_fields(error)
            log.error("incident notification failed", stage="watch", episode=incident.value, **why)  # noqa: TRY400 - why has the trace
            self._forget(incident)

    def _forget(self, incident: Incident) -> None:
        del self._seen_at[incident]
        try:
            self._redis.delete(_ACTIVE_KEY + incident)
        except RedisError:
            return


def _query_inbox_and_dead_letters(seconds: float) -> tuple[bool, bool]:
    """Return whether the inbox has rows, and dead letters too.

    Each has its own answer; dead letters count if they were added in the last ``seconds``.
    """
    with session():
        return inbox.has_rows(), dead_letters.any_within(seconds)


def start(
    queue_notification: QueueNotification,
    redis: Redis,
    *,
    inbox_is_incident: bool,
    last_consumed_at: Callable[[], float],
) -> Callable[[], None]:
    """Check every few seconds; return what stops it.

    The checks run in a thread.
    """
    monitor = IncidentMonitor(
        queue_notification, redis, inbox_is_incident=inbox_is_incident, last_consumed_at=last_consumed_at
    )
    return every(_POLL_INTERVAL_SECONDS, monitor.check, name="incidents")


def _as_group(incident: Incident) -> GroupSnapshot:
    """Return the group that a notifier is handed.

    It is in no table and of no workspace.
    """
    now = datetime.now(UTC)
    return GroupSnapshot(
        id=0,
        workspace_id=0,
        source="signalcraft",
        project="signalcraft",
        environment="prod",
        fingerprint=f"episode:{incident}",
        title=_TITLES[incident],
        severity=Severity.CRITICAL,
        status=GroupStatus.OPEN,
        count=1,
        first_seen_at=now,
        last_seen_at=now,
        link=None,
        previous_group_id=None,
        escalated=False,
    )
