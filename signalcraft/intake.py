"""The steps of taking a delivery in: who vouches for it, and where a copy is before it is acknowledged."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from redis import Redis

from signalcraft import inbox, jobs, metrics, models
from signalcraft.alerts import AcceptedDelivery, Delivery, Identity
from signalcraft.breaker import Breaker
from signalcraft.directory import Access, Directory
from signalcraft.errors import BadSignature, DatabaseUnavailable, QueueUnavailable, Unavailable
from signalcraft.jobs import TakenIn
from signalcraft.sources import Source

#: Seconds after which a sender may hope for more than a 503.
RETRY_AFTER_SECONDS: Final = 5


class Answer(StrEnum):
    """What became of a delivery at the door."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What we tell the sender. ``delivery_id`` of a duplicate is the first one's; ``reason`` is for what is ignored."""

    answer: Answer
    delivery_id: str
    identity: Identity
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """All that ``receive`` needs beside the delivery.

    ``limit`` counts a verified delivery of a workspace and raises ``TooManyRequests`` where there are too many.
    """

    source: str
    directory: Directory
    limit: Callable[[str], None]
    redis: Redis
    breaker: Breaker
    durability: str
    delivery_key_ttl: int


def verify(delivery: Delivery, source: Source, workspace: str, directory: Directory) -> Access:
    """The access of the workspace whose secret explains ``delivery``.

    Raises:
        BadSignature: no secret does, also none that was added a moment ago.
        DatabaseUnavailable: nobody knows the secrets yet.
    """
    access = directory.access(workspace)
    try:
        secret = source.verify(delivery, access.secrets)
    except BadSignature:
        if not directory.refresh():
            raise
        access = directory.access(workspace)
        secret = source.verify(delivery, access.secrets)
    directory.note_use(access, secret)
    metrics.count("signalcraft_secret_matches_total", workspace=access.workspace, secret=secret.name)
    return access


def keep(accepted: AcceptedDelivery, intake: Intake) -> TakenIn:
    """Put ``accepted`` where a worker finds it: in Redis, else on PostgreSQL's shelf, or on the shelf in any case.

    Raises:
        Unavailable: neither took it. Nothing was acknowledged.
    """
    if intake.durability == "inbox":
        return _shelve(accepted)
    try:
        with intake.breaker.guard():
            return jobs.take_in(intake.redis, accepted, ttl_seconds=intake.delivery_key_ttl)
    except QueueUnavailable as error:
        if intake.durability == "redis":
            raise Unavailable(retry_after=RETRY_AFTER_SECONDS) from error
        return _shelve(accepted)


def _shelve(accepted: AcceptedDelivery) -> TakenIn:
    try:
        with models.session():
            first = inbox.keep(accepted)
    except DatabaseUnavailable as error:
        raise Unavailable(retry_after=RETRY_AFTER_SECONDS) from error
    return TakenIn(fresh=first == accepted.delivery_id, delivery_id=first)
