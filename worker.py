"""RQ's door: ``python worker.py [--burst]`` works off deliveries, ``python worker.py notifications`` notifies."""

import argparse
import os
import sys

from rq import SimpleWorker
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker

from signalcraft import chores, jobs, logs, metrics, models, tasks
from signalcraft.batching import BatchingWorker
from signalcraft.errors import InvalidSetting
from signalcraft.settings import Settings


def main() -> int:
    """Work until told to stop; the exit status is 1 where the worker gave up by itself and wants a restart."""
    arguments = _parser().parse_args()
    try:
        settings = Settings.from_environ(os.environ)
    except InvalidSetting as error:
        sys.exit(str(error))
    logs.configure(settings.log_level, settings.log_format)
    models.open_database(settings.database_url)
    redis = jobs.connect_worker(settings.redis_url)
    tasks.equip(settings, redis)
    metrics.start_flushing(jobs.connect_worker(settings.redis_url))
    if arguments.queue == jobs.ALERTS:
        chores.start(settings, redis)
    worker = _worker(arguments.queue, settings)
    worker.work(burst=arguments.burst, logging_level=settings.log_level)
    return 0 if arguments.burst or worker._shutdown_requested_date else 1  # noqa: SLF001 - RQ tells it nowhere else


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("queue", nargs="?", default=jobs.ALERTS, choices=(jobs.ALERTS, jobs.NOTIFICATIONS))
    parser.add_argument("--burst", action="store_true", help="leave when the queue is empty")
    return parser


def _worker(queue: str, settings: Settings) -> BaseWorker:
    redis = jobs.connect_worker(settings.redis_url)
    if queue == jobs.NOTIFICATIONS:
        return SimpleWorker([jobs.queue(redis, queue)], connection=redis, serializer=JSONSerializer, worker_ttl=30)
    return BatchingWorker(
        queue,
        connection=redis,
        process=tasks.process_deliveries,
        batch_size=settings.batch_size,
    )


if __name__ == "__main__":
    sys.exit(main())
