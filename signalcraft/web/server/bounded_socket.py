"""A socket with timeouts, and a limit on threads that wait for slow readers."""

import contextlib
import errno
import select
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from signalcraft import greenlets, metrics
from signalcraft.thread_budgets import MAX_BLOCKED_WRITERS

#: How long a thread waits for a client to read its response.
SEND_TIMEOUT_SECONDS: Final = 5.0


class _BlockedWriters:
    """Limit the threads blocked in ``send``: over the limit, the slowest reader is evicted.

    Connections are cheap and threads are few: some dozen clients that ask and never read would block them all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[socket.socket, None] = {}  # the longest first

    @contextlib.contextmanager
    def wait(self, client: socket.socket) -> Iterator[None]:
        """Let a thread wait for ``client``.

        Its connection may be shut down meanwhile.
        """
        with self._lock:
            self._waiting[client] = None
            if len(self._waiting) > MAX_BLOCKED_WRITERS:
                self._evict(next(iter(self._waiting)))
        try:
            yield
        finally:
            with self._lock:
                self._waiting.pop(client, None)

    def _evict(self, client: socket.socket) -> None:
        del self._waiting[client]
        metrics.count("signalcraft_rejected_total", code="request_slow")
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)  # which ends the wait of its thread


_blocked_writers: Final = _BlockedWriters()


class BoundedSocket(socket.socket):
    """A socket on which no thread waits for ever: what gunicorn calls blocking has a timeout.

    The socket itself never blocks. The standard library's timeouts cost a system call each time that one is set and one
    more before each read and write, and in each a thread gives up the interpreter's lock: ten of them for a request.

    However many pieces a request comes in, a thread reads none after ``read_until`` (monotonic).
    """

    read_until = 0.0
    _timeout: float | None = 0.0
    #: The head of a response, until the first piece of its body; empty before that head, None outside ``one_packet``.
    _head: bytes | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the standard library's
        """Take the standard library's arguments."""
        super().__init__(*args, **kwargs)
        super().settimeout(0)

    def settimeout(self, seconds: float | None, /) -> None:
        """Set for how long to wait, in seconds."""
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        """Return for how long to wait, in seconds."""
        return self._timeout

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 - the standard library's signature
        """Set a timeout where the caller asks for blocking."""
        self._timeout = SEND_TIMEOUT_SECONDS if flag else 0.0

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive until ``read_until`` at most.

        Raises:
            TimeoutError: nothing came.
        """
        try:
            return super().recv(size, flags)
        except BlockingIOError:
            if not self._timeout:
                raise
        self._wait(select.POLLIN, until=min(time.monotonic() + self._timeout, self.read_until))
        return super().recv(size, flags)

    @contextlib.contextmanager
    def one_packet(self) -> Iterator[None]:
        """Send the head of a response together with the first piece of its body."""
        self._head = b""
        try:
            yield
        finally:
            self._send_head()

    def sendall(self, data: Any, flags: int = 0, /) -> None:  # noqa: ANN401 - any bytes
        """Send everything; wait for a slow reader.

        The thread waits as one of few.
        """
        if self._head == b"":
            self._head = bytes(data)
            return
        if self._head is not None:
            data, self._head = self._head + data, None
        rest = self._send_what_fits(memoryview(data), flags)
        if not rest:
            return
        until = time.monotonic() + SEND_TIMEOUT_SECONDS
        try:
            with _blocked_writers.wait(self):
                while rest:
                    self._wait(select.POLLOUT, until=until)
                    rest = self._send_what_fits(rest, flags)
        except TimeoutError:  # gunicorn would log a traceback, which is for faults of ours
            raise BrokenPipeError(errno.EPIPE, "the client does not read the response") from None

    def sendfile(self, *args: Any, **kwargs: Any) -> int:  # noqa: ANN401 - the standard library's
        """Send a file behind the head of its response."""
        self._send_head()
        return super().sendfile(*args, **kwargs)

    def _send_head(self) -> None:
        head, self._head = self._head, None
        if head:
            self.sendall(head)

    def _send_what_fits(self, data: memoryview, flags: int) -> memoryview:
        """Send without waiting; return the rest.

        A response to a delivery always fits.
        """
        try:
            return data[super().send(data, flags) :]
        except BlockingIOError:
            return data

    def _wait(self, event: int, *, until: float) -> None:
        poller = select.poll()
        poller.register(self, event)
        if not greenlets.run_blocking(partial(poller.poll, max(0.0, (until - time.monotonic()) * 1000))):
            raise TimeoutError
