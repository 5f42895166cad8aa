"""The kind ``apprise``: whatever Apprise knows, for which there is no kind of our own (Telegram, Teams, Matrix, ntfy).

An optional extra: ``requirements-apprise.txt``. Apprise answers only whether it worked, and sleeps while it retries, so
it runs in a thread with a deadline.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from marshmallow import Schema, ValidationError, validate

from signalcraft.notify.contract import Message, Outcome, OutcomeKind, Receiver, Secret
from signalcraft.notify.messages import heading, line_of
from signalcraft.notify.options import OneOrMore, SecretField
from signalcraft.notify.receivers.deadline import Deadline
from signalcraft.notify.receivers.slack_webhook import without_markup
from signalcraft.sources import cleaning

_TITLE_LIMIT: Final = 250
_TYPES: Final[Mapping[str, str]] = {"critical": "failure", "high": "failure", "med": "warning"}


class _Options(Schema):
    urls = OneOrMore(SecretField(), required=True, validate=validate.Length(1, 20))


class AppriseReceiver(Receiver):
    """Hands messages to Apprise."""

    kind: ClassVar[str] = "apprise"
    options: ClassVar[type[Schema]] = _Options
    pace: float = 1.0

    def __init__(self, name: str, urls: Sequence[Secret]) -> None:
        """Create the receiver ``name``.

        Raises:
            ValidationError: Apprise is not installed, or does not know one of ``urls``.
        """
        self.name = name
        self._deadline = Deadline()
        try:
            apprise = importlib.import_module("apprise")
        except ImportError:
            raise ValidationError({"kind": ["needs Apprise: pip install -r requirements-apprise.txt"]}) from None
        self._apprise = apprise.Apprise(asset=apprise.AppriseAsset(http_redirects=False))
        for url in urls:
            if not self._apprise.add(url.value):
                raise ValidationError({"urls": ["has a URL that Apprise does not know"]})

    def send(self, message: Message) -> Outcome:
        """Send ``message`` to all URLs; if one fails, all are tried again."""
        return self._deadline.run(lambda: self._notify(message))

    def _notify(self, message: Message) -> Outcome:
        group = message.group or {}
        kind = "success" if message.is_over else _TYPES.get(group.get("severity", "critical"), "info")
        lines = [message.text, *(line_of(group) for group in (message.digest.worst if message.digest else ()))]
        links = [link for link in (message.url, message.link) if link]
        title = cleaning.line(f"{heading(message)}: {message.title}", _TITLE_LIMIT) or message.reason
        body = "\n".join([*map(without_markup, lines), *links]).strip() or title  # an empty one is refused
        is_sent = self._apprise.notify(title=without_markup(title), body=body, notify_type=kind, body_format="text")
        return Outcome(kind=OutcomeKind.SENT) if is_sent else Outcome(kind=OutcomeKind.RETRY, code="apprise_failed")
