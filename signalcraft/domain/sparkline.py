"""A row of counts as one line of block characters."""

from collections.abc import Sequence
from typing import Final

#: The first is for no alerts.
BLOCKS: Final = "▁▂▃▄▅▆▇█"
WIDTH: Final = 8


def sparkline(counts: Sequence[int]) -> str:
    """Return ``counts``, oldest first, as eight block characters.

    Each character stands for as many counts as the others; counts that do not fill one are left out at the beginning.
    Its height is relative to the highest; any alert is higher than none.
    """
    size = max(len(counts) // WIDTH, 1)
    recent = counts[-size * WIDTH :]
    sums = [sum(recent[start : start + size]) for start in range(0, len(recent), size)]
    highest = max(sums, default=0)
    steps = len(BLOCKS) - 1
    return "".join(BLOCKS[-(-total * steps // highest)] if total else BLOCKS[0] for total in sums).rjust(
        WIDTH, BLOCKS[0]
    )
