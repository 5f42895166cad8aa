"""The sockets of clients: none blocks a thread for long, and a response leaves in as few packets as it can."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from signalcraft.web.server import bounded_socket
from signalcraft.web.server.bounded_socket import BoundedSocket

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.fixture(params=[socket.SOCK_STREAM, socket.SOCK_SEQPACKET], ids=["stream", "packets"])
def kind(request: pytest.FixtureRequest) -> socket.SocketKind:
    kind: socket.SocketKind = request.param
    return kind


@pytest.fixture
def pair(kind: socket.SocketKind) -> Iterator[tuple[BoundedSocket, socket.socket]]:
    """Ours and the client's. Of packets, each read gets what one send has sent."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with theirs, BoundedSocket(ours.family, ours.type, ours.proto, ours.detach()) as bounded:
        bounded.setblocking(True)  # noqa: FBT003 - as gunicorn calls it
        theirs.settimeout(5)
        yield bounded, theirs


Pair = tuple[BoundedSocket, socket.socket]
packets = pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET], ids=["packets"])
stream = pytest.mark.parametrize("kind", [socket.SOCK_STREAM], ids=["stream"])


@packets
def test_the_head_of_a_response_leaves_with_the_first_piece_of_its_body(pair: Pair) -> None:
    ours, theirs = pair
    with ours.one_packet():
        for piece in (HEAD, b"first", b"second"):
            ours.sendall(piece)
        assert [theirs.recv(100), theirs.recv(100)] == [HEAD + b"first", b"second"], "while the response goes on"
    ours.sendall(b"next")
    assert theirs.recv(100) == b"next"


@packets
def test_a_head_without_a_body_leaves_too_also_if_the_response_fails(pair: Pair) -> None:
    ours, theirs = pair
    for failure in (None, RuntimeError):
        try:
            with ours.one_packet():
                ours.sendall(HEAD)
                if failure:
                    raise failure
        except RuntimeError:
            assert failure
        assert theirs.recv(100) == HEAD


@stream
def test_a_file_is_sent_behind_the_head(pair: Pair, tmp_path: Path) -> None:
    ours, theirs = pair
    (tmp_path / "file").write_bytes(b"content")
    with ours.one_packet(), (tmp_path / "file").open("rb") as file:
        ours.sendall(HEAD)
        assert ours.sendfile(file) == len(b"content")
    assert theirs.recv(100) == HEAD + b"content"


@stream
def test_a_slow_reader_gets_all_of_a_large_response(pair: Pair) -> None:
    ours, theirs = pair
    large, received = bytes(range(256)) * 20_000, bytearray()

    def read() -> None:
        while len(received) < len(large):
            time.sleep(0.001)
            received.extend(theirs.recv(200_000))

    reader = threading.Thread(target=read)
    reader.start()
    ours.sendall(large)
    reader.join(10)
    assert received == large


@stream
def test_a_client_that_does_not_read_is_given_up(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = pair
    monkeypatch.setattr(bounded_socket, "SEND_TIMEOUT_SECONDS", 0.05)
    with pytest.raises(BrokenPipeError):
        ours.sendall(b"x" * 5_000_000)


def test_a_read_ends_with_its_deadline_and_one_without_a_timeout_at_once(pair: Pair) -> None:
    ours, theirs = pair
    ours.read_until = time.monotonic() + 0.05
    with pytest.raises(TimeoutError):
        ours.recv(100)
    ours.settimeout(0)
    with pytest.raises(BlockingIOError):
        ours.recv(100)
    theirs.send(b"late")
    assert ours.recv(100) == b"late"


def test_what_gunicorn_calls_blocking_has_a_timeout_and_the_socket_never_blocks(pair: Pair) -> None:
    ours, _ = pair
    assert ours.gettimeout() == bounded_socket.SEND_TIMEOUT_SECONDS
    assert not os.get_blocking(ours.fileno())
