"""The servers that benchmarks run on, lanes on them, and processes that end with their block.

A lane is a migrated database and a numbered Redis database for one benchmark. So SignalCraft and a baseline, or a full
database and an empty one, use the same two servers at the same time.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class
from redis import Redis

from bench.figures import ROOT
from signalcraft.dev import embedded_servers

SECRET = "bench-client-secret"
TOKEN = "bench-api-token"

_STOP_TIMEOUT_SECONDS = 20.0
_SERVED = re.compile(r'"level":"info".*"(delivery_id|method)":')
_RELEASE_TIMEOUT_SECONDS = 60.0
#: Redis databases to use, the last one first: existing data is most likely in the first.
_REDIS_NUMBERS = range(15, 0, -1)


class BenchError(Exception):
    """A benchmark cannot be run, or did not do what it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A database and a Redis database. ``environ`` is a whole process's environment with both in it."""

    name: str
    database_url: str
    redis_url: str
    redis: Redis
    directory: Path
    environ: Mapping[str, str] = field(repr=False)

    def connect(self) -> Connection:
        """Return a connection to the database, in autocommit mode."""
        connection = psycopg2.connect(self.database_url)
        connection.autocommit = True
        return connection

    def number(self, statement: str) -> int:
        """Return the one number that ``statement`` selects."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return int(cursor.fetchone()[0])

    def run(self, *statements: str) -> None:
        """Run ``statements``, each in a transaction of its own."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def empty(self) -> None:
        """Delete all events and groups, and nothing else."""
        self.run("TRUNCATE alert_event, alert_group RESTART IDENTITY CASCADE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """The servers. ``quick``: fewer and shorter runs, to see that all works; figures are less precise.

    ``events``: the size of the table that growth is measured on, 0 for its own.
    """

    database_url: str
    redis_url: str
    directory: Path
    quick: bool = False
    events: int = 0
    _lanes: list[str] = field(default_factory=list, repr=False)

    def versions(self) -> dict[str, str]:
        """Return the versions of both servers, and whether they write to disk."""
        with contextlib.closing(psycopg2.connect(self.database_url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version'), current_setting('fsync')")
            postgresql, fsync = cursor.fetchone()
        with contextlib.closing(Redis.from_url(self.redis_url)) as redis:
            info = redis.info()
        appends = "yes" if info.get("aof_enabled") else "no"
        return {
            "postgresql": postgresql,
            "postgresql_fsync": fsync,
            "redis": info["redis_version"],
            "redis_appendonly": appends,
        }

    @contextlib.contextmanager
    def lane(self, name: str, **settings: str) -> Iterator[Lane]:
        """Create a lane with ``settings`` in its environment; drop it after the block.

        Raises:
            BenchError: the Redis database, which the lane would empty, is not empty.
        """
        number = _REDIS_NUMBERS[len(self._lanes)]
        self._lanes.append(name)
        redis_url = urlsplit(self.redis_url)._replace(path=f"/{number}").geturl()
        database = f"signalcraft_bench_{os.getpid()}_{name}"
        with contextlib.closing(Redis.from_url(redis_url)) as redis:
            if redis.dbsize():
                raise BenchError(f"Redis database {number} is not empty; benchmarks would empty it.")
            url = embedded_servers.create_database(self.database_url, database)
            try:
                yield self._lane(name, url, redis_url, redis, settings)
            finally:
                redis.flushdb()
                embedded_servers.drop_database(self.database_url, database)
                self._lanes.pop()

    def _lane(self, name: str, url: str, redis_url: str, redis: Redis, settings: Mapping[str, str]) -> Lane:
        lane_settings = {
            "DATABASE_URL": url,
            "REDIS_URL": redis_url,
            "SENTRY_CLIENT_SECRET": SECRET,
            "API_TOKEN": TOKEN,
            "RATELIMIT_WEBHOOK": "1000000000/minute",  # requests are counted, and the limit is never reached
            "RATELIMIT_API": "1000000000/minute",
        }
        inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        lane = Lane(
            name=name,
            database_url=url,
            redis_url=redis_url,
            redis=redis,
            directory=self.directory,
            environ={**inherited, **lane_settings, **settings, "PYTHONPATH": str(ROOT)},
        )
        subprocess.run(
            [sys.executable, "-m", "signalcraft", "migrate"],
            cwd=ROOT,
            env=lane.environ,
            check=True,
            capture_output=True,
            timeout=_RELEASE_TIMEOUT_SECONDS,
        )
        return lane


@dataclass(slots=True)
class PausableProcess:
    """A process that can be paused at any point and resumed."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def pause(self) -> None:
        """Send SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def check(self) -> None:
        """Check that the process runs.

        Raises:
            BenchError: it has ended; the message has the end of its log.
        """
        if self.process.poll() is not None:
            raise BenchError(f"{self.log.stem} ended unexpectedly: {self.log.read_text(errors='replace')[-2000:]}")

    def problems(self) -> str:
        """Return the last lines of the log, but for those that report that a delivery or request was served."""
        with self.log.open(errors="replace") as lines:
            return "".join(deque((line for line in lines if not _SERVED.search(line)), maxlen=10))


@contextlib.contextmanager
def running(lane: Lane, name: str, *arguments: str, **settings: str) -> Iterator[PausableProcess]:
    """Run ``python`` with ``arguments`` in the lane's environment during the block, with its log in a file."""
    log = lane.directory / f"{lane.name}-{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**lane.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    pausable = PausableProcess(process, log)
    try:
        yield pausable
    except BenchError as error:
        error.add_note(f"The log of {log.stem} has:\n{pausable.problems()}")
        raise
    finally:
        _end(process)
        log.unlink(missing_ok=True)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(
    condition: Callable[[], bool],
    processes: Sequence[PausableProcess],
    *,
    timeout_seconds: float,
    interval_seconds: float = 0.05,
) -> None:
    """Poll ``condition`` every ``interval_seconds`` until it is true, while the processes run.

    Raises:
        BenchError: a process ended, or ``timeout_seconds`` have passed.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        for process in processes:
            process.check()
        if time.monotonic() > deadline:
            raise BenchError(f"not done after {timeout_seconds:g} s")
        time.sleep(interval_seconds)
