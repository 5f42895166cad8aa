"""How gunicorn serves ``app:app``. It reads this file before it imports the app.

Each setting is explained at https://gunicorn.org/reference/settings/.
"""

import gc
import os
import socket
import tempfile
import time

from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from signalcraft import logs, metrics
from signalcraft.domain.errors import InvalidSetting
from signalcraft.ingest import canary, context
from signalcraft.queues import redis_clients, redis_persistence
from signalcraft.settings import Settings
from signalcraft.thread_budgets import WEB_THREADS
from signalcraft.web.server.gunicorn_worker import BufferingWorker

try:
    _settings = Settings.from_environ(os.environ)
except InvalidSetting as error:
    raise SystemExit(f"error: {error}") from None

logs.configure(_settings.log_level, _settings.log_format)

#: gunicorn tries as often, a second apart: the process before may still be ending.
_BIND_ATTEMPTS = 5


def _heartbeat_directory() -> str:
    """Return the first writable directory for gunicorn's heartbeat files.

    Memory first: on a disk that stalls, a healthy worker would get killed. Without any, gunicorn would start and kill
    workers for ever.
    """
    if os.access("/dev/shm", os.W_OK):  # noqa: S108 - gunicorn makes its own file there
        return "/dev/shm"  # noqa: S108 - likewise
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        reason = "neither /dev/shm nor a temporary directory can be written to, and gunicorn needs one. Set TMPDIR."
        raise SystemExit(f"error: {reason}") from None


class _OurLogger(Logger):  # type: ignore[misc] # gunicorn ships no types
    """Log gunicorn's records as ours: they must reach the root logger."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True


bind = f"0.0.0.0:{_settings.port}"
workers = _settings.web_concurrency
# A thread gets a complete request, so slow senders hold none, and threads are for work alone. Two of them
# run at once; the others are for when those wait (signalcraft/thread_budgets.py shares all of them out).
BufferingWorker.max_body_bytes = _settings.max_body_bytes
BufferingWorker.default_workspace = _settings.default_workspace
BufferingWorker.trusted_proxies = _settings.trusted_proxies
worker_class = BufferingWorker
threads = WEB_THREADS
# As long as a head may be: a parameter that is too long is refused by its name.
limit_request_line = 0
# TRUSTED_PROXIES says whom to believe about the address. gunicorn would believe any client on this machine, in headers
# that no proxy of ours sets: a SCRIPT_NAME that is no prefix of the path was a 500.
forwarded_allow_ips = ""
# With the other files of a process, well under the 1,024 that many systems allow.
worker_connections = 512

# An import takes a second; behind an open port that would be lost alerts. Pools and threads start after the fork.
preload_app = True

# Some senders wait for one second. A worker that has not answered its master for half a minute hangs.
timeout = 30
# A platform that stops us gives 10 s (Kubernetes, Docker) to 30 s (Heroku) before it kills.
graceful_timeout = 8
# Longer than the idle connections of the routers in front, or they reuse one that is just being closed.
keepalive = 75
backlog = 2048

worker_tmp_dir = _heartbeat_directory()

# We write a line for each request ourselves, without the query string.
accesslog = None
errorlog = "-"
loglevel = _settings.log_level.lower()
logger_class = _OurLogger

# It would be a socket in the home directory, shared by all gunicorns of one account.
control_socket_disable = True


def on_starting(server: Arbiter) -> None:
    """End with one sentence if a port cannot be used; gunicorn would log eleven lines."""
    addresses = server.cfg.address
    if {"GUNICORN_FD", "LISTEN_PID"} & os.environ.keys() or any(isinstance(one, int) for one in addresses):
        return  # the sockets are there already
    for address in addresses:
        if isinstance(address, tuple):
            _check_address(address)


def _check_address(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    for attempt in range(1, _BIND_ATTEMPTS + 1):
        try:
            socket.create_server(address, family=family).close()
        except OSError as error:
            if attempt == _BIND_ATTEMPTS:
                raise SystemExit(f"error: port {address[1]} cannot be used: {os.strerror(error.errno or 0)}.") from None
            time.sleep(1)
        else:
            return


def when_ready(_server: Arbiter) -> None:
    """Report once what Redis could lose as it is configured. Freeze what was imported, so that workers share it."""
    gc.freeze()
    redis_persistence.report(redis_clients.for_web(_settings.redis_url), _settings.ingest_durability)


def post_fork(_server: Arbiter, worker: Worker) -> None:
    """Start each worker's threads, which do not survive a fork: credentials, metrics and canaries."""
    context.start_threads(worker.app.wsgi())
    metrics.start_flushing(redis_clients.for_web(_settings.redis_url), dropped_log_lines=logs.take_dropped)
    canary.start(_settings, redis_clients.for_web(_settings.redis_url))
