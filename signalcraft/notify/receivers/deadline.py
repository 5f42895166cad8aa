"""A deadline for an attempt as a whole; a socket's timeout restarts with each byte. Shared by the kinds."""

from collections.abc import Callable
from typing import Final

from signalcraft.domain.errors import RecoverableError
from signalcraft.notify.contract import Outcome, OutcomeKind
from signalcraft.resilience import BoundedCall

_SECONDS: Final = 13.0


class _Overdue(RecoverableError):  # noqa: N818 - reads as the errors of errors.py do
    """The receiver takes too long."""


class Deadline:
    """Runs attempts in a thread each. One that is overdue is not cancelled: it may still succeed."""

    def __init__(self, seconds: float = _SECONDS) -> None:
        """``seconds`` is how long an attempt may take."""
        self._seconds = seconds
        self._bounded = BoundedCall(_Overdue)

    def run(self, attempt: Callable[[], Outcome]) -> Outcome:
        """Return the outcome of ``attempt``, or that it is unknown; raise what ``attempt`` raises."""
        try:
            return self._bounded.run(attempt, timeout=self._seconds)
        except _Overdue:
            return Outcome(kind=OutcomeKind.UNKNOWN, code="timeout")
