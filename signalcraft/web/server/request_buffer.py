"""Buffer a request until all of it has arrived."""

import re
from dataclasses import dataclass, field
from typing import Any, Final

#: A head over this is refused.
LARGEST_HEAD: Final = 65_536
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*(?=\r\n)", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE)


@dataclass(slots=True, eq=False)
class Arrival:
    """A request that is on its way: what has come of it, and how much there will be, once its head is there."""

    connection: Any
    began_at: float
    most_body_bytes: int
    received: bytearray = field(default_factory=bytearray)
    expected: int | None = None

    def add(self, piece: bytes) -> bool:
        """Take in what has just come; whether a thread can make something of the request now."""
        searched = max(0, len(self.received) - 3)
        self.received += piece
        if self.expected is None:
            if not self.received.strip(b"\r\n"):  # an empty line may come first
                return len(self.received) > LARGEST_HEAD
            end = self.received.find(b"\r\n\r\n", searched)
            if end < 0:
                return len(self.received) > LARGEST_HEAD
            self.expected = end + 4 + self._body_bytes(end)
        return len(self.received) >= self.expected

    def waits_for_our_word(self) -> bool:
        """Whether the head is here, and the sender keeps the body back until it hears from us."""
        return self.expected is not None and _EXPECT.search(self.received, 0, self._head_end()) is not None

    def _body_bytes(self, head_end: int) -> int:
        """Those worth waiting for: none of a body that is refused for its length, or for having none."""
        length = _LENGTH.search(self.received, 0, head_end + 2)
        claimed = int(length[1]) if length else 0
        return claimed if claimed <= self.most_body_bytes else 0

    def _head_end(self) -> int:
        return self.received.find(b"\r\n\r\n") + 2
