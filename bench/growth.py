"""Whether processing slows down as more is stored."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench import draining
from bench.arena import Arena
from bench.deliveries import Maker
from bench.draining import Drainer
from bench.figures import Figure
from bench.load import Size, fill
from bench.pairs import Pairs, alternate

SIZE = Size(groups=200_000, events=1_000_000)

#: First group of the deliveries. Groups after the loaded ones are new; the loaded ones have been quiet for a day at
#: least, so that the window of each is over at its first alert.
FIRST_GROUPS = {"issues never seen before": 10_000_000, "issues that were quiet": 1}


def run(arena: Arena) -> Iterator[Figure]:
    """Process the same deliveries into a full database and into an empty one."""
    size = replace(SIZE, groups=40_000, events=200_000) if arena.quick else SIZE
    with arena.lane("full") as full, arena.lane("empty") as empty:
        seconds = fill(full.database_url, size)
        with draining.ours(full, first=10_000_000) as loaded, draining.ours(empty) as bare:
            for seed, (what, first) in enumerate(FIRST_GROUPS.items(), start=20):
                measured = _measure(loaded, bare, [Maker(seed=seed, first=first) for _ in "AB"], quick=arena.quick)
                yield Figure(
                    benchmark="growth",
                    name=f"{size.events:,} events, {size.groups:,} groups stored; {what}",
                    value=measured.ratio,
                    unit="x",
                    against="the same deliveries into an empty database",
                    at_least=0.8,
                    detail=measured.detail("events/s", "events/s, empty") | {"loading, s": round(seconds, 1)},
                )


def _measure(loaded: Drainer, bare: Drainer, makers: Sequence[Maker], *, quick: bool) -> Pairs:
    number, pairs = (2_000, 3) if quick else (5_000, 7)

    def drain_into_empty() -> float:
        bare.lane.empty()
        return bare.drain(makers[1].accepted(number))

    return alternate(lambda: loaded.drain(makers[0].accepted(number)), drain_into_empty, pairs)
