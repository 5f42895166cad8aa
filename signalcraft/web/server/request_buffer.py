"""Buffer a request until all of it has arrived."""

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Final

from gunicorn import util

#: A head over this is refused.
MAX_HEAD_BYTES: Final = 65_536
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*(?=\r\n)", re.IGNORECASE)
#: Empty lines may come first.
_DELIVERY = re.compile(rb"[\r\n]{0,8}POST (/webhooks/[^ \r\n]*)")
_LIVENESS_PROBE = re.compile(rb"[\r\n]{0,8}GET /healthz[ ?]")
_WORKSPACE = re.compile(rb"\r\nx-signalcraft-workspace:([^\r\n]*)", re.IGNORECASE)
_CREDENTIALS = re.compile(rb"\r\nauthorization:([^\r\n]*)", re.IGNORECASE)
_FORWARDED_FOR = re.compile(rb"\r\nx-forwarded-for:([^\r\n]*)", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE)


@dataclass(slots=True, eq=False)
class RequestBuffer:
    """A request that is arriving: the bytes so far, and how many there will be once its head is complete."""

    connection: Any
    began_at: float
    max_body_bytes: int
    received: bytearray = field(default_factory=bytearray)
    expected: int | None = None

    def add(self, piece: bytes) -> bool:
        """Add bytes; return whether no more are needed.

        None are if the request is complete, or can only be refused.
        """
        searched = max(0, len(self.received) - 3)
        self.received += piece
        if self.expected is None:
            if not self.received.strip(b"\r\n"):  # an empty line may come first
                return len(self.received) > MAX_HEAD_BYTES
            end = self.received.find(b"\r\n\r\n", searched)
            if end < 0:
                return len(self.received) > MAX_HEAD_BYTES
            self.expected = end + 4 + self._body_bytes(end)
        return len(self.received) >= self.expected

    def is_delivery(self) -> bool:
        """Return whether this is a delivery, so that it is served before anything else."""
        return _DELIVERY.match(self.received) is not None

    def is_liveness_probe(self) -> bool:
        """Return whether a platform asks if we live, to kill us unless we answer soon."""
        return _LIVENESS_PROBE.match(self.received) is not None

    def sender(self, default_workspace: str) -> Hashable:
        """Return the workspace of a delivery, else the token, as the head names it.

        Nothing of it is verified: it is for sharing alone. All spellings of one workspace are one sender.
        """
        delivery = _DELIVERY.match(self.received)
        if not delivery:
            words = self._header(_CREDENTIALS).split()
            return hash(words[-1]) if words else ""
        path = util.unquote_to_wsgi_str(util.split_request_uri(delivery[1].decode("latin-1")).path)
        named = path.split("/")[3:4] or [""]
        return named[0] or self._header(_WORKSPACE).decode("latin-1").strip() or default_workspace

    def forwarded_for(self) -> list[str]:
        """Return the addresses that proxies have added, the nearest proxy's last."""
        values = _FORWARDED_FOR.findall(self.received, 0, self._head_end())
        return [address.strip().decode("latin-1") for address in b",".join(values).split(b",") if values]

    def _header(self, pattern: re.Pattern[bytes]) -> bytes:
        found = pattern.search(self.received, 0, self._head_end())
        return found[1] if found else b""

    def expects_continue(self) -> bool:
        """Return whether the client waits for ``100 Continue``.

        It sends the body only after that.
        """
        return self.expected is not None and _EXPECT.search(self.received, 0, self._head_end()) is not None

    def _body_bytes(self, head_end: int) -> int:
        """Return the number of body bytes to wait for.

        It is 0 for a body that is refused for its length, or for having none.
        """
        length = _LENGTH.search(self.received, 0, head_end + 2)
        declared = int(length[1]) if length else 0
        return declared if declared <= self.max_body_bytes else 0

    def _head_end(self) -> int:
        return self.received.find(b"\r\n\r\n") + 2
