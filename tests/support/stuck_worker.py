"""A worker whose normalization never ends and never releases the GIL. For ``test_batch_worker``."""

import os
import re

from signalcraft import tasks
from signalcraft.queues import jobs, redis_clients
from signalcraft.settings import Settings
from signalcraft.storage.database import open_database
from signalcraft.worker import batch_worker, process

if __name__ == "__main__":
    settings = Settings.from_environ(os.environ)
    open_database(settings.database_url)
    tasks.configure_worker(settings, redis_clients.for_web(settings.redis_url))
    batch_worker.PREPARE_TIMEOUT_SECONDS = 1  # type: ignore[misc]
    process._normalize = lambda *_: re.match(r"(a+)+$", "a" * 60 + "b")  # type: ignore[assignment]
    redis = redis_clients.for_worker(settings.redis_url)
    batch_worker.BatchWorker(jobs.ALERTS, connection=redis, stages=tasks.processor(), batch_size=9).work(burst=True)
