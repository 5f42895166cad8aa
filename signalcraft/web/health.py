"""How we are: whether each part works, asked within a second even if all of them hang, and how much waits."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache, partial
from typing import Final, TypeVar

from redis import Redis

from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.queues import backlog as queues_backlog
from signalcraft.queues import dead_letters, inbox, jobs, redis_clients, redis_persistence
from signalcraft.queues.backlog import HEARTBEAT_SECONDS, heartbeat_seconds
from signalcraft.resilience import BoundedCall
from signalcraft.storage import database_stats, migrations
from signalcraft.storage.database import database, session
from signalcraft.web.prometheus import Gauge

T = TypeVar("T")

#: How long an answer may take, for all parts together: whoever asks gives up after a second.
PROBE_TIMEOUT_SECONDS: Final = 0.8
#: How old the oldest waiting job may be.
MAX_JOB_AGE_SECONDS: Final = 60.0

_QUEUES: Final = (jobs.ALERTS, jobs.NOTIFICATIONS)
_bounded: Final = BoundedCall(DatabaseUnavailable)


class State(StrEnum):
    """What a part is, as far as we can see."""

    OK = "ok"
    AWAY = "away"  # cannot be reached, or refuses what we need of it
    SILENT = "silent"  # does not answer
    BEHIND = "behind"  # lacks migrations, or lets jobs wait
    MISSING = "missing"  # nobody does this work


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentStatus:
    """What one part said, after how many milliseconds, and what it would lose though it works."""

    state: State
    ms: float
    loses: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _ProbeResult:
    state: State
    loses: Sequence[str] = ()


class _Probe:
    """Asks one part, in a daemon thread, one question at a time.

    A frozen server holds the thread for as long as the kernel likes. Whoever asks meanwhile waits for that same
    answer, so there is one such thread, however often we are asked; and it keeps no process from ending.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answered = threading.Event()
        self._answered.set()
        self._answer = ComponentStatus(state=State.SILENT, ms=0)

    def ask(self, question: Callable[[], _ProbeResult]) -> threading.Event:
        """Begin to ask, unless an answer is still awaited; what is set when it is there."""
        with self._lock:
            if self._answered.is_set():
                self._answered = threading.Event()
                arguments = (question, self._answered)
                threading.Thread(target=self._run, args=arguments, name="health", daemon=True).start()
            return self._answered

    def answer(self, answered: threading.Event, *, seconds: float) -> ComponentStatus:
        """The answer, or silence after so many seconds."""
        if answered.wait(max(0.0, seconds)):
            return self._answer
        return ComponentStatus(state=State.SILENT, ms=PROBE_TIMEOUT_SECONDS * 1000)

    def _run(self, question: Callable[[], _ProbeResult], answered: threading.Event) -> None:
        began = time.perf_counter()
        try:
            said = question()
        except Exception:  # noqa: BLE001 - whatever it is, the part does not do what it is for
            said = _ProbeResult(State.AWAY)
        ms = round((time.perf_counter() - began) * 1000, 2)
        self._answer = ComponentStatus(state=said.state, ms=ms, loses=said.loses)
        answered.set()


_probes: Final = {name: _Probe() for name in ("redis", "postgresql", "queue", "worker")}


def check(redis: Redis) -> Mapping[str, ComponentStatus]:
    """Each part, by name, within ``PATIENCE_SECONDS``. ``redis`` is a client that fails soon."""
    questions: Mapping[str, Callable[[], _ProbeResult]] = {
        "redis": partial(_probe_redis, redis),
        "postgresql": _probe_postgresql,
        "queue": partial(_probe_queue, redis),
        "worker": partial(_probe_worker, redis),
    }
    deadline = time.monotonic() + PROBE_TIMEOUT_SECONDS
    asked = {name: _probes[name].ask(question) for name, question in questions.items()}
    return {
        name: _probes[name].answer(answered, seconds=deadline - time.monotonic()) for name, answered in asked.items()
    }


def _probe_redis(redis: Redis) -> _ProbeResult:
    redis_clients.check_writable(redis)
    return _ProbeResult(State.OK, redis_persistence.losses(redis))


def _probe_postgresql() -> _ProbeResult:
    with session():
        return _ProbeResult(State.BEHIND if migrations.pending(database) else State.OK)


def _probe_queue(redis: Redis) -> _ProbeResult:
    late = _age(queues_backlog.backlog(redis, jobs.ALERTS)) > MAX_JOB_AGE_SECONDS
    return _ProbeResult(State.BEHIND if late else State.OK)


def _probe_worker(redis: Redis) -> _ProbeResult:
    seconds = heartbeat_seconds(redis, jobs.ALERTS)
    beats = seconds is not None and seconds < HEARTBEAT_SECONDS
    return _ProbeResult(State.OK if beats else State.MISSING)


def gauges(redis: Redis) -> Mapping[str, Gauge]:
    """What waits, and for how long: each is read when ``/metrics`` is."""
    sizes = cache(partial(_query, database_stats.table_sizes))  # both gauges of one scrape read it
    return {
        "signalcraft_queue_depth": lambda: {(name,): queues_backlog.backlog(redis, name).depth for name in _QUEUES},
        "signalcraft_queue_oldest_seconds": lambda: {
            (name,): _age(queues_backlog.backlog(redis, name)) for name in _QUEUES
        },
        "signalcraft_worker_heartbeat_seconds": partial(_heartbeats, redis),
        "signalcraft_inbox_depth": lambda: _query(inbox.depth),
        "signalcraft_inbox_oldest_seconds": lambda: _seconds_since(_query(inbox.oldest_received_at)),
        "signalcraft_failed_deliveries": lambda: _query(dead_letters.depth),
        "signalcraft_database_connections": lambda: {
            (state,): held for state, held in database_stats.connections().items()
        },
        "signalcraft_table_rows": lambda: {(name,): size.rows for name, size in sizes().items()},
        "signalcraft_table_bytes": lambda: {(name,): size.bytes for name, size in sizes().items()},
    }


def _heartbeats(redis: Redis) -> Mapping[tuple[str, ...], float]:
    """Only of queues that have a worker."""
    ages = {(name,): heartbeat_seconds(redis, name) for name in _QUEUES}
    return {labels: age for labels, age in ages.items() if age is not None}


def _age(backlog: queues_backlog.Backlog) -> float:
    return _seconds_since(backlog.oldest_created_at)


def _seconds_since(moment: datetime | None) -> float:
    return (datetime.now(UTC) - moment).total_seconds() if moment else 0.0


def _query(read: Callable[[], T]) -> T:
    """What ``read`` finds in PostgreSQL.

    Raises:
        DatabaseUnavailable: it is away, or frozen, which must not hold whoever reads the metrics.
    """

    def read_in_session() -> T:
        with session():
            return read()

    return _bounded.run(read_in_session, seconds=PROBE_TIMEOUT_SECONDS)
