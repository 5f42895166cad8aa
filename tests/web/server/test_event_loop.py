"""Requests that a loop serves give way to each other while they wait; what blocks runs in a thread."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from typing import cast

import pytest

from signalcraft import greenlets, resilience
from signalcraft.domain.errors import ThreadsExhausted
from signalcraft.greenlets import run_blocking
from tests.support.loop_thread import LoopThread, loop_thread

WHO: ContextVar[str] = ContextVar("WHO", default="none")


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    with loop_thread() as running:
        yield running


def test_outside_of_a_loop_a_call_that_blocks_is_simply_called() -> None:
    assert greenlets.running() is None
    assert run_blocking(threading.get_ident) == threading.get_ident()


def test_requests_wait_at_the_same_time_and_the_loop_goes_on(loop: LoopThread) -> None:
    barrier = threading.Barrier(3, timeout=5)  # passed only by three at once

    def wait() -> tuple[bool, int]:
        run_blocking(barrier.wait)
        return greenlets.running() is not None, threading.get_ident()

    (first, second, third) = [future.result(5) for future in loop.serve(wait, wait, wait)]
    assert first == second == third  # all of them on the loop's thread again
    assert first[0]


def test_what_a_blocking_call_raises_is_raised_in_its_request_alone(loop: LoopThread) -> None:
    failing, other = loop.serve(lambda: run_blocking(lambda: 1 / 0), lambda: run_blocking(lambda: 1))
    assert other.result(5) == 1
    with pytest.raises(ZeroDivisionError):
        failing.result(5)


def test_each_request_has_context_variables_of_its_own_and_a_blocking_call_sees_them(loop: LoopThread) -> None:
    def read(name: str) -> tuple[str, str]:
        WHO.set(name)
        seen = run_blocking(WHO.get)
        return seen, WHO.get()

    one, two = loop.serve(lambda: read("one"), lambda: read("two"))
    assert (one.result(5), two.result(5)) == (("one", "one"), ("two", "two"))
    assert WHO.get() == "none"


def test_a_request_cannot_resume_another_one(loop: LoopThread) -> None:
    def resume_itself() -> None:
        cast("greenlets.RequestGreenlet", greenlets.running()).resume()

    (failing,) = loop.serve(resume_itself)
    with pytest.raises(RuntimeError, match="only the loop"):
        failing.result(5)


def test_without_a_thread_a_blocking_call_fails_and_the_loop_goes_on(
    loop: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_: object, **__: object) -> None:
        raise ThreadsExhausted

    with monkeypatch.context() as exhausted:
        exhausted.setattr("signalcraft.web.server.thread_pool.start_thread", no_thread)
        (failing,) = loop.serve(lambda: run_blocking(lambda: 1))
        with pytest.raises(ThreadsExhausted):
            failing.result(5)
    assert loop.serve(lambda: 2)[0].result(5) == 2
    assert not resilience.threads_exhausted.is_set()


def test_a_request_that_fails_unforeseen_is_finished_with_its_error_and_the_loop_goes_on(loop: LoopThread) -> None:
    failed: Future[Future[float]] = Future()
    loop.loop.call_soon_threadsafe(lambda: loop.loop.serve(lambda: 1 / 0, failed.set_result))
    assert isinstance(failed.result(5).exception(), ZeroDivisionError)
    assert loop.serve(lambda: 2)[0].result(5) == 2


def test_a_timer_that_asks_for_the_next_one_at_once_lets_the_loop_serve_others(loop: LoopThread) -> None:
    """So does a connection with many requests in its buffer."""
    calls = 0
    before: Future[int] = Future()

    def again() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            loop.loop.call_soon_threadsafe(lambda: before.set_result(calls))
        if calls < 1_000:
            loop.loop.call_later(0.0, again)

    loop.loop.call_soon_threadsafe(lambda: loop.loop.call_later(0.0, again))
    assert before.result(5) == 1


def test_timers_are_called_in_their_order_and_not_early(loop: LoopThread) -> None:
    called: list[tuple[str, float]] = []
    done = threading.Event()
    began = time.monotonic()

    def note(name: str) -> None:
        called.append((name, time.monotonic() - began))
        if name == "late":
            done.set()

    def ask() -> None:
        loop.loop.call_later(0.1, lambda: note("late"))
        loop.loop.call_later(0.05, lambda: note("early"))

    loop.loop.call_soon_threadsafe(ask)
    assert done.wait(5)
    assert [name for name, _ in called] == ["early", "late"]
    assert called[0][1] >= 0.05
    assert called[1][1] >= 0.1
