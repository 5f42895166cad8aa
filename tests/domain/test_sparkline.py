import pytest

from signalcraft.domain.sparkline import sparkline


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ([], "▁▁▁▁▁▁▁▁"),
        ([0] * 24, "▁▁▁▁▁▁▁▁"),
        ([0] * 23 + [1], "▁▁▁▁▁▁▁█"),
        ([*range(8)], "▁▂▃▄▅▆▇█"),
        ([0, 1, 0] * 8, "████████"),
        ([1_000_000, *[0] * 22, 1], "█▁▁▁▁▁▁▂"),
        ([5], "▁▁▁▁▁▁▁█"),
        ([100, 1, 1, 1, 1, 1, 1, 1, 1], "████████"),
    ],
)
def test_a_sparkline_has_eight_characters_and_any_alert_shows(counts: list[int], line: str) -> None:
    assert sparkline(counts) == line
