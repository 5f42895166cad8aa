"""Deliveries: what a sender posted, before its meaning is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """One live secret of a workspace. Its value stays out of ``repr``.

    ``name`` is safe to log and to use as a metric label; ``kind`` is one of its source's ``KINDS``.
    """

    name: str
    kind: str
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One HTTP request as received, its body's bytes unchanged.

    ``headers`` has lower-case names and only the headers that a source reads. ``received_at`` is aware UTC,
    set by the web process: grouping uses it, so that a backlog groups as it would have live.
    ``url_token`` is the ``?token=`` of a sender that cannot sign.
    """

    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    received_at: datetime
    url_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Resource, action and delivery key of a delivery, read from its signed body.

    A redelivery has the same ``delivery_key``. ``ignored`` is empty for an alert or a status change; else it is the
    reason why the delivery is ignored. ``is_kept``: it is ignored, but someone may want to look at it, so it is stored
    raw. ``is_canary``: it is one of our own. ``response_headers`` are for a sender that shows them to people.
    """

    resource: str
    action: str
    delivery_key: str
    ignored: str = ""
    is_kept: bool = False
    is_canary: bool = False
    response_headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedDelivery:
    """A verified and identified delivery: the content of a job and of an inbox row.

    ``delivery_id`` is our own (``ingest.request.new_delivery_id``); every log line about the delivery has it.
    """

    delivery_id: str
    delivery_key: str
    workspace_id: int
    workspace: str
    source: str
    resource: str
    delivery: Delivery

    def as_job_argument(self) -> dict[str, Any]:
        """Return plain JSON values.

        The body is latin-1 text, which keeps any byte and compresses well.
        """
        return {
            "delivery_id": self.delivery_id,
            "delivery_key": self.delivery_key,
            "workspace_id": self.workspace_id,
            "workspace": self.workspace,
            "source": self.source,
            "resource": self.resource,
            "received_at": self.delivery.received_at.isoformat(),
            "headers": dict(self.delivery.headers),
            "body": self.delivery.body.decode("latin-1"),
        }

    @classmethod
    def from_job_argument(cls, argument: Mapping[str, Any]) -> Self:
        """Decode the result of :meth:`as_job_argument`.

        A delivery that decodes can also be stored as a dead letter, whatever its body.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: ``argument`` is not such a result.
        """
        workspace_id = argument["workspace_id"]
        if type(workspace_id) is not int or not 0 < workspace_id <= MAX_ID:
            raise ValueError("no workspace has this id")
        return cls(
            delivery_id=_text(argument["delivery_id"]),
            delivery_key=_text(argument["delivery_key"]),
            workspace_id=workspace_id,
            workspace=_text(argument["workspace"]),
            source=_text(argument["source"]),
            resource=_text(argument["resource"]),
            delivery=Delivery(
                headers={_text(name): _text(value) for name, value in argument["headers"].items()},
                body=argument["body"].encode("latin-1"),
                received_at=_timestamp(argument["received_at"]),
            ),
        )


#: PostgreSQL's largest bigint.
MAX_ID: Final = 2**63 - 1


def _text(text: str) -> str:
    # PostgreSQL stores no NUL; find raises AttributeError for a value that is not text.
    if text.find("\0") >= 0:
        raise ValueError("holds a character that cannot be stored")
    return text


def _timestamp(text: str) -> datetime:
    """Parse a time that has a zone.

    Times that some database or time zone cannot represent are refused.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or not 1970 <= moment.year < 9999:
        raise ValueError("is no moment at which something is received")
    return moment


class DeliveryStatus(StrEnum):
    """Result of receiving a delivery, as the HTTP response reports it."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveResult:
    """The content of the HTTP response to a delivery.

    ``delivery_id`` of a redelivery is that of the first; ``reason`` is why a delivery is ignored.
    """

    status: DeliveryStatus
    delivery_id: str
    identity: Identity
    reason: str = ""


#: Reserved: alerts of a project of this name are never listed.
CANARY_PROJECT: Final = "signalcraft-canary"
