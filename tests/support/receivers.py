"""A receiver that records what it is told, and answers as a test says."""

from collections.abc import Sequence
from typing import ClassVar

from signalcraft.notify.contract import Message, Mode, Outcome, OutcomeKind, Receiver

SENT = Outcome(kind=OutcomeKind.SENT)


class RecordingReceiver(Receiver):
    """Answers with ``outcomes`` in turn, then always with ``SENT``. An outcome may be an exception to raise."""

    kind: ClassVar[str] = "recording"

    def __init__(self, name: str = "ops", outcomes: Sequence[Outcome | BaseException] = ()) -> None:
        self.name = name
        self.outcomes = list(outcomes)
        self.messages: list[Message] = []
        self.attempts: list[Message] = []

    def send(self, message: Message) -> Outcome:
        self.attempts.append(message)
        outcome = self.outcomes.pop(0) if self.outcomes else SENT
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome.kind in (OutcomeKind.SENT, OutcomeKind.UNKNOWN):
            self.messages.append(message)
        return outcome

    @property
    def told(self) -> list[tuple[str, int | None]]:
        """The reason and the group of each message that arrived."""
        return [(message.reason, message.group and message.group["id"]) for message in self.messages]


class RecordingCardReceiver(RecordingReceiver):
    """One message for each group, edited."""

    mode: ClassVar[Mode] = Mode.CARD

    def send(self, message: Message) -> Outcome:
        outcome = super().send(message)
        if outcome.kind is not OutcomeKind.SENT:
            return outcome
        return Outcome(kind=OutcomeKind.SENT, external_id=message.external_id or f"card-{len(self.messages)}")

    @property
    def cards(self) -> dict[str, str]:
        """The status that each card shows, by its id."""
        shown: dict[str, str] = {}
        for position, message in enumerate(self.messages, 1):
            assert message.group is not None
            shown[message.external_id or f"card-{position}"] = message.group["status"]
        return shown
