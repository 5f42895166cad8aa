"""The worker: ``python worker.py [--burst]`` processes deliveries, ``python worker.py notifications`` notifications."""

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog
from redis.exceptions import RedisError
from rq.exceptions import StopRequested
from rq.worker import BaseWorker

from signalcraft import logs, metrics, tasks
from signalcraft.domain.errors import InvalidSetting
from signalcraft.notify import config as notify_config
from signalcraft.notify import extensions, trouble
from signalcraft.notify.notifier import Notifier
from signalcraft.queues import jobs, quarantine, redis_clients, redis_persistence
from signalcraft.resilience import every
from signalcraft.settings import Settings
from signalcraft.storage import slow_queries
from signalcraft.storage.database import open_database
from signalcraft.worker import maintenance, self_alerts, watchdog
from signalcraft.worker.batch_worker import BatchWorker
from signalcraft.worker.inbox_consumer import InboxConsumer
from signalcraft.worker.queue_worker import QueueWorker
from signalcraft.worker.unfinished_changes import UnfinishedChanges

log = structlog.get_logger("signalcraft.worker")

#: Wait before the next attempt to reach an unavailable Redis.
_RECONNECT_INTERVAL_SECONDS = 1.0
#: An idle deployment logs nothing else.
_HEARTBEAT_INTERVAL_SECONDS = 60.0
#: A notification is a line in the log; whatever hangs may hang for so long.
_NOTIFICATION_LEASE_SECONDS = jobs.JOB_TIMEOUT_SECONDS + 60
#: Limit for a graceful shutdown: 4 s for a batch, 3 s for the inbox. A platform kills the process after 10 s.
_SHUTDOWN_TIMEOUT_SECONDS = 8.5

#: Threshold of the garbage collector. A batch allocates some hundred thousand containers, nearly none in a cycle; with
#: the default of 700 the collector took a twentieth of a worker's time.
_GC_THRESHOLD = 50_000


def main() -> int:
    """Run until a stop request, through outages of Redis."""
    arguments = _parser().parse_args()
    gc.freeze()  # imported objects stay for good: exclude them from collections
    gc.set_threshold(_GC_THRESHOLD, *gc.get_threshold()[1:])
    try:
        settings = Settings.from_environ(os.environ)
        logs.configure(settings.log_level, settings.log_format)
        tasks.configure_worker(settings, redis_clients.for_web(settings.redis_url))
        rules = extensions.rules(settings)
        config = notify_config.load(settings.notify, os.environ, extensions.notifier(settings))
    except InvalidSetting as error:
        sys.exit(str(error))
    open_database(settings.database_url)
    slow_queries.watch(settings.slow_query_ms)
    redis_persistence.report(redis_clients.for_web(settings.redis_url), settings.ingest_durability)
    metrics.start_flushing(redis_clients.for_web(settings.redis_url), dropped_log_lines=logs.take_dropped)
    if arguments.queue == jobs.NOTIFICATIONS:
        return _run_notifier(Notifier(config, rules, public_url=settings.public_url), settings, burst=arguments.burst)
    every(_HEARTBEAT_INTERVAL_SECONDS, lambda: log.info("worker alive", pid=os.getpid()), name="heartbeat")
    inbox_consumer = InboxConsumer(tasks.processor(), batch_size=settings.batch_size)
    stop_consuming = inbox_consumer.start()
    changes = UnfinishedChanges()
    stop_changing = changes.start()
    maintenance.start(settings, redis_clients.for_web(settings.redis_url))
    self_alerts.start(
        trouble.teller(config),
        redis_clients.for_web(settings.redis_url),
        inbox_is_incident=settings.ingest_durability != "inbox",
        last_consumed_at=lambda: inbox_consumer.last_consumed_at,
    )
    status = _run(jobs.ALERTS, settings, burst=arguments.burst)
    stop_changing()
    stop_consuming()
    if arguments.burst:
        changes.finish()
    return status


def _run_notifier(notifier: Notifier, settings: Settings, *, burst: bool) -> int:
    """Run the notifier's threads; an RQ worker in the same process wakes them, and shows that they live."""
    tasks.configure_notifier(notifier.wake)
    if burst:
        notifier.run_until_idle()
        return 0
    stop = notifier.start()
    status = _run(jobs.NOTIFICATIONS, settings, burst=False)
    stop(_SHUTDOWN_TIMEOUT_SECONDS)
    return status


def _run(queue: str, settings: Settings, *, burst: bool) -> int:
    """Run workers of ``queue``, a new one after each Redis error, until a stop request or the end of a burst."""
    watchdog.force_exit_after_shutdown(_SHUTDOWN_TIMEOUT_SECONDS)
    log.info("worker started", queue=queue, pid=os.getpid())
    worker: BaseWorker | None = None
    with suppress(StopRequested):  # also between two workers: the first one's signal handler stays
        while not _stop_requested(worker):
            try:
                worker = _WORKERS[queue](settings)
                quarantine.move_keys_of_other_types(worker.connection)  # with one of them it could not even register
                # At INFO RQ would log each of its maintenance runs, every 8 s, and four lines for each notification.
                worker.work(
                    burst=burst, logging_level=settings.log_level if settings.log_level != "INFO" else "WARNING"
                )
                if burst or _stop_requested(worker):
                    break
            except RedisError as error:
                log.warning("waiting for Redis", reason=redis_clients.reason(error))
            with suppress(RedisError):  # the signal handler of a busy worker writes the stop request to Redis
                time.sleep(_RECONNECT_INTERVAL_SECONDS)
    log.info("worker stopped", queue=queue, pid=os.getpid())
    return 0


def _stop_requested(worker: BaseWorker | None) -> bool:
    return worker is not None and worker._shutdown_requested_date is not None  # noqa: SLF001 - RQ has no public attribute for it


def _batch_worker(settings: Settings) -> BaseWorker:
    return BatchWorker(
        jobs.ALERTS,
        connection=redis_clients.for_worker(settings.redis_url),
        stages=tasks.processor(),
        batch_size=settings.batch_size,
    )


def _notification_worker(settings: Settings) -> BaseWorker:
    return QueueWorker(
        jobs.NOTIFICATIONS,
        connection=redis_clients.for_worker(settings.redis_url),
        lease_seconds=_NOTIFICATION_LEASE_SECONDS,
    )


_WORKERS: Mapping[str, Callable[[Settings], BaseWorker]] = {
    jobs.ALERTS: _batch_worker,
    jobs.NOTIFICATIONS: _notification_worker,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("queue", nargs="?", default=jobs.ALERTS, choices=(jobs.ALERTS, jobs.NOTIFICATIONS))
    parser.add_argument("--burst", action="store_true", help="exit when the queue is empty")
    return parser


if __name__ == "__main__":
    sys.exit(main())
