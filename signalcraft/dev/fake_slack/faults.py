"""How the fake misbehaves: for some requests or some time, before or after it carried a request out."""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from threading import Lock


class FaultKind(StrEnum):
    """What a caller gets instead of an answer."""

    RATE_LIMITED = "rate_limited"
    STATUS = "status"
    ERROR = "error"
    HANG = "hang"
    RESET = "reset"


@dataclass(kw_only=True)
class Fault:
    """A fault of ``times`` requests, or of ``seconds``, or until it is cleared.

    ``method`` is a glob of methods. ``is_accepted``: the request is carried out, and only its answer is lost.
    ``status`` is that of ``STATUS``, ``error`` the code of ``ERROR`` in an answer with status 200, ``retry_after`` the
    header of ``RATE_LIMITED`` in seconds, ``HANG`` ends after ``hang_seconds`` without an answer.
    """

    kind: FaultKind
    method: str = "*"
    times: int | None = None
    seconds: float | None = None
    is_accepted: bool = False
    status: int = 503
    error: str = "internal_error"
    retry_after: int = 1
    hang_seconds: float = 60.0
    _since: float = field(default_factory=time.monotonic, init=False, repr=False)

    def __post_init__(self) -> None:
        """Take the kind as text too, as it comes from the control."""
        self.kind = FaultKind(self.kind)

    @property
    def is_over(self) -> bool:
        """Return whether the fault has ended."""
        return (self.times is not None and self.times <= 0) or (
            self.seconds is not None and time.monotonic() >= self._since + self.seconds
        )


class Faults:
    """The faults that are on; the first that matches a request is used."""

    def __init__(self) -> None:
        """Begin without faults."""
        self._lock = Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Switch ``fault`` on."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Switch all faults off."""
        with self._lock:
            self._faults.clear()

    def take(self, method: str) -> Fault | None:
        """Return the fault of this request, and count it."""
        with self._lock:
            self._faults = [fault for fault in self._faults if not fault.is_over]
            for fault in self._faults:
                if fnmatchcase(method, fault.method):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None


class RateLimit:
    """About ``per_second`` messages to a channel, and up to ``burst`` of them at once, as Slack allows."""

    def __init__(self, per_second: float = 1.0, burst: int = 4) -> None:
        """Begin with a full allowance for each channel."""
        self._per_second, self._burst = per_second, burst
        self._lock = Lock()
        self._left: defaultdict[str, tuple[float, float]] = defaultdict(lambda: (float(burst), time.monotonic()))

    def seconds_to_wait(self, channel: str) -> float:
        """Take one message from the channel's allowance; return the seconds until there is one, or 0."""
        with self._lock:
            left, at = self._left[channel]
            now = time.monotonic()
            left = min(self._burst, left + (now - at) * self._per_second)
            is_free = left >= 1
            self._left[channel] = (left - 1 if is_free else left, now)
            return 0.0 if is_free else (1 - left) / self._per_second
