"""CPU time of one delivery in the pure modules, as figures: ``bench.normalize`` measures it."""

from collections.abc import Iterator
from datetime import UTC, datetime

from bench import normalize
from bench.arena import Arena
from bench.figures import Figure
from signalcraft.sources.sentry import samples

_MAX_MICROSECONDS = {"6.5 kB": 150, "1 MB": 40_000}


def run(_arena: Arena) -> Iterator[Figure]:
    """Report the best of many runs on one core, with the parts in detail."""
    for name, (size, number, repeat) in normalize.SIZES.items():
        sample = samples.build("event_alert.triggered", secret=normalize.SECRET, size=size)
        parts = normalize.parts(sample.as_delivery(datetime.now(UTC)))
        costs = {part: round(normalize.microseconds(work, number, repeat), 1) for part, work in parts.items()}
        yield Figure(
            benchmark="normalize",
            name=f"one event_alert of {name}",
            value=costs.pop("all"),
            unit="µs",
            against="absolute, best of many",
            at_most=_MAX_MICROSECONDS[name],
            detail=costs,
        )
