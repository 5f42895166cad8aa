"""Work that may hang is waited for so long and no longer, and does not pile up."""

import threading
import time

import pytest

from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.resilience import BoundedCall


def fail() -> None:
    raise KeyError("told")


def test_what_is_done_in_time_is_handed_back() -> None:
    assert BoundedCall(DatabaseUnavailable).run(lambda: 7, seconds=1) == 7


def test_what_it_raises_is_raised() -> None:
    with pytest.raises(KeyError, match="told"):
        BoundedCall(DatabaseUnavailable).run(fail, seconds=1)


def test_what_hangs_is_given_up_in_time_and_more_of_it_at_once_until_it_ends() -> None:
    patience, end = BoundedCall(DatabaseUnavailable, max_overdue=2), threading.Event()
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable, match="too long"):
            patience.run(end.wait, seconds=0.05)
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="already"):
        patience.run(end.wait, seconds=5)
    assert time.monotonic() - began < 0.05
    end.set()
    deadline = time.monotonic() + 2
    while patience._overdue and time.monotonic() < deadline:
        time.sleep(0.01)
    assert patience.run(lambda: "again", seconds=1) == "again"
