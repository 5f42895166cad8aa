"""Where benchmarks run: the servers, lanes on them, and processes that end with their block.

A lane is a database of its own, migrated, and a numbered Redis database of its own: ours and a baseline, or a full
database and an empty one, stand side by side on the same two servers.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
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

_STOP_SECONDS = 20.0
_RELEASE_SECONDS = 60.0
#: Databases of Redis to use, from the last on: somebody's data is in the first, if in any.
_REDIS_NUMBERS = range(15, 0, -1)


class BenchError(Exception):
    """A benchmark cannot be run, or did not come to what it should."""


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
        """A connection to the database, in autocommit."""
        connection = psycopg2.connect(self.database_url)
        connection.autocommit = True
        return connection

    def number(self, statement: str) -> int:
        """What ``statement`` selects: one number."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return int(cursor.fetchone()[0])

    def run(self, *statements: str) -> None:
        """Run ``statements``, each in a transaction of its own."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def empty(self) -> None:
        """No events, no groups; nothing else changes."""
        self.run("TRUNCATE alert_event, alert_group RESTART IDENTITY CASCADE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """The servers. ``quick``: fewer and shorter runs, to see that all works; what they come to is rough."""

    database_url: str
    redis_url: str
    directory: Path
    quick: bool = False
    _lanes: list[str] = field(default_factory=list, repr=False)

    def versions(self) -> dict[str, str]:
        """Of both servers, and whether PostgreSQL really writes."""
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
        """A lane, with ``settings`` in its environment; gone after the block.

        Raises:
            BenchError: the Redis database that it would empty has something in it.
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
        ours = {
            "DATABASE_URL": url,
            "REDIS_URL": redis_url,
            "SENTRY_CLIENT_SECRET": SECRET,
            "API_TOKEN": TOKEN,
            "RATELIMIT_WEBHOOK": "1000000000/minute",  # counted all the same, and never reached
            "RATELIMIT_API": "1000000000/minute",
        }
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        lane = Lane(
            name=name,
            database_url=url,
            redis_url=redis_url,
            redis=redis,
            directory=self.directory,
            environ={**kept, **ours, **settings, "PYTHONPATH": str(ROOT)},
        )
        subprocess.run(
            [sys.executable, "-m", "signalcraft", "migrate"],
            cwd=ROOT,
            env=lane.environ,
            check=True,
            capture_output=True,
            timeout=_RELEASE_SECONDS,
        )
        return lane


@dataclass(slots=True)
class Held:
    """A process that can be stopped in the middle of anything, and let go again."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def hold(self) -> None:
        """Stop it where it is."""
        self.process.send_signal(signal.SIGSTOP)

    def let_go(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def check(self) -> None:
        """Make sure that it runs.

        Raises:
            BenchError: it does not; with the end of its log.
        """
        if self.process.poll() is not None:
            raise BenchError(f"{self.log.stem} ended by itself: {self.log.read_text(errors='replace')[-2000:]}")


@contextlib.contextmanager
def running(lane: Lane, name: str, *arguments: str, **settings: str) -> Iterator[Held]:
    """``python`` with ``arguments`` in the lane's environment while the block runs; what it logs goes to a file."""
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
    try:
        yield Held(process, log)
    finally:
        _end(process)
        log.unlink(missing_ok=True)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], held: Sequence[Held], *, seconds: float, every: float = 0.05) -> None:
    """Wait until ``condition`` is true, asking ``every`` so many seconds, while the processes run.

    Raises:
        BenchError: they do not, or it takes longer than ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        for one in held:
            one.check()
        if time.monotonic() > deadline:
            raise BenchError(f"not done after {seconds:g} s")
        time.sleep(every)
