"""Deliveries: what a sender posted, before its meaning is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """One live secret of a workspace. Its value stays out of ``repr``.

    ``name`` is safe to log and to count by; ``kind`` is ``integration`` (an HMAC key, Sentry's
    client secret), ``servicehook`` (the HMAC key of one service hook) or ``legacy`` (the token
    in the URL of the unsigned WebHooks plugin).
    """

    name: str
    kind: str
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One HTTP request as it came, its body's bytes untouched.

    ``headers`` has lower-case names and only what a source reads. ``received_at`` is aware UTC,
    stamped in the web process: grouping uses it, so that a backlog groups as it would have live.
    ``url_token`` is the ``?token=`` of a sender that cannot sign.
    """

    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    received_at: datetime
    url_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a delivery is, read from its signed body.

    ``delivery_key`` is what a redelivery of it shares. ``ignored`` is empty for an alert or a
    status change; else it says why nothing will come of the delivery, and ``is_unknown`` whether that is because we
    do not know what it is: then it is kept raw. ``project`` is the source's own id or slug of the project, where the
    body has one.
    """

    resource: str
    action: str
    delivery_key: str
    ignored: str = ""
    is_unknown: bool = False
    project: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedDelivery:
    """A delivery that was verified and named: what a job carries and an inbox row holds.

    ``delivery_id`` (32 hex digits) is ours and follows it through every log line.
    """

    delivery_id: str
    delivery_key: str
    workspace_id: int
    workspace: str
    source: str
    resource: str
    delivery: Delivery

    def as_job_argument(self) -> dict[str, Any]:
        """Plain JSON values; the body as latin-1 text, which keeps any byte and compresses well."""
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
        """The inverse of :meth:`as_job_argument`.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is not such an argument. What is one can also be stored
                where deliveries are set aside, be its body what it may.
        """
        workspace_id = argument["workspace_id"]
        if type(workspace_id) is not int or not 0 < workspace_id <= _MAX_ID:
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


_MAX_ID = 2**63 - 1


def _text(text: str) -> str:
    """``text``, if it is one that PostgreSQL takes: without NUL, which ``find`` also refuses of what is no text."""
    if text.find("\0") >= 0:
        raise ValueError("holds a character that cannot be stored")
    return text


def _timestamp(text: str) -> datetime:
    """A moment that every database and time zone has, and that says which zone it is in."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or not 1970 <= moment.year < 9999:
        raise ValueError("is no moment at which something is received")
    return moment


class DeliveryStatus(StrEnum):
    """What became of a delivery at the door."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveResult:
    """What we tell the sender. ``delivery_id`` of a duplicate is the first one's; ``reason`` is for what is ignored."""

    status: DeliveryStatus
    delivery_id: str
    identity: Identity
    reason: str = ""


#: Reserved: a Sentry project of this name would never be listed. Sentry numbers its projects from 1.
CANARY_PROJECT: Final = "signalcraft-canary"
CANARY_PROJECT_ID: Final = 0
