"""When SignalCraft itself is in trouble: people hear of it through the same notifier as of their alerts.

A thread of each worker looks every few seconds for three things: deliveries that were lately set aside, deliveries
that PostgreSQL took because Redis did not, and PostgreSQL out of reach for a minute. Each is one episode,
however many deliveries it concerns and workers see it: it is told of once, and is over when it has not been seen for
``OVER_AFTER_SECONDS``. Redis knows which episodes are on; while it is away, each worker knows its own.
"""

import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
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
from signalcraft.resilience import BoundedCall
from signalcraft.storage.database import session

log = structlog.get_logger(__name__)

RESOLVED_AFTER_SECONDS: Final = 300
UNAVAILABLE_SECONDS: Final = 60.0
_POLL_INTERVAL_SECONDS: Final = 10.0
#: How long PostgreSQL may take to answer: frozen, it is as good as away.
_QUERY_TIMEOUT_SECONDS: Final = 3.0
_ACTIVE_KEY: Final = "signalcraft:episode:"


class Incident(StrEnum):
    """What is wrong; the value is the reason that a notifier is handed."""

    SET_ASIDE = "deliveries_set_aside"
    INBOX_IN_USE = "inbox_in_use"
    DATABASE_AWAY = "database_away"


_TITLES: Final = {
    Incident.SET_ASIDE: "SignalCraft could not work off deliveries: see signalcraft failed list",
    Incident.INBOX_IN_USE: "SignalCraft keeps deliveries in PostgreSQL: Redis does not take them",
    Incident.DATABASE_AWAY: "A SignalCraft worker cannot reach PostgreSQL",
}


class IncidentMonitor:
    """Sees episodes begin and end, and tells of each once."""

    def __init__(
        self,
        tell: QueueNotification,
        redis: Redis,
        *,
        away_seconds: float = UNAVAILABLE_SECONDS,
        over_after: int = RESOLVED_AFTER_SECONDS,
        inbox_is_trouble: bool = True,
        last_consumed_at: Callable[[], float] = lambda: -math.inf,
    ) -> None:
        """``tell`` is the workbench's notifier; ``redis`` a client that fails soon.

        ``last_consumed_at`` says when this worker last took something from the inbox: what comes between two polls is
        gone by the second. With INGEST_DURABILITY=inbox a delivery in the inbox is no trouble: all are there.
        """
        self._inbox_is_trouble = inbox_is_trouble
        self._last_consumed_at = last_consumed_at
        self._tell = tell
        self._redis = redis
        self._away_seconds = away_seconds
        self._over_after = over_after
        self._reached_at = time.monotonic()
        self._on: dict[Incident, float] = {}
        self._patience = BoundedCall(DatabaseUnavailable)

    def look(self) -> None:
        """See what is on now, and tell of what was not on before."""
        for episode in self._seen():
            if self._begins(episode):
                self._tell_of(episode)

    def _seen(self) -> list[Incident]:
        lately = datetime.now(UTC) - timedelta(seconds=self._over_after)
        try:
            waits, failed = self._patience.run(
                partial(_query_inbox_and_dead_letters, lately), seconds=_QUERY_TIMEOUT_SECONDS
            )
        except RecoverableError:
            is_long = time.monotonic() - self._reached_at >= self._away_seconds
            return [Incident.DATABASE_AWAY] if is_long else []
        self._reached_at = time.monotonic()
        in_use = waits or self._reached_at - self._last_consumed_at() < self._over_after
        found = {Incident.SET_ASIDE: failed, Incident.INBOX_IN_USE: in_use and self._inbox_is_trouble}
        return [episode for episode, is_on in found.items() if is_on]

    def _begins(self, episode: Incident) -> bool:
        """Whether nobody has seen it lately; from now on it has been seen."""
        before, now = self._on.get(episode), time.monotonic()
        self._on[episode] = now
        known_here = before is not None and now - before < self._over_after
        try:
            known = self._redis.set(_ACTIVE_KEY + episode, "on", ex=self._over_after, get=True) is not None
        except RedisError:
            return not known_here
        return not known and not known_here

    def _tell_of(self, episode: Incident) -> None:
        """Whatever the notifier raises, it may be Redis that is wrong: the next look tries again."""
        log.error("incident started", stage="watch", episode=episode.value)
        try:
            self._tell(episode.value, _as_group(episode))
        except Exception as error:  # noqa: BLE001 - as said above
            metrics.count("signalcraft_errors_total", stage="notify", kind="recoverable")
            log.error("incident notification failed", stage="watch", episode=episode.value, **logs.exception_fields(error))  # noqa: TRY400
            self._forget(episode)

    def _forget(self, episode: Incident) -> None:
        del self._on[episode]
        try:
            self._redis.delete(_ACTIVE_KEY + episode)
        except RedisError:
            return


def _query_inbox_and_dead_letters(lately: datetime) -> tuple[bool, bool]:
    """Whether something waits on PostgreSQL's shelf, and whether something was set aside ``lately``."""
    with session():
        return inbox.has_rows(), dead_letters.any_since(lately)


def start(
    tell: QueueNotification, redis: Redis, *, inbox_is_trouble: bool, last_consumed_at: Callable[[], float]
) -> Callable[[], None]:
    """Watch, in a thread of its own; what comes back stops it."""
    stopped = threading.Event()
    watch = IncidentMonitor(tell, redis, inbox_is_trouble=inbox_is_trouble, last_consumed_at=last_consumed_at)

    def run() -> None:
        while not stopped.wait(_POLL_INTERVAL_SECONDS):
            watch.look()

    threading.Thread(target=run, name="episodes", daemon=True).start()
    return stopped.set


def _as_group(episode: Incident) -> GroupSnapshot:
    """What a notifier is handed: a group that is in no table, of no workspace."""
    now = datetime.now(UTC)
    return GroupSnapshot(
        id=0,
        workspace_id=0,
        source="signalcraft",
        project="signalcraft",
        environment="prod",
        fingerprint=f"episode:{episode}",
        title=_TITLES[episode],
        severity=Severity.CRITICAL,
        status=GroupStatus.OPEN,
        count=1,
        first_seen_at=now,
        last_seen_at=now,
        link=None,
        previous_group_id=None,
        escalated=False,
    )
