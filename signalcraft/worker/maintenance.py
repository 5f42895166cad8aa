"""Daily maintenance, by whichever worker comes first: retention, and resolving inactive groups."""

import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog
from redis import Redis
from redis.exceptions import RedisError

from signalcraft import logs
from signalcraft.queues import leases
from signalcraft.resilience import every
from signalcraft.settings import Settings
from signalcraft.storage import retention
from signalcraft.storage.database import current_time, session
from signalcraft.storage.retention import Purge

log = structlog.get_logger(__name__)

_LEADER_KEY: Final = "signalcraft:chores"
_DAY_SECONDS: Final = 86_400
_POLL_INTERVAL_SECONDS: Final = 300


def start(settings: Settings, redis: Redis) -> Callable[[], None]:
    """Start the maintenance thread; return what stops it.

    Every few minutes it checks whether today's maintenance was done.
    """
    return every(
        _POLL_INTERVAL_SECONDS,
        lambda: run_daily_maintenance(settings, redis),
        name="maintenance",
    )


def run_daily_maintenance(settings: Settings, redis: Redis, now: datetime | None = None) -> bool:
    """Run maintenance if it is due; return whether it ran.

    It is due unless a worker has run it in the last day. A failure is retried later. ``now`` is PostgreSQL's time,
    unless it is given: a machine whose clock is a month ahead must not delete a month of events.
    """
    try:
        if not leases.once_per(redis, _LEADER_KEY, seconds=_DAY_SECONDS):
            return False
        with session():
            _do(settings, now or current_time())
    except RedisError:
        return False
    except Exception as error:  # noqa: BLE001 - whatever it is, the next worker that checks tries again
        log.warning("daily maintenance failed, will retry", stage="chores", **logs.exception_fields(error))
        with contextlib.suppress(RedisError):
            redis.delete(_LEADER_KEY)
        return False
    return True


def purge_of(settings: Settings, now: datetime) -> Purge:
    """Return what is past its retention at ``now``."""
    return Purge(
        events_before=now - timedelta(days=settings.retention_days),
        payloads_before=now - timedelta(days=min(settings.payload_retention_days, settings.retention_days)),
    )


def _do(settings: Settings, now: datetime) -> None:
    purge = purge_of(settings, now)
    events = sum(retention.delete_events(purge.events_before))
    payloads = sum(retention.drop_payloads(purge.payloads_before))
    raw = retention.delete_raw_deliveries(purge.payloads_before)
    retention.purge_source_updates(purge.events_before)
    retention.purge_episodes(purge.events_before)
    retention.purge_group_hours(purge.events_before)
    notifications = retention.purge_notifications(purge.events_before)
    resolved = 0
    if settings.auto_resolve_days:
        resolved = retention.resolve_inactive(now - timedelta(days=settings.auto_resolve_days), now)
    log.info(
        "daily maintenance finished",
        stage="chores",
        events=events,
        payloads=payloads,
        raw_deliveries=raw,
        notifications=notifications,
        resolved=resolved,
    )
