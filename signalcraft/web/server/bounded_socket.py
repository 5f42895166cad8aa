"""A socket with timeouts, and a limit on threads that wait for slow readers."""

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from signalcraft import metrics

#: How long a thread waits for an answer to be taken.
SEND_SECONDS: Final = 5.0
#: The most threads that wait at once for answers to be taken: with what else holds threads (``places``), some are left.
MOST_UNHEARD: Final = 4


class _Unheard:
    """Answers that wait for the other end to take them. Past ``MOST_UNHEARD`` whoever has been deaf longest is cut off.

    Connections are cheap and threads are few: some dozen who ask and never listen would hold them all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[socket.socket, None] = {}  # the one that waits longest first

    @contextlib.contextmanager
    def wait(self, deaf: socket.socket) -> Iterator[None]:
        """Let a thread wait for ``deaf`` in here; its connection may be cut off meanwhile."""
        with self._lock:
            self._waiting[deaf] = None
            if len(self._waiting) > MOST_UNHEARD:
                self._cut_off(next(iter(self._waiting)))
        try:
            yield
        finally:
            with self._lock:
                self._waiting.pop(deaf, None)

    def _cut_off(self, longest: socket.socket) -> None:
        del self._waiting[longest]
        metrics.count("signalcraft_rejected_total", code="request_slow")
        with contextlib.suppress(OSError):
            longest.shutdown(socket.SHUT_RDWR)  # which ends the wait of its thread


_unheard: Final = _Unheard()


class BoundedSocket(socket.socket):
    """A socket that no thread waits on without end: what gunicorn calls blocking is blocking for a while.

    However many pieces something comes in, a thread reads none after ``read_until`` (monotonic). Few threads at once
    wait for what they send to be taken.
    """

    read_until = 0.0

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 - the standard library's signature
        """Set a timeout where the caller asks for blocking."""
        self.settimeout(SEND_SECONDS if flag else 0)

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
        """Send everything; wait for a slow reader as one of few threads."""
        rest = self._send_what_fits(memoryview(data), flags)
        if not rest:
            return
        try:
            with _unheard.wait(self):
                super().sendall(rest, flags)
        except TimeoutError:  # gunicorn would write a trace of it, which is for faults of ours
            raise BrokenPipeError(errno.EPIPE, "nobody takes the answer") from None

    def _send_what_fits(self, data: memoryview, flags: int) -> memoryview:
        """Send without waiting; what was not taken. An answer to a delivery always fits."""
        bound = self.gettimeout()
        self.settimeout(0)
        try:
            return data[super().send(data, flags) :]
        except BlockingIOError:
            return data
        finally:
            self.settimeout(bound)
