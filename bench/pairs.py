"""Alternating runs and percentiles."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

#: One run; returns a rate (per second) or a time (seconds), the same for both sides of a pair.
Run = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Pairs:
    """The results of runs A and B, pair by pair."""

    ours: Sequence[float]
    baseline: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """Return SignalCraft over the baseline, for each pair."""
        return [ours / baseline for ours, baseline in zip(self.ours, self.baseline, strict=True)]

    @property
    def ratio(self) -> float:
        """Return the median of the ratios."""
        return median(self.ratios)

    def detail(self, ours: str, baseline: str) -> dict[str, Any]:
        """Return the medians under their names, the number of pairs, and the spread of the ratios."""
        return {
            ours: round(median(self.ours), 4),
            baseline: round(median(self.baseline), 4),
            "pairs": len(self.ours),
            "lowest": round(min(self.ratios), 3),
            "highest": round(max(self.ratios), 3),
        }


def alternate(ours: Run, baseline: Run, pairs: int) -> Pairs:
    """Run A B A B …, so that a slow phase of the machine affects both."""
    results = [(ours(), baseline()) for _ in range(pairs)]
    return Pairs([one for one, _ in results], [other for _, other in results])


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that ``percent`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
