"""The kind ``apprise``: whatever Apprise knows, for which there is no kind of our own (Telegram, Teams, Matrix, ntfy).

An optional extra: ``requirements-apprise.txt``. Apprise answers only whether it worked, and sleeps while it retries, so
it runs in a thread with a deadline.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from marshmallow import Schema, ValidationError, fields, validate

from signalcraft.domain.errors import RecoverableError
from signalcraft.notify.contract import Message, Mode, Outcome, OutcomeKind, Secret
from signalcraft.notify.messages import HEADINGS
from signalcraft.notify.options import SecretField
from signalcraft.resilience import BoundedCall

_TOTAL_SECONDS: Final = 13.0
_TYPES: Final[Mapping[str, str]] = {"critical": "failure", "high": "failure", "med": "warning"}


class _Overdue(RecoverableError):  # noqa: N818 - reads as the errors of errors.py do
    """Apprise takes too long."""


class _Options(Schema):
    urls = fields.List(SecretField(), required=True, validate=validate.Length(1, 20))


class AppriseReceiver:
    """Hands messages to Apprise."""

    kind: ClassVar[str] = "apprise"
    mode: ClassVar[Mode] = Mode.EVENT
    options: ClassVar[type[Schema]] = _Options
    pace: float = 1.0
    per_hour: int | None = None

    def __init__(self, name: str, urls: Sequence[Secret]) -> None:
        """Create the receiver ``name``.

        Raises:
            ValidationError: Apprise is not installed, or does not know one of ``urls``.
        """
        self.name = name
        self._bounded = BoundedCall(_Overdue)
        try:
            self._apprise = importlib.import_module("apprise").Apprise()
        except ImportError:
            raise ValidationError("needs Apprise: pip install -r requirements-apprise.txt", "kind") from None
        for url in urls:
            if not self._apprise.add(url.value):
                raise ValidationError("has a URL that Apprise does not know", "urls")

    @classmethod
    def from_options(cls, name: str, options: Mapping[str, Any]) -> Self:
        """Create the receiver ``name`` from its options."""
        return cls(name, options["urls"])

    def send(self, message: Message) -> Outcome:
        """Send ``message`` to all URLs; if one fails, all are tried again."""
        try:
            is_sent = self._bounded.run(lambda: self._notify(message), timeout=_TOTAL_SECONDS)
        except _Overdue:
            return Outcome(kind=OutcomeKind.UNKNOWN, code="timeout")
        return Outcome(kind=OutcomeKind.SENT) if is_sent else Outcome(kind=OutcomeKind.RETRY, code="apprise_failed")

    def check(self) -> Sequence[str]:
        """Return nothing: Apprise can only send."""
        return ()

    def _notify(self, message: Message) -> bool:
        group = message.group or {}
        heading = HEADINGS.get(message.reason, message.reason)
        kind = "success" if message.is_over else _TYPES.get(group.get("severity", "critical"), "info")
        lines = [message.text, *(link for link in (message.url, message.link) if link)]
        return bool(
            self._apprise.notify(
                title=f"{heading}: {message.title}", body="\n".join(lines), notify_type=kind, body_format="text"
            )
        )
