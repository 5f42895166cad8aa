"""Taking turns, and what to say of many values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

#: One run of something; its rate (per second) or its time (seconds), whichever both sides of a pair share.
Run = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Pairs:
    """What runs A and B came to, pair by pair."""

    ours: Sequence[float]
    baseline: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """Ours over the baseline, for each pair."""
        return [ours / baseline for ours, baseline in zip(self.ours, self.baseline, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the pairs."""
        return median(self.ratios)

    def detail(self, ours: str, baseline: str) -> dict[str, Any]:
        """The absolute medians under their names, how many pairs, and the spread of the ratios."""
        return {
            ours: round(median(self.ours), 4),
            baseline: round(median(self.baseline), 4),
            "pairs": len(self.ours),
            "lowest": round(min(self.ratios), 3),
            "highest": round(max(self.ratios), 3),
        }


def take_turns(ours: Run, baseline: Run, pairs: int) -> Pairs:
    """Run A B A B …, so that what slows the machine for a while slows both."""
    results = [(ours(), baseline()) for _ in range(pairs)]
    return Pairs([one for one, _ in results], [other for _, other in results])


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that ``percent`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
