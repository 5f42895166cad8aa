"""Bound the bytes of large requests that a process holds: of all of them, and of each sender.

A large body costs up to a tenth of a second of processor, so one is served at a time and the others wait. Whom a
request is from is what its head says, before anything is verified: a workspace, which anybody may name, or a token. So
a sender's bytes are bounded once more for each address: junk from one address does not fill the share of a workspace.
"""

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Final

#: A request over this is large. Of deliveries hardly one is.
LARGE_BYTES: Final = 256 * 1024
MAX_LARGE_BYTES: Final = 40 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """The sender of a large request, as its head says: of a delivery the workspace, else the token."""

    is_delivery: bool
    name: Hashable
    network: str

    def bounds(self) -> Iterator[tuple[Hashable, int]]:
        """Yield what the request is a part of, each with the bytes of it that may be held.

        Requests that are no deliveries have half of all at most, and so keep no delivery out.
        """
        most = MAX_LARGE_BYTES if self.is_delivery else MAX_LARGE_BYTES // 2
        yield (), MAX_LARGE_BYTES
        yield self.is_delivery, most
        yield (self.is_delivery, self.name), most // 2
        yield (self.is_delivery, self.name, self.network), most // 4


class HeldBytes:
    """The bytes of large requests that are held."""

    def __init__(self) -> None:
        """Begin with none."""
        self._held: Counter[Hashable] = Counter()

    def has_room(self, size: int, sender: Sender) -> bool:
        """Return whether ``size`` bytes more are within each bound. A request that is alone always is."""
        return all(not self._held[part] or self._held[part] + size <= most for part, most in sender.bounds())

    def add(self, size: int, sender: Sender) -> None:
        """Hold ``size`` bytes more, or fewer if it is negative."""
        for part, _ in sender.bounds():
            self._held[part] += size
            if not self._held[part]:
                del self._held[part]
