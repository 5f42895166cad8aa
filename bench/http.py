"""A small load generator over loopback: requests made beforehand, raw sockets, one thread a process.

``closed_loop`` keeps each connection busy: how many requests a second a server does at most. ``open_loop`` sends by
the clock, whether the server keeps up or not, and counts a request's time from when it was due: no request waits
uncounted behind a slow one. Both take several processes, since one is slower than some servers.
"""

import multiprocessing
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Final

from bench.arena import BenchError

_PROCESSES: Final = multiprocessing.get_context("fork")
_PATIENCE_SECONDS: Final = 30.0
_LONGEST_ANSWER: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to send. ``keep_alive``: a connection for many requests, else one each."""

    port: int
    keep_alive: bool = True
    connections: int = 8
    processes: int = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """How long all took, in seconds from first to last, and each; and how many had another status than wanted."""

    seconds: float
    times: Sequence[float]
    wrong: int

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.times) / self.seconds


def request_of(method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *, keep_alive: bool) -> bytes:
    """The bytes of a request."""
    everything = {"Host": "127.0.0.1", **headers, "Content-Length": str(len(body))}
    if not keep_alive:
        everything["Connection"] = "close"
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in everything.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def closed_loop(target: Target, requests: Sequence[bytes], *, wanted: int) -> Outcome:
    """Send ``requests`` as fast as they are answered."""
    return _spread(target, requests, [0.0] * len(requests), wanted)


def open_loop(target: Target, requests: Sequence[bytes], *, rate: float, wanted: int) -> Outcome:
    """Send ``requests`` evenly, ``rate`` a second; times are from when each was due."""
    return _spread(target, requests, [position / rate for position in range(len(requests))], wanted)


def _spread(target: Target, requests: Sequence[bytes], due: Sequence[float], wanted: int) -> Outcome:
    """Every process takes its share of requests and connections; all begin at one moment."""
    barrier = _PROCESSES.Barrier(target.processes)
    ends = []
    for share in range(target.processes):
        plan = _Plan(requests[share :: target.processes], due[share :: target.processes], wanted)
        end, other_end = _PROCESSES.Pipe(duplex=False)
        process = _PROCESSES.Process(target=_send_share, args=(target, plan, barrier, other_end), daemon=True)
        process.start()
        other_end.close()
        ends.append((process, end))
    outcomes = []
    for process, end in ends:
        try:
            outcomes.append(end.recv())
        except EOFError:
            raise BenchError("the load generator failed; it says why above") from None
        process.join()
    times = list(chain.from_iterable(outcome.times for outcome in outcomes))
    return Outcome(max(outcome.seconds for outcome in outcomes), times, sum(outcome.wrong for outcome in outcomes))


@dataclass(frozen=True, slots=True)
class _Plan:
    """One process's share: each request with the second from the beginning at which it is due."""

    requests: Sequence[bytes]
    due: Sequence[float]
    wanted: int


def _send_share(target: Target, plan: _Plan, barrier: Barrier, end: Connection) -> None:
    """What each process runs. The plan came with the fork: nothing is copied."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    barrier.wait()
    end.send(_send(target, plan))
    end.close()


@dataclass(slots=True)
class _Connection:
    """One connection, with the request that is on its way."""

    port: int
    keep_alive: bool
    wire: socket.socket | None = None
    began: float = 0.0
    received: bytearray = field(default_factory=bytearray)

    def send(self, request: bytes, began: float, selector: selectors.BaseSelector) -> None:
        if self.wire is None:
            self.wire = socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE_SECONDS)
            self.wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(self.wire, selectors.EVENT_READ, self)
        self.began = began
        self.received.clear()
        self.wire.sendall(request)

    def receive(self, selector: selectors.BaseSelector) -> int:
        """The status, once the answer is whole; 0 before."""
        if self.wire is None:
            raise BenchError("an answer without a request")
        piece = self.wire.recv(65_536)
        self.received += piece
        head, end, body = bytes(self.received).partition(b"\r\n\r\n")
        if not end and (not piece or len(head) > _LONGEST_ANSWER):
            raise BenchError("the server hung up")
        if not end or (piece and len(body) < _length_in(head)):
            return 0
        if not self.keep_alive or not piece or b"connection: close" in head.lower():
            selector.unregister(self.wire)
            self.wire.close()
            self.wire = None
        return int(head[9:12])


def _length_in(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0] or 0)


def _send(target: Target, plan: _Plan) -> Outcome:
    """A request that is due takes the first free connection."""
    waiting = deque(zip(plan.requests, plan.due, strict=True))
    free = [_Connection(target.port, target.keep_alive) for _ in range(target.connections // target.processes)]
    times: list[float] = []
    wrong, busy = 0, 0
    by_the_clock = any(plan.due)
    begin = time.monotonic()
    with selectors.DefaultSelector() as selector:
        while waiting or busy:
            now = time.monotonic()
            while free and waiting and begin + waiting[0][1] <= now:
                request, moment = waiting.popleft()
                free.pop().send(request, begin + moment if by_the_clock else time.monotonic(), selector)
                busy += 1
            pause = max(0.0, begin + waiting[0][1] - now) if waiting and free else _PATIENCE_SECONDS
            if not busy:
                time.sleep(pause)
                continue
            for key, _ in selector.select(pause):
                status = key.data.receive(selector)
                if status:
                    times.append(time.monotonic() - key.data.began)
                    wrong += status != plan.wanted
                    free.append(key.data)
                    busy -= 1
    return Outcome(time.monotonic() - begin, times, wrong)
