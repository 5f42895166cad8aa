"""What one delivery costs in the pure modules: verify, identify, normalize, group key. ``bench.normalize`` measures."""

from collections.abc import Iterator
from datetime import UTC, datetime

from bench import normalize
from bench.arena import Arena
from bench.figures import Figure
from signalcraft.sources.sentry import samples

#: The most that a delivery may cost, in microseconds.
_MOST = {"6.5 kB": 150, "1 MB": 40_000}


def run(_arena: Arena) -> Iterator[Figure]:
    """The best of many runs on one core, with the parts in detail."""
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
            at_most=_MOST[name],
            detail=costs,
        )
