"""A small load generator over loopback: requests built beforehand, raw sockets, one thread a process.

``closed_loop`` keeps each connection busy, and so measures the maximum rate of a server. ``open_loop`` sends at fixed
times, whether the server keeps up or not, and measures a request from its scheduled time, so that waiting behind a
slow request is counted. Both use several processes, since one is slower than some servers.
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
_TIMEOUT_SECONDS: Final = 30.0
_MAX_HEAD_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The server to send to. ``keep_alive``: one connection for many requests, else one for each."""

    port: int
    keep_alive: bool = True
    connections: int = 8
    processes: int = 2


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Seconds from first to last request, seconds of each, and how many had another status than expected."""

    seconds: float
    times: Sequence[float]
    unexpected: int

    @property
    def rate(self) -> float:
        """Return requests per second."""
        return len(self.times) / self.seconds


def request_of(method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *, keep_alive: bool) -> bytes:
    """Return the bytes of a request."""
    all_headers = {"Host": "127.0.0.1", **headers, "Content-Length": str(len(body))}
    if not keep_alive:
        all_headers["Connection"] = "close"
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def closed_loop(target: Target, requests: Sequence[bytes], *, expected: int) -> LoadResult:
    """Send ``requests`` as fast as the server responds."""
    return _spread(target, requests, [0.0] * len(requests), expected)


def open_loop(target: Target, requests: Sequence[bytes], *, rate: float, expected: int) -> LoadResult:
    """Send ``requests`` evenly, ``rate`` a second; times are measured from the scheduled time of each."""
    return _spread(target, requests, [position / rate for position in range(len(requests))], expected)


def _spread(target: Target, requests: Sequence[bytes], due: Sequence[float], expected: int) -> LoadResult:
    """Divide requests and connections among the processes; all start at the same time."""
    barrier = _PROCESSES.Barrier(target.processes)
    ends = []
    for share in range(target.processes):
        plan = _Plan(requests[share :: target.processes], due[share :: target.processes], expected)
        end, other_end = _PROCESSES.Pipe(duplex=False)
        process = _PROCESSES.Process(target=_send_share, args=(target, plan, barrier, other_end), daemon=True)
        process.start()
        other_end.close()
        ends.append((process, end))
    results = []
    for process, end in ends:
        try:
            results.append(end.recv())
        except EOFError:
            raise BenchError("the load generator failed; its traceback is above") from None
        process.join()
    times = list(chain.from_iterable(result.times for result in results))
    return LoadResult(max(result.seconds for result in results), times, sum(result.unexpected for result in results))


@dataclass(frozen=True, slots=True)
class _Plan:
    """The share of one process: each request with its scheduled time in seconds from the start."""

    requests: Sequence[bytes]
    due: Sequence[float]
    expected: int


def _send_share(target: Target, plan: _Plan, barrier: Barrier, end: Connection) -> None:
    """Send one share, in a child process. The plan is inherited by the fork, without a copy."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    barrier.wait()
    end.send(_send(target, plan))
    end.close()


@dataclass(slots=True)
class _Connection:
    """One connection, with the request in flight."""

    port: int
    keep_alive: bool
    wire: socket.socket | None = None
    began: float = 0.0
    received: bytearray = field(default_factory=bytearray)

    def send(self, request: bytes, began: float, selector: selectors.BaseSelector) -> None:
        if self.wire is None:
            self.wire = socket.create_connection(("127.0.0.1", self.port), timeout=_TIMEOUT_SECONDS)
            self.wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(self.wire, selectors.EVENT_READ, self)
        self.began = began
        self.received.clear()
        self.wire.sendall(request)

    def receive(self, selector: selectors.BaseSelector) -> int:
        """Return the status once the response is complete, and 0 before."""
        if self.wire is None:
            raise BenchError("a response without a request")
        piece = self.wire.recv(65_536)
        self.received += piece
        head, end, body = bytes(self.received).partition(b"\r\n\r\n")
        if not end and (not piece or len(head) > _MAX_HEAD_BYTES):
            raise BenchError("the server closed the connection")
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


def _send(target: Target, plan: _Plan) -> LoadResult:
    """Send each request that is due on the first free connection."""
    waiting = deque(zip(plan.requests, plan.due, strict=True))
    free = [_Connection(target.port, target.keep_alive) for _ in range(target.connections // target.processes)]
    times: list[float] = []
    unexpected, busy = 0, 0
    is_open_loop = any(plan.due)
    begin = time.monotonic()
    with selectors.DefaultSelector() as selector:
        while waiting or busy:
            now = time.monotonic()
            while free and waiting and begin + waiting[0][1] <= now:
                request, moment = waiting.popleft()
                free.pop().send(request, begin + moment if is_open_loop else time.monotonic(), selector)
                busy += 1
            pause = max(0.0, begin + waiting[0][1] - now) if waiting and free else _TIMEOUT_SECONDS
            if not busy:
                time.sleep(pause)
                continue
            for key, _ in selector.select(pause):
                status = key.data.receive(selector)
                if status:
                    times.append(time.monotonic() - key.data.began)
                    unexpected += status != plan.expected
                    free.append(key.data)
                    busy -= 1
    return LoadResult(time.monotonic() - begin, times, unexpected)
