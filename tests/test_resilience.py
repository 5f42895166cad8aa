"""Work that may hang is waited for so long and no longer, and does not pile up."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.resilience import BoundedCall, SingleFlight
from tests.support.stopwatch import stopwatch
from tests.support.waiting import wait_until


def fail() -> None:
    raise KeyError("told")


def test_what_is_done_in_time_is_handed_back() -> None:
    assert BoundedCall(DatabaseUnavailable).run(lambda: 7, timeout=30) == 7


def test_what_it_raises_is_raised() -> None:
    with pytest.raises(KeyError, match="told"):
        BoundedCall(DatabaseUnavailable).run(fail, timeout=30)


def test_what_hangs_is_given_up_in_time_and_more_of_it_at_once_until_it_ends() -> None:
    calls, end = BoundedCall(DatabaseUnavailable, max_overdue=2), threading.Event()
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable, match="too long"):
            calls.run(end.wait, timeout=0.05)
    with stopwatch() as watch, pytest.raises(DatabaseUnavailable, match="still hang"):
        calls.run(end.wait, timeout=5)
    assert watch.seconds < 0.05
    end.set()
    wait_until(lambda: all(call.done() for call in calls._overdue))
    assert calls.run(lambda: "again", timeout=30) == "again"


class Source:
    """A value that is read slowly: a read returns what was true when it began, once it is let go."""

    def __init__(self) -> None:
        self.value = 0
        self.reads = 0
        self.running = 0
        self.most_running = 0
        self.begun = threading.Semaphore(0)
        self.let_go = threading.Semaphore(0)

    def read(self) -> int:
        self.running += 1
        self.reads += 1
        self.most_running = max(self.most_running, self.running)
        value = self.value
        self.begun.release()
        assert self.let_go.acquire(timeout=5)
        self.running -= 1
        return value


def test_one_that_may_share_an_older_call_does() -> None:
    source, flight = Source(), SingleFlight[int]("test")
    first = flight.start(source.read)
    source.begun.acquire()
    source.value = 1
    assert flight.start(source.read) is first
    source.let_go.release()
    assert (first.result(5), source.reads) == (0, 1)


def test_whoever_comes_while_a_call_runs_gets_the_result_of_one_that_began_later() -> None:
    source, flight = Source(), SingleFlight[int]("test")
    first = flight.start(source.read)
    source.begun.acquire()
    source.value = 1
    followers = [flight.start_after_arrival(source.read) for _ in range(10)]
    source.let_go.release(2)
    assert first.result(5) == 0
    assert [follower.result(5) for follower in followers] == [1] * 10
    assert source.reads == 2, "they share one call"


def test_calls_that_must_begin_later_run_one_at_a_time_whatever_the_crowd() -> None:
    source, flight = Source(), SingleFlight[int]("test")
    source.let_go.release(1_000)

    def ask(_: int) -> bool:
        source.value += 1
        known = source.value
        return flight.start_after_arrival(source.read).result(5) >= known

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(300)))
    assert source.most_running == 1


def test_a_call_that_failed_does_not_stop_the_next() -> None:
    flight = SingleFlight[int]("test")
    with pytest.raises(KeyError):
        flight.start(fail).result(5)  # type: ignore[arg-type]
    assert flight.start_after_arrival(lambda: 7).result(5) == 7
