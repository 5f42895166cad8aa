"""How gunicorn serves ``app:app``. It reads this file before it imports the app.

Each setting is explained at https://gunicorn.org/reference/settings/.
"""

import gc
import os
from pathlib import Path

from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from signalcraft import logs, metrics
from signalcraft.domain.errors import InvalidSetting
from signalcraft.ingest import canary
from signalcraft.queues import redis_clients, redis_persistence
from signalcraft.settings import Settings
from signalcraft.web.server.gunicorn_worker import GatheringWorker

try:
    _settings = Settings.from_environ(os.environ)
except InvalidSetting as error:
    raise SystemExit(f"error: {error}") from None

logs.configure(_settings.log_level, _settings.log_format)


class _OurLogger(Logger):  # type: ignore[misc] # gunicorn ships no types
    """gunicorn's records, as lines like ours: it must not keep them from the root logger."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True


bind = f"0.0.0.0:{_settings.port}"
workers = _settings.web_concurrency
# A thread is given a request that is all there, so slow senders hold none, and these are for work alone. Two of them
# work at once; the others are for when those wait and leave the processor idle (signalcraft/turns.py).
GatheringWorker.most_body_bytes = _settings.max_body_bytes
worker_class = GatheringWorker
threads = 16
# A line as long as a head may be: what is too long for a parameter is to be told by the parameter's name.
limit_request_line = 0
# Whom to believe about the address says TRUSTED_PROXIES. gunicorn would believe whoever is on this machine, in headers
# that no proxy of ours sets: a SCRIPT_NAME that is not how the path begins was a 500.
forwarded_allow_ips = ""
# With what else a process has open, well under the 1,024 files that many systems allow.
worker_connections = 512

# An import takes a second; behind an open port that would be lost alerts. Pools and threads start after the fork.
preload_app = True

# Sentry waits for one second. A worker that has not answered its master for half a minute hangs.
timeout = 30
# A platform that stops us gives 10 s (Kubernetes, Docker) to 30 s (Heroku) before it kills.
graceful_timeout = 8
# Longer than the idle connections of the routers in front, or they reuse one that is just being closed.
keepalive = 75
backlog = 2048

# A heartbeat file on a disk that stalls would get a healthy worker killed.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - gunicorn makes its own file there

# We write a line for each request ourselves, without the query string.
accesslog = None
errorlog = "-"
loglevel = _settings.log_level.lower()
logger_class = _OurLogger

# It would be a socket in the home directory, shared by all gunicorns of one account.
control_socket_disable = True


def when_ready(_server: Arbiter) -> None:
    """Say once what Redis, as it is set up, could lose. What was imported is shared by all workers, and stays so."""
    gc.freeze()
    redis_persistence.report(redis_clients.for_web(_settings.redis_url), _settings.ingest_durability)


def post_fork(_server: Arbiter, _worker: Worker) -> None:
    """Give each worker its threads, which do not survive a fork: metrics are handed over, canaries sent."""
    metrics.start_flushing(redis_clients.for_web(_settings.redis_url))
    canary.start(_settings, redis_clients.for_web(_settings.redis_url))
