"""How we are: whether a delivery could be taken in now, asked within a second, and how much waits."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Final

from redis import Redis

from signalcraft import inbox, jobs, metrics, models

PATIENCE_SECONDS: Final = 0.8
_QUEUES: Final = (jobs.ALERTS, jobs.NOTIFICATIONS)

# A frozen PostgreSQL holds a thread until the kernel gives up; then the next check waits for a free one, in vain,
# and says what is true: no answer.
_askers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="health")


class State(StrEnum):
    """What a service is, as far as we can see."""

    OK = "ok"
    AWAY = "away"
    SILENT = "silent"


def check(redis: Redis) -> Mapping[str, State]:
    """The state of each service."""
    questions: Mapping[str, Callable[[], None]] = {"redis": partial(jobs.ping, redis), "postgresql": _ask_postgresql}
    asked = {name: _askers.submit(question) for name, question in questions.items()}
    wait(asked.values(), timeout=PATIENCE_SECONDS)
    return {name: _state(answer) for name, answer in asked.items()}


def _ask_postgresql() -> None:
    with models.session():
        models.database.execute_sql("SELECT 1")


def _state(answer: Future[None]) -> State:
    if not answer.done():
        answer.cancel()
        return State.SILENT
    return State.AWAY if answer.exception() else State.OK


def gauges(redis: Redis) -> Mapping[str, metrics.Gauge]:
    """What waits, and for how long: each is read when ``/metrics`` is."""
    return {
        "signalcraft_queue_depth": lambda: {(name,): jobs.backlog(redis, name).depth for name in _QUEUES},
        "signalcraft_queue_oldest_seconds": lambda: {(name,): _age(jobs.backlog(redis, name)) for name in _QUEUES},
        "signalcraft_inbox_depth": _in_session(inbox.depth),
        "signalcraft_failed_deliveries": _in_session(inbox.failed_depth),
    }


def _age(backlog: jobs.Backlog) -> float:
    oldest = backlog.oldest_enqueued_at
    return (datetime.now(UTC) - oldest).total_seconds() if oldest else 0.0


def _in_session(read: Callable[[], int]) -> metrics.Gauge:
    def read_in_session() -> float:
        with models.session():
            return read()

    return read_in_session
