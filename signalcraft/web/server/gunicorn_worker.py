"""gunicorn's worker, made so that nobody can keep the real sender out by being slow.

gunicorn gives a connection a thread as soon as it is there, and the thread waits for what the other end sends, however
slowly; it also closes connections politely in the one loop that accepts new ones, up to two seconds for each. A few
dozen idle connections are then enough to lose alerts. Here the loop itself gathers each request, reading only what has
come, and a thread gets it when all of it is there: being slow holds a connection and its bytes, both bounded, and no
thread. Where too much is held, who has been at it longest is hung up on; a sender that is quick never is.
"""

import contextlib
import errno
import socket
import time
from dataclasses import dataclass
from functools import partial
from selectors import EVENT_READ
from typing import Any, Final

import structlog
from gunicorn.http.errors import (
    ConfigurationProblem,
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.gthread import TConn, ThreadWorker

from signalcraft import logs, metrics
from signalcraft.domain.errors import Refusal
from signalcraft.ingest import request
from signalcraft.web import problem_details
from signalcraft.web.server.bounded_socket import BoundedSocket
from signalcraft.web.server.request_buffer import Arrival
from signalcraft.web.server.thread_pool import Turns

log = structlog.get_logger(__name__)

#: How long a request may take to arrive. Sentry gives up after one second.
ARRIVAL_SECONDS: Final = 10.0
#: How long a thread may read more of a request it was given: only where gunicorn and we disagree on where it ends.
READ_SECONDS: Final = 0.2
#: How long one that we hang up on may still read the answer.
LINGER_SECONDS: Final = 2.0
#: The most bytes of requests that a process holds, beside one request of the largest size.
MOST_HELD: Final = 64 * 1024 * 1024
MOST_LINGERING: Final = 64

_PIECE: Final = 65_536
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An answer of RFC 9457 to what never becomes a request."""

    status: int
    code: str
    title: str

    def as_bytes(self) -> bytes:
        """All of the answer."""
        body = problem_details.as_json({"title": self.title, "status": self.status, "code": self.code}).encode()
        head = (
            f"HTTP/1.1 {self.status} {self.title}\r\nContent-Type: {problem_details.MEDIA_TYPE}\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def _refusal(code: str) -> _Refusal:
    status, title = problem_details.FRAMEWORK_CODES[code]
    return _Refusal(status, code, title)


_HEAD_TOO_LARGE: Final = _refusal("headers_too_large")
_MALFORMED: Final = _refusal("request_malformed")
_FAULT: Final = _Refusal(Refusal.status, Refusal.code, Refusal.title)
_REFUSALS: Final = (
    (LimitRequestLine, _refusal("uri_too_long")),
    (LimitRequestHeaders, _HEAD_TOO_LARGE),
    (UnsupportedTransferCoding, _refusal("transfer_coding_unsupported")),
    (ExpectationFailed, _refusal("expectation_failed")),
)


class GatheringWorker(ThreadWorker):  # type: ignore[misc] # gunicorn ships no types
    """``gthread``, but for who waits for a request, and for whom."""

    #: Set by ``gunicorn.conf.py``: MAX_BODY_BYTES.
    most_body_bytes = 5 * 1024 * 1024

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - gunicorn's
        """As gunicorn makes it, after the fork."""
        super().__init__(*args, **kwargs)
        self._arriving: dict[Any, Arrival] = {}  # by connection, the one that has been at it longest first
        self._lingering: dict[socket.socket, float] = {}  # until when
        self._held = 0

    def get_thread_pool(self) -> Turns:
        """As many threads as are configured, of which two work at once while that is enough."""
        return Turns(self.cfg.threads)

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection and begin to gather its first request."""
        try:
            accepted, address = listener.accept()
        except OSError as error:
            if error.errno in _TOO_MANY_FILES:
                self._give_up_one()
            elif error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED):
                raise
            return
        self.nr_conns += 1
        bounded = BoundedSocket(fileno=accepted.detach())
        self.enqueue_req(_Connection(self, bounded, address, listener.getsockname()))
        self._make_room()

    def enqueue_req(self, connection: Any) -> None:  # noqa: ANN401 - gunicorn's
        """Gather a request; here begin the first of a connection and each later one."""
        arrival = Arrival(connection, time.monotonic(), self.most_body_bytes)
        early = connection.parser.unreader.take_buffered() if connection.parser else b""
        if early and arrival.add(early):
            self._hand_over(arrival)
            return
        connection.sock.settimeout(0)
        self._arriving[connection] = arrival
        self._held += len(early)
        self.poller.register(connection.sock, EVENT_READ, partial(self._gather, arrival))
        self._gather(arrival, connection.sock)

    def on_client_socket_readable(self, connection: Any, client: Any) -> None:  # noqa: ANN401 - gunicorn's
        """Gather the next request of a connection, if it was not given up since the loop heard of it."""
        if connection in self.keepalived_conns:
            super().on_client_socket_readable(connection, client)

    def handle(self, connection: Any) -> Any:  # noqa: ANN401 - gunicorn's
        """Serve a request, in a thread. What it waited for one counts: the sender waited, too."""
        request.set_arrival_time(connection.there_at)
        return super().handle(connection)

    def finish_request(self, connection: Any, outcome: Any) -> None:  # noqa: ANN401 - gunicorn's
        """A thread is done with a request, and its bytes are no longer held."""
        self._held -= connection.held
        connection.held = 0
        super().finish_request(connection, outcome)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Any) -> None:  # noqa: ANN401, ARG002 - gunicorn's
        """Refuse what is no request, in the words in which we say no to everything else. Nothing of it is logged."""
        is_theirs = isinstance(exc, ParseException) and not isinstance(exc, ConfigurationProblem)
        refusal = next((one for kind, one in _REFUSALS if isinstance(exc, kind)), _MALFORMED if is_theirs else _FAULT)
        metrics.count("signalcraft_rejected_total", code=refusal.code)
        if is_theirs:
            log.warning("malformed request", stage="receive", status=refusal.status, reason=type(exc).__name__)
        else:
            log.error("request failed", stage="receive", **logs.exception_fields(exc))
        with contextlib.suppress(OSError):
            client.sendall(refusal.as_bytes())

    def murder_pending(self) -> None:
        """Hang up on whoever has had long enough. Called about once a second."""
        super().murder_pending()
        now = time.monotonic()
        patience = ARRIVAL_SECONDS if self.alive else LINGER_SECONDS
        slow = [connection for connection, arrival in self._arriving.items() if now - arrival.began_at > patience]
        for connection in slow:
            self._hang_up_on(connection)
        for lingering in [one for one, until in list(self._lingering.items()) if now > until]:
            self._close(lingering)
        if slow:
            metrics.count("signalcraft_rejected_total", len(slow), code="request_slow")
            log.warning("slow connections closed", stage="receive", connections=len(slow))

    def linger(self, ended: socket.socket) -> None:
        """Close a connection whose other end may still be sending: hung up on at once, it would lose the answer."""
        try:
            ended.settimeout(0)
            ended.shutdown(socket.SHUT_WR)
            # First noted, then watched: once it is watched, the loop may close it at any moment.
            self._lingering[ended] = time.monotonic() + LINGER_SECONDS
            self.poller.register(ended, EVENT_READ, self._discard)
        except (OSError, ValueError, RuntimeError):  # gone already; or the worker has stopped, and its poller with it
            self._lingering.pop(ended, None)
            ended.close()
            return
        if len(self._lingering) > MOST_LINGERING:
            self._close(next(iter(self._lingering)))

    def _gather(self, arrival: Arrival, sock: socket.socket) -> None:
        if arrival.connection not in self._arriving:  # hung up on since the loop heard of it
            return
        try:
            piece = sock.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._hang_up_on(arrival.connection)
            return
        head_was_here = arrival.expected is not None
        self._held += len(piece)
        if arrival.add(piece):
            self._hand_over(arrival)
        elif not head_was_here and arrival.waits_for_our_word():
            with contextlib.suppress(OSError):
                sock.send(_CONTINUE)
        while self._held > MOST_HELD + self.most_body_bytes and self._arriving:
            self._hang_up_on(next(iter(self._arriving)))

    def _hand_over(self, arrival: Arrival) -> None:
        """Give the request to a thread, which finds all of it read already."""
        connection = arrival.connection
        self._forget(connection)
        if arrival.expected is None:
            self._refuse(connection, _HEAD_TOO_LARGE)
            return
        connection.held = len(arrival.received)
        connection.there_at = time.monotonic()
        self._held += connection.held
        connection.init()
        connection.sock.read_until = time.monotonic() + READ_SECONDS
        connection.parser.unreader.unread(bytes(arrival.received))
        super().enqueue_req(connection)

    def _refuse(self, connection: Any, refusal: _Refusal) -> None:  # noqa: ANN401 - gunicorn's
        """Answer in the loop, without a thread, and hang up."""
        self.nr_conns -= 1
        metrics.count("signalcraft_rejected_total", code=refusal.code)
        with contextlib.suppress(OSError):
            connection.sock.send(refusal.as_bytes())
        connection.close(graceful=True)

    def _keepalive_after(self, connection: Any, keepalive: bool) -> bool:  # noqa: ANN401, FBT001 - gunicorn's
        """Whether the connection can be used again: not if there is more to throw away than has come."""
        return bool(keepalive and connection.parser.finish_body(deadline=time.monotonic() + 0.01))

    def _make_room(self) -> None:
        """Keep a connection free for the next one who comes."""
        if self.nr_conns >= self.worker_connections - self.cfg.threads:
            self._give_up_one()

    def _give_up_one(self) -> None:
        if self._arriving:
            self._hang_up_on(next(iter(self._arriving)))
        elif self.keepalived_conns:
            self.keepalived_conns[0].timeout = 0.0
            self.murder_keepalived()

    def _hang_up_on(self, connection: Any) -> None:  # noqa: ANN401 - gunicorn's
        self._forget(connection)
        self.nr_conns -= 1
        connection.close()

    def _forget(self, connection: Any) -> None:  # noqa: ANN401 - gunicorn's
        arrival = self._arriving.pop(connection, None)
        if arrival:
            self._held -= len(arrival.received)
            self._unwatch(connection.sock)

    def _discard(self, ended: socket.socket) -> None:
        try:
            more = ended.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more:
            self._close(ended)

    def _close(self, lingering: socket.socket) -> None:
        self._lingering.pop(lingering, None)
        self._unwatch(lingering)
        lingering.close()

    def _unwatch(self, sock: socket.socket) -> None:
        """Watch a socket no more. That it is closed already, by a thread, must not end the worker."""
        with contextlib.suppress(KeyError, ValueError):
            self.poller.unregister(sock)


class _Connection(TConn):  # type: ignore[misc] # gunicorn ships no types
    """A connection that is closed beside the loop, and not in it."""

    def __init__(self, worker: GatheringWorker, sock: socket.socket, client: Any, server: Any) -> None:  # noqa: ANN401 - gunicorn's
        super().__init__(worker.cfg, sock, client, server)
        self._worker = worker
        self.held = 0  # bytes of the request that a thread has, or waits for one
        self.there_at = time.monotonic()  # when all of that request was there

    def close(self, graceful: bool = False) -> None:  # noqa: FBT001, FBT002 - gunicorn's signature
        if graceful:
            self._worker.linger(self.sock)
        else:
            super().close()
