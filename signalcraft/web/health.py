"""Health: whether each component works, probed within a second even if all of them hang; and how much waits."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache, partial
from typing import Final, TypeVar

from redis import Redis

from signalcraft.domain.errors import DatabaseUnavailable, DatabaseUnusable
from signalcraft.ingest.credential_cache import CredentialCache
from signalcraft.notify import queries as notify_queries
from signalcraft.queues import backlog, dead_letters, inbox, jobs, redis_clients, redis_persistence
from signalcraft.resilience import BoundedCall, SingleFlight
from signalcraft.storage import database_stats, migrations
from signalcraft.storage.database import check_disk, database, session
from signalcraft.web.prometheus import Gauge

T = TypeVar("T")

#: How long all probes together may take: platforms give up after a second.
PROBE_TIMEOUT_SECONDS: Final = 0.8
#: How old the oldest waiting job may be.
MAX_JOB_AGE_SECONDS: Final = 60.0

_QUEUES: Final = (jobs.ALERTS, jobs.NOTIFICATIONS)
_bounded: Final = BoundedCall(DatabaseUnavailable)


class State(StrEnum):
    """The state of a component. Values are part of the API."""

    OK = "ok"
    UNAVAILABLE = "away"  # cannot be reached, or refuses what we need of it
    TIMEOUT = "silent"  # does not respond
    BEHIND = "behind"  # lacks migrations, or lets jobs wait
    MISSING = "missing"  # no process does this work
    BROKEN = "broken"  # of receivers: messages to one wait, and alerts are received and stored all the same
    UNDECRYPTABLE = "undecryptable"  # of secrets: deliveries signed with them are refused, and lost


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """State of one component, what it could lose although it works, and the milliseconds its probe took.

    ``reason`` says what to do, if that is known.
    """

    state: State
    loses: Sequence[str] = ()
    reason: str | None = None
    ms: float = 0.0


_COMPONENTS: Final = ("redis", "postgresql", "queue", "worker", "secrets", "receivers")
#: Components without which nothing is lost or late but messages to people.
_OPTIONAL: Final = frozenset({"receivers"})
_in_flight: Final = {name: SingleFlight[ComponentStatus]("health") for name in _COMPONENTS}


def check(redis: Redis, credentials: CredentialCache) -> Mapping[str, ComponentStatus]:
    """Probe each component, by name, within ``PROBE_TIMEOUT_SECONDS`` for all together.

    ``redis`` is a client with short timeouts. A frozen server holds its probe for as long as the kernel likes; requests
    that come meanwhile share that probe, so there is one such thread, however often ``/readyz`` is called.
    """
    probes: Mapping[str, Callable[[], ComponentStatus]] = {
        "redis": partial(_probe_redis, redis),
        "postgresql": _probe_postgresql,
        "queue": partial(_probe_queue, redis),
        "worker": partial(_probe_worker, redis),
        "secrets": partial(_probe_secrets, credentials),
        "receivers": _probe_receivers,
    }
    deadline = time.monotonic() + PROBE_TIMEOUT_SECONDS
    started = {name: _in_flight[name].start(partial(_timed, probe)) for name, probe in probes.items()}
    return {name: _result(future, deadline) for name, future in started.items()}


def summary(checked: Mapping[str, ComponentStatus]) -> str:
    """Return ``ok``, ``degraded`` if people may not be told, or ``unavailable``."""
    failing = {name for name, part in checked.items() if part.state is not State.OK}
    return "unavailable" if failing - _OPTIONAL else "degraded" if failing else "ok"


def _timed(probe: Callable[[], ComponentStatus]) -> ComponentStatus:
    began = time.perf_counter()
    try:
        result = probe()
    except DatabaseUnusable as error:
        result = ComponentStatus(State.UNAVAILABLE, reason=str(error))
    except Exception:  # noqa: BLE001 - whatever it is, the component does not do what it is for
        result = ComponentStatus(State.UNAVAILABLE)
    return replace(result, ms=round((time.perf_counter() - began) * 1000, 2))


def _result(probe: Future[ComponentStatus], deadline: float) -> ComponentStatus:
    try:
        return probe.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        return ComponentStatus(State.TIMEOUT, ms=PROBE_TIMEOUT_SECONDS * 1000)


def _probe_redis(redis: Redis) -> ComponentStatus:
    redis_clients.check_writable(redis)
    return ComponentStatus(State.OK, redis_persistence.losses(redis))


def _probe_postgresql() -> ComponentStatus:
    with session():
        if missing := migrations.pending(database):
            return ComponentStatus(State.BEHIND, reason=migrations.advice(missing))
        check_disk()
    return ComponentStatus(State.OK)


def _probe_queue(redis: Redis) -> ComponentStatus:
    late = backlog.backlog(redis, jobs.ALERTS).oldest_seconds > MAX_JOB_AGE_SECONDS
    return ComponentStatus(State.BEHIND if late else State.OK)


def _probe_worker(redis: Redis) -> ComponentStatus:
    seconds = backlog.heartbeat_seconds(redis, jobs.ALERTS)
    beats = seconds is not None and seconds < backlog.HEARTBEAT_SECONDS
    return ComponentStatus(State.OK if beats else State.MISSING)


def _probe_secrets(credentials: CredentialCache) -> ComponentStatus:
    """Return whether this process can verify what each live secret signs.

    It names their number alone: anybody may ask.
    """
    number = credentials.undecryptable()
    if not number:
        return ComponentStatus(State.OK)
    lost = f"deliveries signed with secrets that ENCRYPTION_KEY does not decrypt: {number}"
    return ComponentStatus(State.UNDECRYPTABLE, [lost])


def _probe_receivers() -> ComponentStatus:
    """Return whether any receiver is broken: their number alone, as for secrets."""
    with session():
        number = sum(notify_queries.broken().values())
    if not number:
        return ComponentStatus(State.OK)
    advice = f"Broken receivers: {number}; their messages wait. `python -m signalcraft receivers list` names them"
    return ComponentStatus(State.BROKEN, reason=advice)


def gauges(redis: Redis, credentials: CredentialCache) -> Mapping[str, Gauge]:
    """Return the gauges of what waits, and for how long.

    Each is read when ``/metrics`` is.
    """
    sizes = cache(partial(_query, database_stats.table_sizes))  # both gauges of one scrape read it
    return {
        "signalcraft_queue_depth": lambda: {(name,): backlog.backlog(redis, name).depth for name in _QUEUES},
        "signalcraft_queue_oldest_seconds": lambda: {
            (name,): backlog.backlog(redis, name).oldest_seconds for name in _QUEUES
        },
        "signalcraft_worker_heartbeat_seconds": partial(_heartbeats, redis),
        "signalcraft_unreadable_entries": partial(backlog.unreadable_entries, redis),
        "signalcraft_inbox_depth": lambda: _query(inbox.depth),
        "signalcraft_inbox_oldest_seconds": lambda: _seconds_since(_query(inbox.oldest_received_at)),
        "signalcraft_failed_deliveries": lambda: _query(dead_letters.depth),
        "signalcraft_notifications_waiting": lambda: _query(notify_queries.waiting),
        "signalcraft_notifications_given_up": lambda: _query(notify_queries.given_up),
        "signalcraft_receiver_broken": lambda: {
            (name,): float(is_broken) for name, is_broken in _query(notify_queries.broken).items()
        },
        "signalcraft_undecryptable_secrets": credentials.undecryptable,
        "signalcraft_database_connections": lambda: {
            (state,): held for state, held in database_stats.connections().items()
        },
        "signalcraft_table_rows": lambda: {(name,): size.rows for name, size in sizes().items()},
        "signalcraft_table_bytes": lambda: {(name,): size.bytes for name, size in sizes().items()},
    }


def _heartbeats(redis: Redis) -> Mapping[tuple[str, ...], float]:
    """Return ages by queue, of queues that have a worker."""
    ages = {(name,): backlog.heartbeat_seconds(redis, name) for name in _QUEUES}
    return {labels: age for labels, age in ages.items() if age is not None}


def _seconds_since(moment: datetime | None) -> float:
    return (datetime.now(UTC) - moment).total_seconds() if moment else 0.0


def _query(read: Callable[[], T]) -> T:
    """Return what ``read`` finds in PostgreSQL.

    Raises:
        DatabaseUnavailable: it is unavailable, or frozen, which must not hold up a scrape.
    """

    def read_in_session() -> T:
        with session():
            return read()

    return _bounded.run(read_in_session, timeout=PROBE_TIMEOUT_SECONDS)
