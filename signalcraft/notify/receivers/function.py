"""The kind of the setting ``NOTIFIER``: a function of one's own, ``queue_notification(reason, group)``."""

from datetime import datetime
from typing import ClassVar

from signalcraft.domain.alerts import GroupSnapshot, GroupStatus, Severity
from signalcraft.domain.notifications import QueueNotification
from signalcraft.notify.contract import Message, Outcome, OutcomeKind, Receiver
from signalcraft.notify.receivers.deadline import Deadline


class FunctionReceiver(Receiver):
    """Calls a function in a thread of the notifier. What it raises is logged, and the call is made again."""

    kind: ClassVar[str] = "function"

    def __init__(self, name: str, queue_notification: QueueNotification) -> None:
        """Create the receiver ``name``."""
        self.name = name
        self._queue_notification = queue_notification
        self._deadline = Deadline()

    def send(self, message: Message) -> Outcome:
        """Call the function."""
        snapshot = _snapshot(message)
        return self._deadline.run(lambda: self._call(message.reason, snapshot))

    def _call(self, reason: str, snapshot: GroupSnapshot) -> Outcome:
        self._queue_notification(reason, snapshot)
        return Outcome(kind=OutcomeKind.SENT)


def _snapshot(message: Message) -> GroupSnapshot:
    """Return the group of ``message``; id 0 for what is about no group."""
    group = message.group or {}
    return GroupSnapshot(
        id=group.get("id", 0),
        workspace_id=0,
        source=group.get("source", "signalcraft"),
        project=group.get("project", "signalcraft"),
        environment=group.get("environment", "prod"),
        fingerprint=group.get("fingerprint", message.reason),
        title=message.title,
        severity=Severity(group.get("severity", "critical")),
        status=GroupStatus(group.get("status", "open")),
        count=group.get("count", 1),
        first_seen_at=_time(group.get("first_seen_at"), message.attempted_at),
        last_seen_at=_time(group.get("last_seen_at"), message.attempted_at),
        link=message.link,
        previous_group_id=group.get("previous_group_id"),
        escalated=message.reason == "escalated",
    )


def _time(text: str | None, otherwise: datetime) -> datetime:
    return datetime.fromisoformat(text) if text else otherwise
