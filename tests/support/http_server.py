"""An HTTP server that misbehaves as a test says."""

import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """One connection, after its request was read."""

    def __init__(self, connection: socket.socket, asked: bytes, stopped: threading.Event) -> None:
        self.socket = connection
        self.asked = asked
        self.stopped = stopped

    def answer(
        self, status: int, headers: Sequence[tuple[str, str]], body: bytes, *, length: int | None = None
    ) -> None:
        lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in headers)]
        lines += [f"Content-Length: {len(body) if length is None else length}", "Connection: close", "", ""]
        self.socket.sendall("\r\n".join(lines).encode("latin-1") + body)


Behaviour = Callable[[Connection], object]


def answer(status: int, body: str = "ok", **headers: str) -> Behaviour:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return lambda connection: connection.answer(status, named, body.encode())


def hang(connection: Connection) -> None:
    connection.stopped.wait(60)


def hang_in_answer(connection: Connection) -> None:
    connection.answer(200, [], b"o", length=2)
    connection.stopped.wait(60)


def drip(connection: Connection) -> None:
    """Send the answer a byte at a time, so that no read of it times out."""
    for byte in b"HTTP/1.1 200 OK\r\nX-Drip: " + b"x" * 600:
        connection.socket.sendall(bytes([byte]))
        if connection.stopped.wait(0.1):
            return


def reset(connection: Connection) -> None:
    """Reset the connection: what was asked for has been taken, and no answer comes."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def close(_: Connection) -> None:
    """Close the connection without an answer."""


class Endless:
    """Answers without end, until the other side closes the connection."""

    def __init__(self) -> None:
        self.is_refused = threading.Event()

    def __call__(self, connection: Connection) -> None:
        connection.answer(500, [], b"", length=10**12)
        try:
            while not connection.stopped.is_set():
                connection.socket.sendall(b"x" * 65_536)
        except OSError:
            self.is_refused.set()


def malformed_headers(connection: Connection) -> None:
    connection.socket.sendall(b"HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 2\r\n\r\nok")


def echo(status: int) -> Behaviour:
    """Answer with what was asked for: the path, the headers and the body."""
    return lambda connection: connection.answer(status, [], connection.asked)


@dataclass
class HttpServer:
    """Behaves as ``behaviours`` say, one for each request, then answers 200."""

    port: int
    behaviours: list[Behaviour] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(*behaviours: Behaviour) -> Iterator[HttpServer]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = self.rfile.readline().decode("latin-1")
            headers, raw = {}, head
            while (line := self.rfile.readline().decode("latin-1")).strip():
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
                raw += line
            body = self.rfile.read(int(headers.get("content-length", 0)))
            method, path = ([*head.split(), "", ""])[:2]
            state.requests.append(Request(method, path, headers, body))
            connection = Connection(self.connection, raw.encode("latin-1") + body, state.stopped)
            behave = state.behaviours.pop(0) if state.behaviours else answer(200)
            with suppress(OSError):
                behave(connection)

        def finish(self) -> None:
            with suppress(OSError):
                super().finish()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        state = HttpServer(port=server.server_address[1], behaviours=list(behaviours))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield state
        finally:
            state.stopped.set()
            server.shutdown()
