"""A connection to Redis that all requests of a loop share: commands are sent while others wait for their replies.

Redis replies in the order of the commands (https://redis.io/docs/latest/develop/using-commands/pipelining/).
"""

import math
import time
from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from socket import SO_SNDBUF, SOL_SOCKET
from ssl import SSLWantReadError
from typing import Any, Final

from hiredis import Reader
from redis import ConnectionPool
from redis.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from signalcraft.greenlets import Loop, RequestGreenlet

#: Bytes of commands without a reply: the socket's buffer takes so many, also while Redis is frozen.
MAX_UNANSWERED_BYTES: Final = 65_536
#: Pause after a connection could not be opened.
REOPEN_INTERVAL_SECONDS: Final = 1.0

#: More than a TLS record, so that none of it is left behind where the loop does not see it.
_PIECE: Final = 65_536
_INCOMPLETE: Final = object()

#: When the block that runs stops waiting for replies, on the monotonic clock.
deadline_at: Final = ContextVar("deadline_at", default=math.inf)


@dataclass(slots=True, eq=False)
class _Command:
    """A command that was sent, and its reply, which may be an error to raise."""

    request: RequestGreenlet
    size: int
    give_up_at: float
    reply: Any = None


class SharedConnection:
    """One connection of ``pool``; used on the loop's thread alone.

    It is opened in the background, and its socket never blocks. A command that finds it closed, or too many bytes of
    others without a reply, is for another connection.
    """

    def __init__(self, loop: Loop, pool: ConnectionPool, *, timeout_seconds: float) -> None:
        """Do not connect yet. ``timeout_seconds`` is for one reply."""
        self._loop = loop
        self._timeout_seconds = timeout_seconds
        self._connection: Any = pool.make_connection()  # opened again and again: the pool counts how many it made
        self._socket: Any = None  # while it is open
        self._reader: Any = None
        self._open_again_at = 0.0
        self._unanswered: deque[_Command] = deque()
        self._unanswered_bytes = 0
        self._has_timer = False

    def run(self, request: RequestGreenlet, packed: bytes) -> Any:  # noqa: ANN401 - Redis's reply
        """Send a command in RESP and return its reply.

        ``request`` is the greenlet that calls this, and is suspended meanwhile.

        Raises:
            RedisConnectionError: it is closed, was closed meanwhile, or has no room. The command may have run.
            RedisTimeoutError: no reply came in time. The command may have run.
            ResponseError: Redis refused the command.
        """
        if self._socket is None:
            self._open()
            raise RedisConnectionError("the shared connection is not open")
        if self._unanswered_bytes + len(packed) > MAX_UNANSWERED_BYTES:
            raise RedisConnectionError("the shared connection is busy")
        try:
            self._connection.send_packed_command([packed])
        except RedisError:
            self._close()
            raise
        give_up_at = min(time.monotonic() + self._timeout_seconds, deadline_at.get())
        command = _Command(request, len(packed), give_up_at)
        self._unanswered.append(command)
        self._unanswered_bytes += command.size
        self._set_timer()
        request.suspend()
        if isinstance(command.reply, RedisError):
            raise command.reply
        return command.reply

    def _open(self) -> None:
        if time.monotonic() < self._open_again_at:
            return
        opened = self._loop.run_in_executor(self._connect)
        self._open_again_at = math.inf  # while it is being opened
        opened.add_done_callback(lambda _: self._loop.call_soon_threadsafe(lambda: self._adopt(opened.result())))

    def _connect(self) -> Any:  # noqa: ANN401 - a socket
        """Return the socket of the opened connection, which never blocks, None if it cannot be opened; in a thread."""
        try:
            self._connection.connect()
            connected = self._connection._get_socket()  # noqa: SLF001 - it has no public name
            connected.setsockopt(SOL_SOCKET, SO_SNDBUF, 2 * MAX_UNANSWERED_BYTES)
            connected.settimeout(0)
        except Exception:  # noqa: BLE001 - a command that finds it closed tries another one, and says what is wrong
            self._connection.disconnect()
            return None
        return connected

    def _adopt(self, connected: Any) -> None:  # noqa: ANN401 - a socket
        self._open_again_at = time.monotonic() + REOPEN_INTERVAL_SECONDS
        if connected is None:
            return
        self._socket = connected
        self._reader = Reader(
            protocolError=InvalidResponse, replyError=DefaultParser.parse_error, notEnoughData=_INCOMPLETE
        )
        self._loop.add_reader(self._socket, self._receive)

    def _receive(self) -> None:
        """Hand out the replies that have come; never wait for the rest of one.

        Do nothing if the connection was closed since the loop polled.
        """
        if self._socket is None:
            return
        try:
            piece = self._socket.recv(_PIECE)
        except (BlockingIOError, SSLWantReadError):
            return
        except OSError:
            piece = b""
        if not piece:
            self._close()
            return
        self._reader.feed(piece)
        while self._socket is not None and (reply := self._next_reply()) is not _INCOMPLETE:
            # A reply to no command: which commands the next ones are to is unknown.
            if isinstance(reply, RedisConnectionError) or not self._unanswered:
                self._close()
            else:
                self._answer(self._unanswered.popleft(), reply)

    def _next_reply(self) -> Any:  # noqa: ANN401 - Redis's reply, or an error to raise
        try:
            return self._reader.gets()
        except Exception as error:  # noqa: BLE001 - whatever it makes of garbage must not end the loop
            return RedisConnectionError(f"no reply can be read: {type(error).__name__}")

    def _answer(self, command: _Command, reply: Any) -> None:  # noqa: ANN401 - Redis's reply, or an error to raise
        self._unanswered_bytes -= command.size
        command.reply = reply
        command.request.resume()

    def _set_timer(self) -> None:
        if self._unanswered and not self._has_timer:
            self._has_timer = True
            self._loop.call_later(max(0.0, self._unanswered[0].give_up_at - time.monotonic()), self._check_timeout)

    def _check_timeout(self) -> None:
        self._has_timer = False
        if self._unanswered and self._unanswered[0].give_up_at <= time.monotonic():
            late = self._unanswered.popleft()
            self._close()  # the others may have time left, for another connection
            self._answer(late, RedisTimeoutError("Timeout reading from the shared connection"))
        self._set_timer()

    def _close(self) -> None:
        """Close the connection; its replies are lost.

        A greenlet may have found it broken, so the others are resumed by the loop.
        """
        if self._socket is None:
            return
        self._loop.remove_reader(self._socket)
        self._connection.disconnect()
        self._socket = None
        for command in self._unanswered:
            lost = RedisConnectionError("the shared connection was closed")
            self._loop.call_soon_threadsafe(partial(self._answer, command, lost))
        self._unanswered = deque()
