"""How long each transaction of a purge holds its locks, from the first statement to the end of the commit.

Half of the events have a body, a thousand of them in a row, and severities go up and down; so transactions find as
many rows as they may delete. The older half of the events is deleted, and the bodies of the others are dropped.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from bench.arena import Arena, BenchError, Lane
from bench.deliveries import Maker
from bench.figures import Figure
from bench.load import Size, fill
from bench.pairs import percentile
from signalcraft.storage import database as storage_database
from signalcraft.storage import retention
from signalcraft.storage.compression import compress
from signalcraft.storage.database import open_database, session

#: From ten thousand events of each group to ten.
SIZES: Final = tuple(Size(groups=groups, events=300_000) for groups in (30, 300, 30_000))
_MAX_MS: Final = 100

_BODY = "CREATE TEMPORARY TABLE body AS SELECT * FROM unnest(%s::bytea[]) WITH ORDINALITY AS b (kept, n)"
_ADD_BODIES = """
    UPDATE alert_event e SET
        severity = (ARRAY['low', 'low', 'med', 'low', 'high', 'low', 'critical'])[1 + e.id * 7919 % 7],
        payload_json = CASE WHEN e.id / 1000 % 2 = 0 THEN body.kept END
    FROM body WHERE body.n = 1 + e.id % 200"""
_MIDDLE = "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY received_at) FROM alert_event"


def run(arena: Arena) -> Iterator[Figure]:
    """Measure the longest transaction of deleting events and hours, dropping bodies, resolving inactive groups."""
    for size in SIZES:
        loaded = replace(size, groups=max(30, size.groups // 10), events=30_000) if arena.quick else size
        with arena.lane("purge") as lane:
            _load(lane, loaded)
            open_database(lane.database_url)
            try:
                yield from _purge(loaded)
            finally:
                storage_database.database.close_all()


def _load(lane: Lane, size: Size) -> None:
    fill(lane.database_url, size)
    bodies = [compress(delivery.delivery.body) for delivery in Maker().accepted(200)]
    with contextlib.closing(lane.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(_BODY, (bodies,))
        for statement in (_ADD_BODIES, "VACUUM (ANALYZE) alert_event", "CHECKPOINT"):
            cursor.execute(statement)


def _purge(size: Size) -> Iterator[Figure]:
    now = datetime.now(UTC)
    with session():
        (middle,) = storage_database.database.execute_sql(_MIDDLE).fetchone()
    tasks: dict[str, Callable[[], int]] = {
        "deleting events": lambda: sum(retention.delete_events(middle)),
        "deleting hours": lambda: retention.purge_group_hours(now),
        "dropping bodies": lambda: sum(retention.drop_payloads(now)),
        "resolving groups": lambda: retention.resolve_inactive(now, now),
    }
    for what, work in tasks.items():
        timer = TransactionTimer()
        rows = timer.run(work)
        if not rows:
            raise BenchError(f"there was nothing to do in {what}")
        yield _figure(f"longest transaction of {what}, {size.groups:,} groups", timer.seconds, rows)


def _figure(name: str, seconds: list[float], rows: int) -> Figure:
    return Figure(
        benchmark="purge",
        name=name,
        value=max(seconds) * 1000,
        unit="ms",
        against="absolute",
        at_most=_MAX_MS,
        detail={
            "p50, ms": percentile(seconds, 50) * 1000,
            "p99, ms": percentile(seconds, 99) * 1000,
            "transactions": len(seconds),
            "rows": rows,
        },
    )


@dataclass(slots=True)
class TransactionTimer:
    """Record the duration of this process's transactions that do more than read."""

    seconds: list[float] = field(default_factory=list)
    _began: float = 0.0

    def run(self, work: Callable[[], int]) -> int:
        """Run ``work`` in a session and time its transactions; return its result."""
        database = storage_database.database
        execute, commit = database.execute_sql, database.commit

        def timed_execute(sql: str, params: Any = None) -> Any:  # noqa: ANN401 - as Peewee has them
            self._began = self._began or time.perf_counter()
            cursor = execute(sql, params)
            if not database.in_transaction():
                self._end(reads=sql.lstrip().startswith("SELECT"))
            return cursor

        def timed_commit() -> None:
            commit()
            self._end()

        with session():
            database.execute_sql, database.commit = timed_execute, timed_commit
            try:
                return work()
            finally:
                database.execute_sql, database.commit = execute, commit

    def _end(self, *, reads: bool = False) -> None:
        if not reads:
            self.seconds.append(time.perf_counter() - self._began)
        self._began = 0.0
