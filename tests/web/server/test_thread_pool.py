"""Threads that take turns: two at work, and others only where those leave the processor idle."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager

import pytest

from signalcraft.web.server.thread_pool import AT_ONCE, Turns
from tests.support.waiting import wait_until

PATIENCE = 20.0


def always_busy() -> float:
    """All of one processor, all the time."""
    return time.monotonic()


class Load:
    """A processor that is busy or idle, as a test has it."""

    def __init__(self) -> None:
        self.is_busy = True

    def used(self) -> float:
        return time.monotonic() if self.is_busy else 0.0


class Crowd:
    """Counts who is inside at once; they stay until the doors open."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_open = False
        self.inside = 0
        self.most = 0

    def stay(self) -> None:
        with self._changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_open, PATIENCE)
            self.inside -= 1

    def grows_to(self, number: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.inside >= number, PATIENCE)

    def open(self) -> None:
        with self._changed:
            self._is_open = True
            self._changed.notify_all()


@contextmanager
def crowd() -> Iterator[Crowd]:
    """Whatever a test finds, the threads that it holds up come free."""
    held = Crowd()
    try:
        yield held
    finally:
        held.open()


def all_done(futures: list[Future[None]]) -> bool:
    return not wait(futures, PATIENCE).not_done


def most_at_work(turns: Turns, number: int = 400) -> int:
    """How many threads were at once at ``number`` pieces of work of a millisecond."""
    lock, inside = threading.Lock(), [0, 0]

    def work() -> None:
        with lock:
            inside[0] += 1
            inside[1] = max(inside)
        end = time.thread_time() + 0.001
        while time.thread_time() < end:
            pass
        with lock:
            inside[0] -= 1

    assert all_done([turns.submit(work) for _ in range(number)])
    return inside[1]


#: On a slow machine some are held up now and then.
FEW = AT_ONCE + 4


def test_few_of_many_threads_work_at_once_while_the_processor_is_busy() -> None:
    assert AT_ONCE <= most_at_work(Turns(16, processor=always_busy)) <= FEW


def test_two_that_take_all_of_the_processor_keep_nobody_else_waiting() -> None:
    turns = Turns(16, processor=always_busy)
    with crowd() as held:
        for _ in range(AT_ONCE):
            turns.submit(held.stay)
        assert held.grows_to(AT_ONCE)
        for _ in range(5):
            assert turns.submit(lambda: "served").result(PATIENCE) == "served"
        assert turns.allowed > AT_ONCE


def test_who_is_held_up_keeps_nobody_else_waiting() -> None:
    turns = Turns(16)
    with crowd() as held:
        for _ in range(10):
            turns.submit(held.stay)
        assert held.grows_to(10)
        for _ in range(5):
            assert turns.submit(lambda: "served").result(PATIENCE) == "served"


def test_no_more_threads_are_held_up_than_there_are_and_what_waits_for_one_gets_it_later() -> None:
    turns = Turns(5)
    with crowd() as held:
        futures = [turns.submit(held.stay) for _ in range(12)]
        assert held.grows_to(5)
        time.sleep(0.2)
        assert held.inside == 5
        held.open()
        assert all_done(futures)
    assert held.most == 5


def test_those_who_helped_out_step_back_when_the_processor_is_busy_again() -> None:
    load = Load()
    turns = Turns(16, processor=load.used)
    for _ in range(2):
        load.is_busy = False
        with crowd() as held:
            futures = [turns.submit(held.stay) for _ in range(16)]
            assert held.grows_to(16)
            held.open()
            assert all_done(futures)
        load.is_busy = True
        most_at_work(turns)  # each of them may still do one thing
        wait_until(lambda: all_done([turns.submit(lambda: None)]) and turns.allowed <= FEW)
        most_at_work(turns, 50)
        assert most_at_work(turns) <= FEW


def test_first_come_first_served() -> None:
    turns = Turns(16, processor=always_busy)
    begun: list[int] = []
    lock = threading.Lock()

    def begin(number: int) -> None:
        with lock:
            begun.append(number)

    assert all_done([turns.submit(begin, number) for number in range(200)])
    assert all(abs(number - position) <= 20 for position, number in enumerate(begun)), "threads may pass each other"


def test_a_pool_of_fewer_threads_than_work_at_once_still_has_those() -> None:
    assert Turns(1).submit(lambda: 7).result(PATIENCE) == 7


def refuse() -> None:
    raise ValueError("no")


def leave() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(("function", "raised"), [(refuse, ValueError), (leave, SystemExit)])
def test_what_is_raised_is_the_results_and_ends_no_thread(
    function: Callable[[], None], raised: type[BaseException]
) -> None:
    turns = Turns(16)
    for _ in range(10):
        assert isinstance(turns.submit(function).exception(PATIENCE), raised)
    assert turns.submit(lambda: 7).result(PATIENCE) == 7


def test_what_is_called_off_in_time_is_not_done() -> None:
    turns = Turns(AT_ONCE)  # nobody helps out before it is called off
    with crowd() as held:
        futures = [turns.submit(held.stay) for _ in range(AT_ONCE)]
        assert held.grows_to(AT_ONCE)
        done: list[int] = []
        called_off = turns.submit(done.append, 1)
        assert called_off.cancel()
        last = turns.submit(done.append, 2)
        held.open()
        assert all_done([*futures, last])
    assert done == [2]


def test_a_pool_that_was_shut_takes_nothing_more_and_does_what_it_has() -> None:
    turns = Turns(16, processor=always_busy)
    with crowd() as held:
        futures = [turns.submit(held.stay) for _ in range(6)]
        turns.shutdown(wait=False)
        with pytest.raises(RuntimeError):
            turns.submit(held.stay)
        held.open()
        assert all_done(futures)


def test_a_system_that_had_no_thread_to_spare_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = threading.Thread.start
    refused: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        if thread.name == f"turn-{AT_ONCE}" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    turns = Turns(16)
    with crowd() as held:
        for _ in range(8):
            turns.submit(held.stay)
        assert held.grows_to(8)
    assert refused
