"""A socket with timeouts, and a limit on threads that wait for slow readers."""

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from signalcraft import metrics
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

    However many pieces a request comes in, a thread reads none after ``read_until`` (monotonic).
    """

    read_until = 0.0

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 - the standard library's signature
        """Set a timeout where the caller asks for blocking."""
        self.settimeout(SEND_TIMEOUT_SECONDS if flag else 0)

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive until ``read_until`` at most."""
        bound = self.gettimeout()
        if bound:
            self.settimeout(max(0.001, min(bound, self.read_until - time.monotonic())))
        try:
            return super().recv(size, flags)
        finally:
            if bound:
                self.settimeout(bound)

    def sendall(self, data: Any, flags: int = 0, /) -> None:  # noqa: ANN401 - any bytes
        """Send everything; wait for a slow reader.

        The thread waits as one of few.
        """
        rest = self._send_what_fits(memoryview(data), flags)
        if not rest:
            return
        try:
            with _blocked_writers.wait(self):
                super().sendall(rest, flags)
        except TimeoutError:  # gunicorn would log a traceback, which is for faults of ours
            raise BrokenPipeError(errno.EPIPE, "the client does not read the response") from None

    def _send_what_fits(self, data: memoryview, flags: int) -> memoryview:
        """Send without waiting; return the rest.

        A response to a delivery always fits.
        """
        bound = self.gettimeout()
        self.settimeout(0)
        try:
            return data[super().send(data, flags) :]
        except BlockingIOError:
            return data
        finally:
            self.settimeout(bound)
