"""Whether several workers store the same groups as one, and how much faster."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench import draining
from bench.arena import Arena, Lane
from bench.deliveries import Maker
from bench.figures import Figure
from signalcraft.domain.deliveries import AcceptedDelivery

WORKERS = (1, 2, 4)
_GROUPS = """
    SELECT g.workspace_id, g.group_key, g.source, g.project, g.environment, g.fingerprint, g.issue_id, g.title, g.link,
           g.severity, g.alert_severity, g.spiked, g.status, g.is_current, g.count, g.source_count, g.first_seen_at,
           g.last_seen_at, g.title_from, g.link_from, g.snoozed_until, g.resolved_at, g.previous_group_id IS NULL,
           (SELECT count(*) FROM alert_event e WHERE e.alert_group_id = g.id)
    FROM alert_group g ORDER BY g.workspace_id, g.group_key, g.first_seen_at"""

Row = tuple[object, ...]


@dataclass(slots=True)
class _Runs:
    """Rates and tables of a number of workers, run by run."""

    rates: list[float] = field(default_factory=list)
    tables: list[list[Row]] = field(default_factory=list)


def run(arena: Arena) -> Iterator[Figure]:
    """Process the same deliveries by 1, 2 and 4 workers alternately, each time into empty tables."""
    number, rounds = (2_000, 2) if arena.quick else (8_000, 5)
    runs = {workers: _Runs() for workers in WORKERS}
    deliveries = Maker(seed=4).accepted(number)
    with contextlib.ExitStack() as stack:
        lanes = {workers: stack.enter_context(arena.lane(f"workers{workers}")) for workers in WORKERS}
        drainers = {workers: stack.enter_context(draining.ours(lane, workers)) for workers, lane in lanes.items()}
        for _ in range(rounds):
            for workers, drainer in drainers.items():
                _drain(lanes[workers], drainer, deliveries, runs[workers])
    yield from _figures(runs, number)


def _drain(lane: Lane, drainer: draining.Drainer, deliveries: Sequence[AcceptedDelivery], runs: _Runs) -> None:
    lane.empty()
    lane.redis.delete(*lane.redis.keys("signalcraft:delivery:*"))
    runs.rates.append(drainer.drain(deliveries))
    with contextlib.closing(lane.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(_GROUPS)
        runs.tables.append(cursor.fetchall())


def _figures(runs: dict[int, _Runs], number: int) -> Iterator[Figure]:
    first = runs[1].tables[0]
    different = sum(table != first for one in runs.values() for table in one.tables)
    yield Figure(
        benchmark="workers",
        name="runs whose groups differ from one worker's",
        value=different,
        unit="runs",
        at_most=0,
        detail={"runs": sum(len(one.tables) for one in runs.values()), "groups": len(first), "events": number},
    )
    for workers in WORKERS[1:]:
        ratios = [many / one for many, one in zip(runs[workers].rates, runs[1].rates, strict=True)]
        yield Figure(
            benchmark="workers",
            name=f"{workers} workers",
            value=median(ratios),
            unit="x",
            against="one worker, same cores",
            detail={"events/s": median(runs[workers].rates), "events/s, one": median(runs[1].rates)},
        )
