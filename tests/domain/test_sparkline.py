import pytest

from signalcraft.domain.sparkline import sparkline


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ([], "▁▁▁▁▁▁▁▁"),
        ([0] * 24, "▁▁▁▁▁▁▁▁"),
        ([0, 1, 0] * 8, "▇▇▇▇▇▇▇▇"),
        ([1, 2, 3, 4, 5, 6, 7, 8], "▂▂▃▃▅▅▇▇"),
        ([0, 1, 0, 0, 0, 0, 0, 1_000_000], "▁▂▁▁▁▁▁▇"),
        ([5], "▁▁▁▁▁▁▁▇"),
        ([9, 9, 9, *[1] * 24], "▇▇▇▇▇▇▇▇"),
        ([100, 1, 1, 1, 1, 1, 1, 1, 1], "▇▇▇▇▇▇▇▇"),
    ],
)
def test_a_sparkline_has_eight_characters_and_any_alert_shows(counts: list[int], line: str) -> None:
    assert sparkline(counts) == line
