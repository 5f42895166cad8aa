"""RQ's door: ``python worker.py [--burst]`` works off deliveries, ``python worker.py notifications`` notifies."""

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from redis.exceptions import RedisError
from rq import SimpleWorker
from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker

from signalcraft import logs, metrics, tasks
from signalcraft.domain.errors import InvalidSetting
from signalcraft.queues import jobs, redis_clients, redis_persistence
from signalcraft.settings import Settings
from signalcraft.storage import slow_queries
from signalcraft.storage.database import open_database
from signalcraft.worker import maintenance, self_alerts, watchdog
from signalcraft.worker.batch_worker import BatchWorker
from signalcraft.worker.inbox_consumer import InboxConsumer

log = structlog.get_logger("signalcraft.worker")

#: How long to wait before Redis is asked again that was away.
_RECONNECT_SECONDS = 1.0
#: How long leaving may take, in seconds: a batch 4, the shelf 3. A platform waits for 10.
_LEAVE_SECONDS = 8.5


#: How long a thread may keep others from running, in seconds. With Python's own 5 ms the thread that stores, which asks
#: PostgreSQL a dozen times a batch, waited as long after each answer while the next batch was being prepared.
_SWITCH_SECONDS = 0.001
#: New containers between two collections. A batch makes some hundred thousand, nearly none of them in a circle; with
#: Python's own 700 a twentieth of a worker's time went into looking for those.
_COLLECT_EVERY = 50_000


def main() -> int:
    """Work until told to stop, whatever becomes of Redis meanwhile."""
    arguments = _parser().parse_args()
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.freeze()  # what was imported stays, and is not looked through again and again
    gc.set_threshold(_COLLECT_EVERY, *gc.get_threshold()[1:])
    try:
        settings = Settings.from_environ(os.environ)
        logs.configure(settings.log_level, settings.log_format)
        tasks.configure_worker(settings, redis_clients.for_web(settings.redis_url))
    except InvalidSetting as error:
        sys.exit(str(error))
    open_database(settings.database_url)
    slow_queries.watch(settings.slow_query_ms)
    redis_persistence.report(redis_clients.for_web(settings.redis_url), settings.ingest_durability)
    metrics.start_flushing(redis_clients.for_web(settings.redis_url))
    if arguments.queue == jobs.NOTIFICATIONS:
        return _work(_notifier, settings, burst=arguments.burst)
    drainer = InboxConsumer(tasks.processor(), batch_size=settings.batch_size)
    drainer.start()
    maintenance.start(settings, redis_clients.for_web(settings.redis_url))
    self_alerts.start(
        tasks.processor().context.queue_notification,
        redis_clients.for_web(settings.redis_url),
        inbox_is_trouble=settings.ingest_durability != "inbox",
        last_consumed_at=lambda: drainer.last_consumed_at,
    )
    status = _work(_batching_worker, settings, burst=arguments.burst)
    drainer.stop()
    return status


def _work(build: Callable[[Settings], BaseWorker], settings: Settings, *, burst: bool) -> int:
    """Run one worker after the other until one was told to stop, or has emptied the queue in a burst."""
    watchdog.force_exit_after_shutdown(_LEAVE_SECONDS)
    worker: BaseWorker | None = None
    with suppress(StopRequested):  # also between two workers: the first one's handler stays
        while not _was_told_to_stop(worker):
            try:
                worker = build(settings)
                worker.work(burst=burst, logging_level=settings.log_level)
                if burst or _was_told_to_stop(worker):
                    break
            except RedisError as error:
                log.warning("waiting for Redis", reason=type(error).__name__)
            with suppress(RedisError):  # told to stop meanwhile, one that was busy tries to tell Redis so
                time.sleep(_RECONNECT_SECONDS)
    return 0


def _was_told_to_stop(worker: BaseWorker | None) -> bool:
    return worker is not None and worker._shutdown_requested_date is not None  # noqa: SLF001 - RQ tells it nowhere else


def _batching_worker(settings: Settings) -> BaseWorker:
    return BatchWorker(
        jobs.ALERTS,
        connection=redis_clients.for_worker(settings.redis_url),
        stages=tasks.processor(),
        batch_size=settings.batch_size,
    )


class _Notifier(SimpleWorker):
    def handle_warm_shutdown_request(self) -> None:
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call] # RQ's
        watchdog.request_shutdown()


def _notifier(settings: Settings) -> BaseWorker:
    redis = redis_clients.for_worker(settings.redis_url)
    queue = jobs.queue(redis, jobs.NOTIFICATIONS)
    return _Notifier(
        [queue],
        connection=redis,
        serializer=JSONSerializer,
        job_class=jobs.AllowedJob,  # a worker reads jobs as its own class, not as its queue's
        worker_ttl=30,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("queue", nargs="?", default=jobs.ALERTS, choices=(jobs.ALERTS, jobs.NOTIFICATIONS))
    parser.add_argument("--burst", action="store_true", help="leave when the queue is empty")
    return parser


if __name__ == "__main__":
    sys.exit(main())
