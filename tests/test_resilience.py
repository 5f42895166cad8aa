"""Work that may hang is waited for so long and no longer, and does not pile up."""

import threading
import time

import pytest

from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.resilience import BoundedCall


def fail() -> None:
    raise KeyError("told")


def test_what_is_done_in_time_is_handed_back() -> None:
    assert BoundedCall(DatabaseUnavailable).run(lambda: 7, timeout=1) == 7


def test_what_it_raises_is_raised() -> None:
    with pytest.raises(KeyError, match="told"):
        BoundedCall(DatabaseUnavailable).run(fail, timeout=1)


def test_what_hangs_is_given_up_in_time_and_more_of_it_at_once_until_it_ends() -> None:
    calls, end = BoundedCall(DatabaseUnavailable, max_overdue=2), threading.Event()
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable, match="too long"):
            calls.run(end.wait, timeout=0.05)
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="still hang"):
        calls.run(end.wait, timeout=5)
    assert time.monotonic() - began < 0.05
    end.set()
    deadline = time.monotonic() + 2
    while any(not call.done() for call in calls._overdue) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert calls.run(lambda: "again", timeout=1) == "again"
