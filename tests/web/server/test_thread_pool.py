"""The adaptive limit of the thread pool: two threads run, and more while those hang or wait."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager

import pytest

from signalcraft.thread_budgets import MIN_RUNNING
from signalcraft.web.server.thread_pool import AdaptiveThreadPool
from tests.support.waiting import wait_until

TIMEOUT_SECONDS = 20.0


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
    """Count how many calls run at once; each stays until the crowd is opened."""

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
            self._changed.wait_for(lambda: self._is_open, TIMEOUT_SECONDS)
            self.inside -= 1

    def grows_to(self, number: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.inside >= number, TIMEOUT_SECONDS)

    def open(self) -> None:
        with self._changed:
            self._is_open = True
            self._changed.notify_all()


@contextmanager
def crowd() -> Iterator[Crowd]:
    """Release the threads that a test blocks, whatever it finds."""
    held = Crowd()
    try:
        yield held
    finally:
        held.open()


def all_done(futures: list[Future[None]]) -> bool:
    return not wait(futures, TIMEOUT_SECONDS).not_done


def most_at_work(pool: AdaptiveThreadPool, number: int = 400) -> int:
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

    assert all_done([pool.submit(work) for _ in range(number)])
    return inside[1]


#: On a slow machine some are held up now and then.
FEW = MIN_RUNNING + 4


def test_few_of_many_threads_work_at_once_while_the_processor_is_busy() -> None:
    assert MIN_RUNNING <= most_at_work(AdaptiveThreadPool(16, processor=always_busy)) <= FEW


def test_two_busy_calls_do_not_block_others() -> None:
    pool = AdaptiveThreadPool(16, processor=always_busy)
    with crowd() as held:
        for _ in range(MIN_RUNNING):
            pool.submit(held.stay)
        assert held.grows_to(MIN_RUNNING)
        for _ in range(5):
            assert pool.submit(lambda: "served").result(TIMEOUT_SECONDS) == "served"
        assert pool.allowed > MIN_RUNNING


def test_hanging_calls_do_not_block_others() -> None:
    pool = AdaptiveThreadPool(16)
    with crowd() as held:
        for _ in range(10):
            pool.submit(held.stay)
        assert held.grows_to(10)
        for _ in range(5):
            assert pool.submit(lambda: "served").result(TIMEOUT_SECONDS) == "served"


def test_no_more_threads_are_held_up_than_there_are_and_what_waits_for_one_gets_it_later() -> None:
    pool = AdaptiveThreadPool(5)
    with crowd() as held:
        futures = [pool.submit(held.stay) for _ in range(12)]
        assert held.grows_to(5)
        time.sleep(0.2)
        assert held.inside == 5
        held.open()
        assert all_done(futures)
    assert held.most == 5


def test_the_limit_falls_when_the_processor_is_busy_again() -> None:
    load = Load()
    pool = AdaptiveThreadPool(16, processor=load.used)
    for _ in range(2):
        load.is_busy = False
        with crowd() as held:
            futures = [pool.submit(held.stay) for _ in range(16)]
            assert held.grows_to(16)
            held.open()
            assert all_done(futures)
        load.is_busy = True
        most_at_work(pool)  # each of them may still do one thing
        wait_until(lambda: all_done([pool.submit(lambda: None)]) and pool.allowed <= FEW)
        most_at_work(pool, 50)
        assert most_at_work(pool) <= FEW


def test_first_come_first_served() -> None:
    """A thread may be held up after it took a call, and others pass it; but each takes calls in their order."""
    pool = AdaptiveThreadPool(16, processor=always_busy)
    begun: defaultdict[int, list[int]] = defaultdict(list)
    assert all_done(
        [pool.submit(lambda number=number: begun[threading.get_ident()].append(number)) for number in range(200)]
    )
    assert sum(map(len, begun.values())) == 200
    assert all(numbers == sorted(numbers) for numbers in begun.values())


def test_an_urgent_call_passes_all_that_wait_and_urgent_ones_do_not_pass_each_other() -> None:
    pool = AdaptiveThreadPool(MIN_RUNNING)
    begun: list[str] = []
    with crowd() as held:
        for _ in range(MIN_RUNNING):
            pool.submit(held.stay)
        assert held.grows_to(MIN_RUNNING)
        futures = [pool.submit(begun.append, f"other {number}") for number in range(50)]
        futures += [pool.submit(begun.append, f"urgent {number}", urgent=True) for number in range(50)]
        held.open()
        assert all_done(futures)
    assert sorted(begun[:50]) == sorted(f"urgent {number}" for number in range(50))


def test_large_calls_run_one_after_the_other_in_their_order_and_others_pass_them() -> None:
    pool = AdaptiveThreadPool(16)
    begun: list[int] = []

    def large(number: int) -> None:
        begun.append(number)
        crowds[number].stay()

    with crowd() as first, crowd() as second, crowd() as last:
        crowds = [first, second, last]
        futures = [pool.submit(large, number, urgent=True, large_of="acme") for number in range(3)]
        assert first.grows_to(1)
        assert pool.submit(lambda: "small").result(TIMEOUT_SECONDS) == "small"
        assert begun == [0]
        first.open()
        assert second.grows_to(1)
        assert begun == [0, 1]
        second.open()
        last.open()
        assert all_done(futures)


def test_senders_of_large_calls_take_turns() -> None:
    pool = AdaptiveThreadPool(16)
    begun: list[str] = []
    with crowd() as held:
        pool.submit(held.stay, large_of="acme")
        assert held.grows_to(1)
        waiting = ["acme 1", "acme 2", "acme 3", "other 1", "other 2", "third 1"]
        futures = [pool.submit(begun.append, one, large_of=one.split()[0]) for one in waiting]
        held.open()
        assert all_done(futures)
    assert begun == ["acme 1", "other 1", "third 1", "acme 2", "other 2", "acme 3"]


def test_a_large_delivery_does_not_wait_for_another_large_request() -> None:
    pool = AdaptiveThreadPool(16)
    with crowd() as held:
        pool.submit(held.stay, large_of="acme")
        assert pool.submit(lambda: "served", urgent=True, large_of="acme").result(TIMEOUT_SECONDS) == "served"


def test_a_large_call_that_fails_does_not_hold_up_the_next() -> None:
    pool = AdaptiveThreadPool(16)
    futures = [pool.submit(refuse, large_of="acme") for _ in range(5)]
    assert [type(future.exception(TIMEOUT_SECONDS)) for future in futures] == [ValueError] * 5


def test_a_pool_of_fewer_threads_than_work_at_once_still_has_those() -> None:
    assert AdaptiveThreadPool(1).submit(lambda: 7).result(TIMEOUT_SECONDS) == 7


def refuse() -> None:
    raise ValueError("no")


def leave() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(("function", "raised"), [(refuse, ValueError), (leave, SystemExit)])
def test_what_is_raised_is_the_results_and_ends_no_thread(
    function: Callable[[], None], raised: type[BaseException]
) -> None:
    pool = AdaptiveThreadPool(16)
    for _ in range(10):
        assert isinstance(pool.submit(function).exception(TIMEOUT_SECONDS), raised)
    assert pool.submit(lambda: 7).result(TIMEOUT_SECONDS) == 7


def test_what_is_called_off_in_time_is_not_done() -> None:
    pool = AdaptiveThreadPool(MIN_RUNNING)  # no further thread helps before it is cancelled
    with crowd() as held:
        futures = [pool.submit(held.stay) for _ in range(MIN_RUNNING)]
        assert held.grows_to(MIN_RUNNING)
        done: list[int] = []
        called_off = pool.submit(done.append, 1)
        assert called_off.cancel()
        last = pool.submit(done.append, 2)
        held.open()
        assert all_done([*futures, last])
    assert done == [2]


def test_a_pool_that_was_shut_takes_nothing_more_and_does_what_it_has() -> None:
    pool = AdaptiveThreadPool(16, processor=always_busy)
    with crowd() as held:
        futures = [pool.submit(held.stay) for _ in range(6)]
        pool.shutdown(wait=False)
        with pytest.raises(RuntimeError):
            pool.submit(held.stay)
        held.open()
        assert all_done(futures)


def test_a_system_that_had_no_thread_to_spare_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = threading.Thread.start
    refused: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        if thread.name == f"web-{MIN_RUNNING}" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    pool = AdaptiveThreadPool(16)
    with crowd() as held:
        for _ in range(8):
            pool.submit(held.stay)
        assert held.grows_to(8)
    assert refused
