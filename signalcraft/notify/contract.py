"""The contract between the notifier and a kind of receiver: the message, and the outcome of sending it.

A kind is one module or folder in ``notify/receivers``, and one line in its table. It formats and sends one message, and
says what came of it. It keeps no state, starts no thread and opens no transaction; the notifier decides when to send,
whether to try again, and what is recorded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from marshmallow import Schema

#: An answer of a receiver is kept up to this many printable characters, for people who look for the reason.
DETAIL_LIMIT = 200


class Mode(StrEnum):
    """How a kind tells of a group: one message that is edited, or one for each event.

    ``REPLY`` is a message in the thread of a card.
    """

    CARD = "card"
    EVENT = "event"
    REPLY = "reply"


class OutcomeKind(StrEnum):
    """What came of one attempt. The values are labels of ``signalcraft_notifications_total``.

    ``UNKNOWN``: the message may have arrived (a timeout, a connection reset after it was sent). ``RATE_LIMITED`` is no
    failed attempt. ``BROKEN``: the receiver's own configuration is wrong, so all its messages wait. ``REFUSED``: this
    message is not accepted, and would not be at the next attempt either.
    """

    SENT = "sent"
    RETRY = "retry"
    UNKNOWN = "unknown"
    RATE_LIMITED = "rate_limited"
    BROKEN = "broken"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one attempt.

    ``code`` is one of ours (``http_503``, ``timeout``, ``dns``, ``auth``), never an exception's text. ``detail`` is the
    beginning of the answer, without secrets. ``retry_after`` is in seconds. ``external_id`` and ``external_channel``
    are the receiver's names of the message, needed to edit it; ``external_account`` is where the channel is. Of a
    message with several addresses that some took, ``undelivered`` are those to try again, and ``refused`` those that
    will not take it.
    """

    kind: OutcomeKind
    code: str = ""
    http_status: int | None = None
    detail: str = ""
    retry_after: float | None = None
    external_id: str | None = None
    external_channel: str | None = None
    external_account: str | None = None
    undelivered: Sequence[str] = ()
    refused: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """The content of a digest: how many groups are open and resolved, and the worst of them, worst first.

    ``status`` is that of all of them together: ``resolved`` if all are, ``ack`` if none is open, else ``open``.
    ``urls`` are our pages of the worst.
    """

    opened: int
    resolved: int
    status: str
    worst: Sequence[Mapping[str, Any]]
    ids: Sequence[int]
    since: datetime
    urls: Sequence[str | None] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a card says besides its title: a sentence about the status, and where and how often, in short parts."""

    status: str
    context: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A message in the thread of a card. ``is_broadcast``: it is shown in the channel as well."""

    is_broadcast: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One notification, rendered from the group as it is now.

    ``notification_id`` is the same in every attempt, and ``attempted_at`` is new in each. ``reason`` is the kind of
    happening (``opened``, ``resolved``), ``reminder``, ``digest``, ``test``, or a reason of a rule. ``group`` has the
    fields of the API, or is ``None`` for a digest and for trouble of our own. ``title`` and ``facts`` are plain text: a
    kind escapes them for its format. ``url`` is our page of the group, ``link`` the source's; both may be ``None``.
    ``thread_id`` is the same for all messages about one group. ``external_id`` names the message to edit, if it was
    sent before; of a reply, the card's. ``card`` is for kinds with cards. ``may_have_arrived``: an earlier attempt was
    made, and its outcome may be unknown; ``key`` names the message in the receiver, of this deployment alone.
    ``only_to`` are the addresses that did not take an earlier attempt, empty for all.
    """

    notification_id: str
    attempted_at: datetime
    reason: str
    title: str
    facts: Sequence[tuple[str, str]] = ()
    text: str = ""
    group: Mapping[str, Any] | None = None
    digest: Digest | None = None
    url: str | None = None
    link: str | None = None
    thread_id: str = ""
    is_test: bool = False
    external_id: str | None = None
    external_channel: str | None = None
    card: Card | None = None
    reply: Reply | None = None
    may_have_arrived: bool = False
    key: str = ""
    only_to: Sequence[str] = ()

    @property
    def is_over(self) -> bool:
        """Return whether the group, or each group of the digest, is resolved."""
        if self.digest is not None:
            return self.digest.status == "resolved"
        return self.group is not None and self.group["status"] == "resolved"


class Receiver(Protocol):
    """A configured receiver. ``send`` and ``check`` run in a thread of the notifier, one at a time.

    A kind derives from it, and says where it differs: it sends one message an event, has no options, and needs none.

    ``pace`` is the least time between two messages, in seconds; ``per_hour`` the most messages of an hour.
    ``has_threads``: a card has a thread, in which people are told what they should notice again. ``needs`` names the
    settings without which a part of it does not work, with which part that is.
    """

    kind: ClassVar[str]
    mode: ClassVar[Mode] = Mode.EVENT
    options: ClassVar[type[Schema]] = Schema
    has_threads: ClassVar[bool] = False
    needs: ClassVar[Mapping[str, str]] = {}
    name: str
    pace: float = 0.0
    per_hour: int | None = None

    def __init__(self, name: str, **_options: Any) -> None:  # noqa: ANN401 - what the schema loads
        """Create the receiver ``name``; a kind with options takes what the schema ``options`` loaded."""
        self.name = name

    def send(self, message: Message) -> Outcome:
        """Send ``message`` once; never raise for what the receiver does.

        It returns within 15 seconds. Redirects are not followed, and answers are read up to 64 kB.
        """

    def check(self) -> Sequence[str]:
        """Return what is wrong with the configuration, without sending a message.

        Each is one sentence with what to do; nothing is wrong with an empty list. By default nothing can be told
        without a message.
        """
        return ()


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret of a receiver, kept out of ``repr``."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        """Return a placeholder, so that no message shows the secret by mistake."""
        return "(secret)"
