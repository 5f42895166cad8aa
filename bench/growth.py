"""Whether processing slows down as more is stored."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from statistics import median

from bench import draining, lists, pages
from bench.arena import Arena
from bench.deliveries import Maker
from bench.draining import Drainer
from bench.figures import Figure
from bench.load import Size, fill
from bench.pairs import Pairs, alternate, percentile
from bench.purge import TransactionTimer
from signalcraft.storage import database as storage_database
from signalcraft.storage import retention
from signalcraft.storage.database import open_database

SIZE = Size(groups=200_000, events=1_000_000)

#: First group of the deliveries. Groups after the loaded ones are new; the loaded ones have been quiet for a day at
#: least, so that the window of each is over at its first alert.
FIRST_GROUPS = {"issues never seen before": 100_000_000, "issues that were quiet": 1}
_BYTES = "SELECT pg_database_size(current_database())"
_TENTH = "SELECT extract(epoch FROM percentile_disc(0.1) WITHIN GROUP (ORDER BY received_at)) FROM alert_event"


def run(arena: Arena) -> Iterator[Figure]:
    """Compare processing into a full and an empty database; measure reading the full one; process during a purge."""
    size = SIZE.scaled(arena.events or (200_000 if arena.quick else SIZE.events))
    with arena.lane("full") as full, arena.lane("empty") as empty:
        before = full.number(_BYTES)
        seconds = fill(full.database_url, size)
        yield _loading(size, seconds, full.number(_BYTES) - before)
        with draining.ours(full, first=100_000_000) as loaded, draining.ours(empty) as bare:
            for seed, (what, first) in enumerate(FIRST_GROUPS.items(), start=20):
                measured = _measure(loaded, bare, [Maker(seed=seed, first=first) for _ in "AB"], quick=arena.quick)
                yield Figure(
                    benchmark="growth",
                    name=f"{size.events:,} events, {size.groups:,} groups stored; {what}",
                    value=measured.ratio,
                    unit="x",
                    against="the same deliveries into an empty database",
                    at_least=0.8,
                    detail=measured.detail("events/s", "events/s, empty"),
                )
            number = 30 if arena.quick else 200
            yield from lists.of(full, number, "growth")
            yield from pages.of(full, number, "growth")
            yield from _purging(loaded, size, quick=arena.quick)


def _loading(size: Size, seconds: float, loaded: int) -> Figure:
    return Figure(
        benchmark="growth",
        name=f"loading {size.events:,} events, {size.groups:,} groups",
        value=seconds / 60,
        unit="min",
        at_most=20,
        detail={"bytes an event, without its body": loaded // size.events, "GB on disk": loaded / 1e9},
    )


def _purging(loaded: Drainer, size: Size, *, quick: bool) -> Iterator[Figure]:
    """Drain again and again while the oldest tenth of the events is deleted; compare with draining alone."""
    number = 1_000 if quick else 5_000
    maker = Maker(seed=30, first=200_000_000)
    alone = median(loaded.drain(maker.accepted(number)) for _ in range(3))
    cutoff = datetime.fromtimestamp(loaded.lane.number(_TENTH), UTC)
    timer = TransactionTimer()
    open_database(loaded.lane.database_url)
    try:
        with ThreadPoolExecutor(1) as purge:
            purged = purge.submit(timer.run, lambda: sum(retention.delete_events(cutoff)))
            rates = [loaded.drain(maker.accepted(number))]
            while not purged.done():
                rates.append(loaded.drain(maker.accepted(number)))
            rows = purged.result()
    finally:
        storage_database.database.close_all()
    detail = {"rows": rows, "transactions": len(timer.seconds), "drains meanwhile": len(rates)}
    yield Figure(
        benchmark="growth",
        name=f"draining while a tenth of {size.events:,} events is purged",
        value=median(rates[:-1] or rates) / alone,
        unit="x",
        against="draining alone, into the same database",
        at_least=0.7,
        detail={"events/s": median(rates), "events/s, alone": alone} | detail,
    )
    yield Figure(
        benchmark="growth",
        name="p99 of the purge's transactions while draining",
        value=percentile(timer.seconds, 99) * 1000,
        unit="ms",
        at_most=100,
        detail={"longest, ms": max(timer.seconds) * 1000} | detail,
    )


def _measure(loaded: Drainer, bare: Drainer, makers: Sequence[Maker], *, quick: bool) -> Pairs:
    number, pairs = (2_000, 3) if quick else (5_000, 7)

    def drain_into_empty() -> float:
        bare.lane.empty()
        return bare.drain(makers[1].accepted(number))

    return alternate(lambda: loaded.drain(makers[0].accepted(number)), drain_into_empty, pairs)
