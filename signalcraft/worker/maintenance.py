"""What a worker does once a day, whichever worker comes first: retention, and resolving what has long been quiet."""

import contextlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from redis import Redis
from redis.exceptions import RedisError

from signalcraft import logs
from signalcraft.settings import Settings
from signalcraft.storage import retention
from signalcraft.storage.database import session
from signalcraft.storage.retention import Purge

log = structlog.get_logger(__name__)

_LEADER_KEY: Final = "signalcraft:chores"
_DAY_SECONDS: Final = 86_400
_POLL_INTERVAL_SECONDS: Final = 300


def start(settings: Settings, redis: Redis) -> Callable[[], None]:
    """Look every few minutes, in a thread of its own, whether today's chores are done; what comes back stops it."""
    stopped = threading.Event()

    def run() -> None:
        while not stopped.wait(_POLL_INTERVAL_SECONDS):
            run_daily_maintenance(settings, redis, datetime.now(UTC))

    threading.Thread(target=run, name="chores", daemon=True).start()
    return stopped.set


def run_daily_maintenance(settings: Settings, redis: Redis, now: datetime) -> bool:
    """Do the chores unless some worker has in the last day; whether they are done now. Failing is tried again later."""
    try:
        if not redis.set(_LEADER_KEY, now.isoformat(), nx=True, ex=_DAY_SECONDS):
            return False
        with session():
            _do(settings, now)
    except RedisError:
        return False
    except Exception as error:  # noqa: BLE001 - whatever it is, the next worker that looks tries again
        log.warning("daily maintenance failed, will retry", stage="chores", **logs.exception_fields(error))
        with contextlib.suppress(RedisError):
            redis.delete(_LEADER_KEY)
        return False
    return True


def purge_of(settings: Settings, now: datetime) -> Purge:
    """What is too old at ``now``."""
    return Purge(
        events_before=now - timedelta(days=settings.retention_days),
        payloads_before=now - timedelta(days=min(settings.payload_retention_days, settings.retention_days)),
    )


def _do(settings: Settings, now: datetime) -> None:
    purge = purge_of(settings, now)
    events = sum(retention.delete_events(purge.events_before))
    payloads = sum(retention.drop_payloads(purge.payloads_before))
    retention.purge_source_updates(purge.events_before)
    resolved = 0
    if settings.auto_resolve_days:
        resolved = retention.resolve_inactive(now - timedelta(days=settings.auto_resolve_days), now)
    log.info("daily maintenance finished", stage="chores", events=events, payloads=payloads, resolved=resolved)
