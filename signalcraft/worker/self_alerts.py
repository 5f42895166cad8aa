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
from enum import StrEnum
from functools import partial
from typing import Final

import structlog
from redis import Redis
from redis.exceptions import RedisError

from signalcraft.domain.errors import DatabaseUnavailable, RecoverableError
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
    """What is wrong; the value is the reason of the message."""

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
        tell_of: Callable[[str, str], object],
        redis: Redis,
        *,
        unavailable_seconds: float = UNAVAILABLE_SECONDS,
        resolved_after: int = RESOLVED_AFTER_SECONDS,
        inbox_is_incident: bool = True,
        last_consumed_at: Callable[[], float] = lambda: -math.inf,
    ) -> None:
        """Create a monitor.

        ``tell_of`` queues a message by a reason and a title; ``redis`` is a client with short timeouts.
        ``last_consumed_at`` says when this worker last took something from the inbox: what comes between two polls is
        gone by the second.
        With INGEST_DURABILITY=inbox a delivery in the inbox is no incident: all are there.
        """
        self._inbox_is_incident = inbox_is_incident
        self._last_consumed_at = last_consumed_at
        self._tell_of = tell_of
        self._untold: set[Incident] = set()
        self._redis = redis
        self._unavailable_seconds = unavailable_seconds
        self._resolved_after = resolved_after
        self._reached_at = time.monotonic()
        self._seen_at: dict[Incident, float] = {}
        self._bounded = BoundedCall(DatabaseUnavailable)

    def check(self) -> None:
        """Detect the open incidents and tell of new ones."""
        for incident in self._detect():
            if self._is_new(incident):
                self._notify(incident)
        self._tell()

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
        """Log the incident, and tell of it as soon as PostgreSQL takes that."""
        log.error("incident started", stage="watch", episode=incident.value)
        self._untold.add(incident)

    def _tell(self) -> None:
        """Tell of the incidents that were not told yet."""
        for incident in sorted(self._untold):
            try:
                self._bounded.run(
                    partial(self._tell_of, incident.value, _TITLES[incident]), timeout=_QUERY_TIMEOUT_SECONDS
                )
            except RecoverableError:
                return  # PostgreSQL is unavailable, which may be the incident itself
            self._untold.discard(incident)


def _query_inbox_and_dead_letters(seconds: float) -> tuple[bool, bool]:
    """Return whether the inbox has rows, and dead letters too.

    Each has its own answer; dead letters count if they were added in the last ``seconds``.
    """
    with session():
        return inbox.has_rows(), dead_letters.any_within(seconds)


def start(
    tell_of: Callable[[str, str], object],
    redis: Redis,
    *,
    inbox_is_incident: bool,
    last_consumed_at: Callable[[], float],
) -> Callable[[], None]:
    """Check every few seconds; return what stops it.

    The checks run in a thread.
    """
    monitor = IncidentMonitor(tell_of, redis, inbox_is_incident=inbox_is_incident, last_consumed_at=last_consumed_at)
    return every(_POLL_INTERVAL_SECONDS, monitor.check, name="incidents")
