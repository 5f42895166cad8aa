"""Store a durable copy of a delivery before it is acknowledged: in Redis, or in PostgreSQL's inbox."""

import threading
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog

from signalcraft import greenlets, metrics
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import DatabaseUnavailable, QueueUnavailable, Unavailable
from signalcraft.ingest.context import IngestContext
from signalcraft.queues import enqueue, inbox
from signalcraft.queues.enqueue import EnqueueResult
from signalcraft.resilience import BoundedCall
from signalcraft.sources import SOURCES
from signalcraft.storage.database import session
from signalcraft.thread_budgets import MAX_REDIS_RETRIES

log = structlog.get_logger(__name__)

#: ``Retry-After`` of a 503.
RETRY_AFTER_SECONDS: Final = 5
#: Time from the arrival of a delivery to its response, and the minimum for the inbox insert. The least patient sender
#: decides for all: they share the threads.
_RESPONSE_TIMEOUT_SECONDS: Final = 0.8 * min(source.TRAITS.answer_within for source in SOURCES.values())
_MIN_INBOX_TIMEOUT_SECONDS: Final = 0.2
#: While the circuit breaker is open: how long to wait for a retry slot, and the time left that a retry needs.
_RETRY_SLOT_TIMEOUT_SECONDS: Final = 0.1
_MIN_RETRY_SECONDS: Final = 0.4
_retry_slots: Final = threading.BoundedSemaphore(MAX_REDIS_RETRIES)
_bounded: Final = BoundedCall(DatabaseUnavailable)


def enqueue_durably(accepted: AcceptedDelivery, context: IngestContext) -> EnqueueResult:
    """Enqueue ``accepted`` in Redis or PostgreSQL's inbox.

    INGEST_DURABILITY says in which.

    Raises:
        Unavailable: neither stored it. Nothing was acknowledged.
    """
    if context.settings.ingest_durability == "inbox":
        return greenlets.run_blocking(partial(_add_to_inbox, accepted))
    attempted = False
    try:
        with context.breaker.guard():
            attempted = True
            return enqueue.enqueue_once(context.redis, accepted, ttl_seconds=context.settings.delivery_key_ttl)
    except QueueUnavailable as error:
        if attempted:  # so one line per pause of the circuit breaker (2 s), not one per delivery
            log.warning(
                "enqueue failed, Redis unavailable", stage="queue", delivery_id=accepted.delivery_id, reason=str(error)
            )
        if context.settings.ingest_durability == "redis" and attempted:
            raise Unavailable(retry_after=RETRY_AFTER_SECONDS) from error
    return greenlets.run_blocking(partial(_enqueue_in_outage, accepted, context, attempted=attempted))


def _enqueue_in_outage(accepted: AcceptedDelivery, context: IngestContext, *, attempted: bool) -> EnqueueResult:
    """Add ``accepted`` to the inbox, unless INGEST_DURABILITY forbids; try Redis if it was not ``attempted``."""
    if context.settings.ingest_durability == "redis":
        return _retry_redis(accepted, context)
    try:
        result = _add_to_inbox(accepted)
    except Unavailable:
        if attempted or _seconds_left(accepted) < _MIN_RETRY_SECONDS:
            raise
        return _retry_redis(accepted, context)
    metrics.count("signalcraft_shelved_total")
    return result


def _retry_redis(accepted: AcceptedDelivery, context: IngestContext) -> EnqueueResult:
    """Try Redis although the circuit breaker is open.

    It may be back, and nothing else can store the delivery. Limited to a few at a time, since each may last until the
    Redis timeout.
    """
    if not _retry_slots.acquire(timeout=_RETRY_SLOT_TIMEOUT_SECONDS):
        raise Unavailable(retry_after=RETRY_AFTER_SECONDS)
    try:
        return enqueue.enqueue_once(context.redis, accepted, ttl_seconds=context.settings.delivery_key_ttl)
    except QueueUnavailable as error:
        raise Unavailable(retry_after=RETRY_AFTER_SECONDS) from error
    finally:
        _retry_slots.release()


def _add_to_inbox(accepted: AcceptedDelivery) -> EnqueueResult:
    """Insert within the time left, since PostgreSQL may hang.

    A row inserted after the timeout does no harm.
    """
    try:
        stored_id = _bounded.run(
            partial(_insert, accepted), timeout=max(_MIN_INBOX_TIMEOUT_SECONDS, _seconds_left(accepted))
        )
    except DatabaseUnavailable as error:
        raise Unavailable(retry_after=RETRY_AFTER_SECONDS) from error
    return EnqueueResult(is_duplicate=stored_id != accepted.delivery_id, delivery_id=stored_id)


def _seconds_left(accepted: AcceptedDelivery) -> float:
    """Return the time left, at most ``_RESPONSE_TIMEOUT_SECONDS``.

    Without that limit it could be more: the clock may have been set back since arrival.
    """
    waited = (datetime.now(UTC) - accepted.delivery.received_at).total_seconds()
    return _RESPONSE_TIMEOUT_SECONDS - max(0.0, waited)


def _insert(accepted: AcceptedDelivery) -> str:
    with session():
        return inbox.add(accepted)
