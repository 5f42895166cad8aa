"""The kind ``log``: a line in the notifier's log. The default while ``NOTIFY`` is empty."""

from typing import ClassVar

import structlog

from signalcraft.notify.contract import Message, Outcome, OutcomeKind, Receiver

log = structlog.get_logger(__name__)


class LogReceiver(Receiver):
    """Writes one log line for each message."""

    kind: ClassVar[str] = "log"

    def send(self, message: Message) -> Outcome:
        """Log ``message``."""
        group = message.group or {}
        log.info(
            "notification",
            stage="notify",
            receiver=self.name,
            reason=message.reason,
            title=message.title,
            group_id=group.get("id"),
            severity=group.get("severity"),
            status=group.get("status"),
            count=group.get("count"),
        )
        return Outcome(kind=OutcomeKind.SENT)
