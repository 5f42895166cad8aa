"""The whole way behind PgBouncer in transaction mode, with its default settings; skipped where it is not installed."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn
from redis import Redis

from signalcraft import tasks
from signalcraft.dev import embedded_servers
from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.settings import Settings
from signalcraft.storage import migrations
from signalcraft.storage.database import database, open_database, session
from signalcraft.storage.models import Workspace
from signalcraft.worker.inbox_consumer import InboxConsumer
from tests.support.builders import accepted, groups
from tests.support.queues import add_to_inbox, depth

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed")
POOL_SIZE = 2


@pytest.fixture
def pooled_url(clean_database: str, tmp_path: Path) -> Iterator[str]:
    """The clean database behind a PgBouncer, on which ``storage.database.database`` is open."""
    target = {name: value for name, value in parse_dsn(clean_database).items() if name != "dbname"}
    port = embedded_servers.free_port()
    configuration = tmp_path / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\n* = {make_dsn(**target)}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = {POOL_SIZE}\n"
    )
    account = ["-u", "nobody"] if os.geteuid() == 0 else []
    for directory in (tmp_path, *tmp_path.parents) if account else ():
        directory.chmod(directory.stat().st_mode | 0o005)
    assert PGBOUNCER is not None
    process = subprocess.Popen([PGBOUNCER, "-q", *account, configuration], stderr=subprocess.DEVNULL)
    name = parse_dsn(clean_database)["dbname"]
    try:
        yield _when_up(f"postgresql://anyone@127.0.0.1:{port}/{quote(name)}")
    finally:
        database.close_all()
        process.terminate()
        process.wait(timeout=10)
        open_database(clean_database)


def _when_up(url: str) -> str:
    for _ in range(100):
        try:
            psycopg2.connect(url).close()
        except psycopg2.OperationalError:
            time.sleep(0.05)
        else:
            break
    database.close_all()
    open_database(url)
    return url


def _advisory_locks(url: str) -> int:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        (number,) = cursor.fetchone() or (0,)
    return int(number)


def test_timeouts_hold_for_each_statement_and_transaction_and_for_no_other_client(pooled_url: str) -> None:
    open_database(pooled_url, statement_timeout_ms=300)
    for in_transaction in (False, True):
        with pytest.raises(DatabaseUnavailable, match="statement timeout"), session():  # noqa: PT012 - either of two
            if in_transaction:
                with database.atomic():
                    database.execute_sql("SELECT pg_sleep(3)")
            database.execute_sql("SELECT pg_sleep(3)")
    for _ in range(POOL_SIZE):
        with closing(psycopg2.connect(pooled_url)) as other, other.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("0",)


def test_times_are_in_utc_whatever_the_server_has(pooled_url: str, clean_database: str) -> None:  # noqa: ARG001 - in use
    with session():
        database.execute_sql("SET timezone = 'Asia/Tokyo'")
        for query in ("SELECT now()", "SELECT current_setting('timezone')"):
            assert str(database.execute_sql(query).fetchone()[0]).endswith(("+00:00", "UTC"))


def test_a_migration_that_fails_leaves_no_lock_and_no_change_behind(
    pooled_url: str, clean_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tmp_path / "migrations"
    shutil.copytree(migrations.DIRECTORY, copies)
    broken = "def up(migrator, db):\n    db.execute_sql('CREATE TABLE half (); SELECT 1 / 0')\n\ndown = up\n"
    (copies / "9999_break.py").write_text(broken)
    monkeypatch.setattr(migrations, "DIRECTORY", copies)
    for _ in range(2):
        with pytest.raises(migrations.MigrationError, match="division by zero"):
            migrations.apply(pooled_url)
    assert _advisory_locks(clean_database) == 0
    with session():
        assert not database.table_exists("half")


def test_the_inbox_is_processed_once_by_several_consumers_and_no_lock_stays(
    pooled_url: str,  # noqa: ARG001 - the database is open on it
    clean_database: str,
    settings: Settings,
    clean_redis: Redis,
) -> None:
    with session():
        Workspace.create(slug="default")
    tasks.configure_worker(settings, clean_redis)
    add_to_inbox(*(accepted(issue=str(number % 3)) for number in range(60)))
    consumers = [
        threading.Thread(target=InboxConsumer(tasks.processor(), batch_size=7).consume_batch) for _ in range(12)
    ]
    for consumer in consumers:
        consumer.start()
    for consumer in consumers:
        consumer.join(20)
    assert sum(group.count for group in groups()) == 60
    assert depth() == 0
    assert _advisory_locks(clean_database) == 0
