"""How fast one worker process drains a backlog, against RQ's own worker on jobs that do nothing."""

from collections.abc import Iterator

from bench import draining, stock
from bench.arena import Arena, BenchError
from bench.deliveries import Maker
from bench.figures import Figure
from bench.pairs import alternate

AGAINST = "RQ SimpleWorker, no-op job, stock settings"


def run(arena: Arena) -> Iterator[Figure]:
    """Compare deliveries/s with no-op jobs/s, everything on: normalizing, grouping, storing, logs, metrics."""
    number, jobs_done, pairs = (2_000, 200, 3) if arena.quick else (6_000, 600, 9)
    maker = Maker()
    with (
        arena.lane("drain") as lane,
        arena.lane("stock") as other,
        draining.ours(lane) as worker,
        draining.stock_worker(other) as baseline,
    ):
        stored_before = lane.number("SELECT count(*) FROM alert_event")
        measured = alternate(
            lambda: worker.drain(maker.accepted(number)),
            lambda: baseline.rate(lambda: stock.enqueue(other.redis, jobs_done), jobs_done),
            pairs,
        )
        stored = lane.number("SELECT count(*) FROM alert_event") - stored_before
        if stored != number * pairs:
            raise BenchError(f"{number * pairs} deliveries were sent and {stored} events stored")
        groups = lane.number("SELECT count(*) FROM alert_group")
    detail = measured.detail("events/s", "no-op jobs/s")
    yield Figure(
        benchmark="drain",
        name="one worker process, 6.5 kB deliveries",
        value=measured.ratio,
        unit="x",
        against=AGAINST,
        at_least=13,
        detail=detail | {"deliveries a run": number, "batch size": 200, "groups": groups},
    )
