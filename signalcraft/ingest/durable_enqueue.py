"""The steps of taking a delivery in: who vouches for it, and where a copy is before it is acknowledged."""

import threading
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog

from signalcraft import metrics
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import DatabaseUnavailable, QueueUnavailable, Unavailable
from signalcraft.ingest.context import IngestContext
from signalcraft.queues import enqueue, inbox
from signalcraft.queues.enqueue import EnqueueResult
from signalcraft.resilience import BoundedCall
from signalcraft.storage.database import session

log = structlog.get_logger(__name__)

#: Seconds after which a sender may hope for more than a 503.
RETRY_AFTER_SECONDS: Final = 5
#: From a delivery's arrival to its answer, and what the shelf has of it in any case: Sentry waits for one second.
_RESPONSE_SECONDS: Final = 0.8
_INBOX_MIN_SECONDS: Final = 0.2
#: How long one waits to ask a Redis that was away a moment ago, what all of that may take, and how many may at once.
_RETRY_WAIT_SECONDS: Final = 0.1
_RETRY_MIN_SECONDS: Final = 0.4
_redis_retries: Final = threading.BoundedSemaphore(2)
_bounded: Final = BoundedCall(DatabaseUnavailable)


def enqueue_durably(accepted: AcceptedDelivery, context: IngestContext) -> EnqueueResult:
    """Put ``accepted`` where a worker finds it: in Redis, else on PostgreSQL's shelf, or on the shelf in any case.

    Raises:
        Unavailable: neither took it. Nothing was acknowledged.
    """
    if context.settings.ingest_durability == "inbox":
        return _add_to_inbox(accepted)
    asked = False
    try:
        with context.breaker.guard():
            asked = True
            return enqueue.enqueue_once(context.redis, accepted, ttl_seconds=context.settings.delivery_key_ttl)
    except QueueUnavailable as error:
        if asked:  # so a line in two seconds, and not one for each delivery
            log.warning("enqueue failed, Redis unavailable", stage="queue", delivery_id=accepted.delivery_id, reason=str(error))
        if context.settings.ingest_durability == "redis":
            if not asked:
                return _retry_redis(accepted, context)
            raise Unavailable(retry_after=RETRY_AFTER_SECONDS) from error
    try:
        taken_in = _add_to_inbox(accepted)
    except Unavailable:
        if asked or _seconds_left(accepted) < _RETRY_MIN_SECONDS:
            raise
        return _retry_redis(accepted, context)
    metrics.count("signalcraft_shelved_total")
    return taken_in


def _retry_redis(accepted: AcceptedDelivery, context: IngestContext) -> EnqueueResult:
    """Ask a Redis that the breaker would leave alone: it may be back by now, and nobody else can take the delivery.

    Few at a time, since each may take as long as Redis is given.
    """
    if not _redis_retries.acquire(timeout=_RETRY_WAIT_SECONDS):
        raise Unavailable(retry_after=RETRY_AFTER_SECONDS)
    try:
        return enqueue.enqueue_once(context.redis, accepted, ttl_seconds=context.settings.delivery_key_ttl)
    except QueueUnavailable as error:
        raise Unavailable(retry_after=RETRY_AFTER_SECONDS) from error
    finally:
        _redis_retries.release()


def _add_to_inbox(accepted: AcceptedDelivery) -> EnqueueResult:
    """Within what is left of the time that a sender has, as PostgreSQL may hang. A row that comes late does no harm."""
    try:
        first = _bounded.run(partial(_insert, accepted), seconds=max(_INBOX_MIN_SECONDS, _seconds_left(accepted)))
    except DatabaseUnavailable as error:
        raise Unavailable(retry_after=RETRY_AFTER_SECONDS) from error
    return EnqueueResult(is_duplicate=first != accepted.delivery_id, delivery_id=first)


def _seconds_left(accepted: AcceptedDelivery) -> float:
    """Never more than there were: the clock may have been set back since."""
    waited = (datetime.now(UTC) - accepted.delivery.received_at).total_seconds()
    return _RESPONSE_SECONDS - max(0.0, waited)


def _insert(accepted: AcceptedDelivery) -> str:
    with session():
        return inbox.add(accepted)
