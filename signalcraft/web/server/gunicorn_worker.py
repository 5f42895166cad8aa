"""gunicorn's threaded worker, with request buffering: protection against slow clients. Deliveries need no thread.

gunicorn's ``gthread`` gives a connection a thread at once, and the thread waits for what the client sends, however
slowly; it also drains closing connections in the one loop that accepts new ones, up to two seconds each. A few dozen
idle connections are then enough to lose alerts. Here the loop buffers each request, reading only what has arrived, and
a thread gets it when it is complete: a slow client holds a connection and its bytes, both bounded, and no thread.
Over the bounds, the connection that has been incomplete for longest is closed; a quick sender's never is.

A small delivery is served by the loop itself while no thread is busy: it gives way to others while it waits for Redis.
"""

import contextlib
import errno
import math
import socket
import time
from concurrent.futures import Future
from functools import partial
from selectors import EVENT_READ
from typing import Any, Final

import structlog
from gunicorn.http.errors import ConfigurationProblem, ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

from signalcraft import logs, metrics, resilience
from signalcraft.domain.errors import ThreadsExhausted
from signalcraft.ingest import request
from signalcraft.ingest.rate_limits import network_of
from signalcraft.web.server import refusals
from signalcraft.web.server.bounded_socket import BoundedSocket
from signalcraft.web.server.event_loop import EventLoop
from signalcraft.web.server.large_requests import LARGE_BYTES, HeldBytes, Sender
from signalcraft.web.server.refusals import ConnectionRefusal
from signalcraft.web.server.request_buffer import RequestBuffer
from signalcraft.web.server.thread_pool import AdaptiveThreadPool

log = structlog.get_logger(__name__)

#: How long a request may take to arrive. Some senders give up after one second.
ARRIVAL_TIMEOUT_SECONDS: Final = 10.0
#: How long a thread may read more of its request: only where gunicorn and we disagree on where it ends.
READ_TIMEOUT_SECONDS: Final = 0.2
#: How long a client whose connection we close may still read the response.
LINGER_TIMEOUT_SECONDS: Final = 2.0
#: Bytes of requests that a process holds, besides one request of the largest size.
MAX_BUFFERED_BYTES: Final = 64 * 1024 * 1024
MAX_LINGERING: Final = 64
#: A delivery over this, which takes the processor for a millisecond, is served by a thread.
MAX_LOOP_BYTES: Final = 65_536

_PIECE: Final = 65_536
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)


class BufferingWorker(ThreadWorker):  # type: ignore[misc] # gunicorn ships no types
    """``gthread`` with buffered requests, bounded connections and an adaptive thread pool."""

    #: Set by ``gunicorn.conf.py``: MAX_BODY_BYTES, DEFAULT_WORKSPACE, TRUSTED_PROXIES.
    max_body_bytes = 5 * 1024 * 1024
    default_workspace = "default"
    trusted_proxies = 0
    alive: bool
    #: Whether the application lets the loop run while a delivery waits.
    _serves_deliveries = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - gunicorn's
        """Take gunicorn's arguments, after the fork."""
        super().__init__(*args, **kwargs)
        self._buffering: dict[Any, RequestBuffer] = {}  # by connection, the oldest first
        self._lingering: dict[socket.socket, float] = {}  # until when
        self._held = 0
        self._held_large = HeldBytes()

    def run(self) -> None:
        """Run the loop until the process stops."""
        self._loop = EventLoop(self.poller, self.method_queue, self.tpool)
        self._serves_deliveries = getattr(self.wsgi, "runs_in_loop", False)
        super().run()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for events, at most until the next timer, and call what is due."""
        super().wait_for_and_dispatch_events(self._loop.seconds_to_timer(timeout))
        self._loop.run_timers()

    def get_thread_pool(self) -> AdaptiveThreadPool:
        """Return the pool of ``threads`` threads."""
        return AdaptiveThreadPool(self.cfg.threads)

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection and start to buffer its first request."""
        try:
            accepted, address = listener.accept()
        except OSError as error:
            if error.errno in _TOO_MANY_FILES:
                self._evict_one()
            elif error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED):
                raise
            return
        self.nr_conns += 1
        bounded = BoundedSocket(accepted.family, accepted.type, accepted.proto, accepted.detach())
        self.enqueue_req(_Connection(self, bounded, address, listener.getsockname()))
        self._make_room()

    def enqueue_req(self, connection: Any) -> None:  # noqa: ANN401 - gunicorn's
        """Start to buffer a request.

        It is the first of a connection, or a later one.
        """
        buffer = RequestBuffer(connection, time.monotonic(), self.max_body_bytes)
        early = connection.parser.unreader.take_buffered() if connection.parser else b""
        if early and buffer.add(early):
            self._dispatch(buffer)
            return
        connection.sock.settimeout(0)
        self._buffering[connection] = buffer
        self._held += len(early)
        self._receive(buffer, connection.sock)
        if connection in self._buffering:  # not all of it has arrived
            self.poller.register(connection.sock, EVENT_READ, partial(self._receive, buffer))

    def on_client_socket_readable(self, connection: Any, client: Any) -> None:  # noqa: ANN401 - gunicorn's
        """Buffer the next request of a connection.

        Do nothing if the connection was closed since the loop polled.
        """
        if connection in self.keepalived_conns:
            super().on_client_socket_readable(connection, client)

    def handle(self, connection: Any) -> Any:  # noqa: ANN401 - gunicorn's
        """Serve a request, in a thread or in a greenlet of the loop.

        Its wait for a thread counts as response time.
        """
        request.set_arrival_time(connection.complete_at)
        return super().handle(connection)

    def handle_request(self, req: Any, conn: Any) -> Any:  # noqa: ANN401 - gunicorn's
        """Serve a parsed request.

        The loop has sent ``100 Continue`` if the client had to wait for it; gunicorn would send it again.
        """
        req._expected_100_continue = False  # noqa: SLF001 - it has no other way
        with conn.sock.one_packet():
            return super().handle_request(req, conn)

    def finish_request(self, connection: Any, outcome: Any) -> None:  # noqa: ANN401 - gunicorn's
        """Release the bytes of a request a thread has served."""
        self._release(connection)
        super().finish_request(connection, outcome)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Any) -> None:  # noqa: ANN401, ARG002 - gunicorn's
        """Refuse what is no request with problem details.

        Nothing of it is logged.
        """
        is_theirs = isinstance(exc, ParseException) and not isinstance(exc, ConfigurationProblem)
        refusal = refusals.of(exc) if is_theirs else refusals.FAULT
        metrics.count("signalcraft_rejected_total", code=refusal.code)
        if is_theirs:
            log.warning("malformed request", stage="receive", status=refusal.status, reason=type(exc).__name__)
        else:
            log.error("request failed", stage="receive", **logs.exception_fields(exc))
        with contextlib.suppress(OSError):
            client.sendall(refusal.as_bytes())

    def murder_pending(self) -> None:
        """Close connections past their timeout. Called about once a second.

        A process that could not start a thread stops, and gunicorn starts another one.
        """
        super().murder_pending()
        if self.alive and resilience.threads_exhausted.is_set():
            log.error("no thread can be started, web process restarts", stage="receive")
            self.alive = False
        now = time.monotonic()
        timeout = ARRIVAL_TIMEOUT_SECONDS if self.alive else LINGER_TIMEOUT_SECONDS
        slow = [connection for connection, buffer in self._buffering.items() if now - buffer.began_at > timeout]
        for connection in slow:
            self._disconnect(connection)
        for lingering in [one for one, until in list(self._lingering.items()) if now > until]:
            self._close(lingering)
        if slow:
            metrics.count("signalcraft_rejected_total", len(slow), code="request_slow")
            log.warning("slow connections closed", stage="receive", connections=len(slow))

    def linger(self, ended: socket.socket) -> None:
        """Close a connection whose client may still be sending.

        Closed at once, it would lose the response.
        """
        try:
            ended.settimeout(0)
            ended.shutdown(socket.SHUT_WR)
            # Recorded before it is polled: from then on the loop may close it at any moment.
            self._lingering[ended] = time.monotonic() + LINGER_TIMEOUT_SECONDS
            self.poller.register(ended, EVENT_READ, self._discard)
        except (OSError, ValueError, RuntimeError):  # closed already; or the worker has stopped, and its poller with it
            self._lingering.pop(ended, None)
            ended.close()
            return
        if len(self._lingering) > MAX_LINGERING:
            self._close(next(iter(self._lingering)))

    def _receive(self, buffer: RequestBuffer, sock: socket.socket) -> None:
        if buffer.connection not in self._buffering:  # closed since the loop polled
            return
        try:
            piece = sock.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._disconnect(buffer.connection)
            return
        had_head = buffer.expected is not None
        self._held += len(piece)
        if buffer.add(piece):
            self._dispatch(buffer)
        elif not had_head and buffer.expected and self._admit(buffer, buffer.expected) and buffer.expects_continue():
            with contextlib.suppress(OSError):
                sock.send(_CONTINUE)
        while self._held > MAX_BUFFERED_BYTES + self.max_body_bytes and self._buffering:
            self._disconnect(next(iter(self._buffering)))

    def _dispatch(self, buffer: RequestBuffer) -> None:
        """Serve the request in the loop, or hand it to a thread: both find all of it read already."""
        connection = buffer.connection
        self._forget(connection)
        if buffer.expected is None:
            self._refuse(connection, refusals.HEAD_TOO_LARGE)
            return
        size = len(buffer.received)
        if not self._admit(buffer, size):
            return
        connection.complete_at = time.monotonic()
        connection.held = size
        self._held += size
        if connection.sender:
            self._held_large.add(size, connection.sender)
        connection.init()
        connection.sock.read_until = time.monotonic() + READ_TIMEOUT_SECONDS
        connection.parser.unreader.unread(bytes(buffer.received))
        is_delivery = buffer.is_delivery()
        # While threads are busy the loop would wait for one of them at each system call, and all deliveries for it.
        if is_delivery and self._serves_deliveries and size <= MAX_LOOP_BYTES and self.tpool.is_idle():
            self._loop.serve(partial(self.handle, connection), partial(self._finish_in_loop, connection))
            return
        try:
            served = self.tpool.submit(
                self.handle,
                connection,
                urgent=is_delivery or buffer.is_liveness_probe(),
                large_of=connection.sender.name if connection.sender else None,
            )
        except ThreadsExhausted:
            resilience.threads_exhausted.set()
            self._release(connection)
            self._refuse(connection, refusals.UNAVAILABLE)
            return
        served.add_done_callback(lambda outcome: self.method_queue.defer(self.finish_request, connection, outcome))

    def _finish_in_loop(self, connection: Any, outcome: Future[Any]) -> None:  # noqa: ANN401 - gunicorn's
        """Finish a request that the loop served as one that a thread did."""
        if connection.parser.unreader.buf.getvalue():
            # The next request is here already. Served now, each would be within the call of the one before; so one a
            # turn of the loop, which serves others between them.
            self._loop.call_later(0.0, partial(self.finish_request, connection, outcome))
        else:
            self.finish_request(connection, outcome)

    def _admit(self, buffer: RequestBuffer, size: int) -> bool:
        """Return whether there is room for a request of ``size`` bytes; else refuse it."""
        connection = buffer.connection
        connection.sender = self._sender_of(buffer) if size > LARGE_BYTES else None
        if connection.sender is None or self._held_large.has_room(size, connection.sender):
            return True
        log.error("large request refused, too many wait", stage="receive", bytes=size)
        self._forget(connection)
        self._refuse(connection, refusals.UNAVAILABLE)
        return False

    def _sender_of(self, buffer: RequestBuffer) -> Sender:
        client, forwarded = buffer.connection.client, buffer.forwarded_for()
        address = client[0] if isinstance(client, tuple) else ""  # none on a Unix socket
        if 0 < self.trusted_proxies <= len(forwarded):
            address = forwarded[-self.trusted_proxies]
        return Sender(
            is_delivery=buffer.is_delivery(), name=buffer.sender(self.default_workspace), network=network_of(address)
        )

    def _release(self, connection: Any) -> None:  # noqa: ANN401 - gunicorn's
        self._held -= connection.held
        if connection.sender:
            self._held_large.add(-connection.held, connection.sender)
        connection.held, connection.sender = 0, None

    def _refuse(self, connection: Any, refusal: ConnectionRefusal) -> None:  # noqa: ANN401 - gunicorn's
        """Respond in the loop, without a thread, and close."""
        self.nr_conns -= 1
        metrics.count("signalcraft_rejected_total", code=refusal.code)
        with contextlib.suppress(OSError):
            connection.sock.send(refusal.as_bytes())
        connection.close(graceful=True)

    def _keepalive_after(self, connection: Any, keepalive: bool) -> bool:  # noqa: ANN401, FBT001 - gunicorn's
        """Return whether the connection can be used again.

        It cannot if unread bytes are still to come: gunicorn bounds them, and ``read_until`` the wait for them. With a
        deadline of its own, a thread that lost the processor for as long closed a connection that needed nothing more,
        and with it the request that the client had just sent.
        """
        return bool(keepalive and connection.parser.finish_body(deadline=math.inf))

    def _make_room(self) -> None:
        """Keep a connection free for the next client."""
        if self.nr_conns >= self.worker_connections - self.cfg.threads:
            self._evict_one()

    def _evict_one(self) -> None:
        if self._buffering:
            self._disconnect(next(iter(self._buffering)))
        elif self.keepalived_conns:
            self.keepalived_conns[0].timeout = 0.0
            self.murder_keepalived()

    def _disconnect(self, connection: Any) -> None:  # noqa: ANN401 - gunicorn's
        self._forget(connection)
        self.nr_conns -= 1
        connection.close()

    def _forget(self, connection: Any) -> None:  # noqa: ANN401 - gunicorn's
        buffer = self._buffering.pop(connection, None)
        if buffer:
            self._held -= len(buffer.received)
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
        """Stop polling a socket.

        A thread may have closed it already, which must not end the worker.
        """
        with contextlib.suppress(KeyError, ValueError):
            self.poller.unregister(sock)


class _Connection(TConn):  # type: ignore[misc] # gunicorn ships no types
    """A connection that lingers outside the loop when it is closed."""

    def __init__(self, worker: BufferingWorker, sock: socket.socket, client: Any, server: Any) -> None:  # noqa: ANN401 - gunicorn's
        super().__init__(worker.cfg, sock, client, server)
        self._worker = worker
        self.held = 0  # bytes of its request that a thread serves, or that waits for a thread
        self.sender: Sender | None = None  # of such a request that is large
        self.complete_at = time.monotonic()  # when all of that request had arrived

    def close(self, graceful: bool = False) -> None:  # noqa: FBT001, FBT002 - gunicorn's signature
        if graceful:
            self._worker.linger(self.sock)
        else:
            super().close()
