"""A database that cannot hold Unicode, or has a full disk, is refused with words; reasons are PostgreSQL's own."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
from click.testing import CliRunner, Result
from redis.exceptions import ResponseError

from signalcraft.cli import main
from signalcraft.dev import embedded_servers
from signalcraft.domain.errors import DatabaseUnavailable, DatabaseUnusable, QueueUnavailable
from signalcraft.queues import redis_clients
from signalcraft.storage.database import check_disk, database, open_database, session
from signalcraft.storage.models import AlertEvent
from tests.support.builders import groups, pending_event, record
from tests.support.web_client import add_workspace, web

Execute = Callable[..., None]

_IDENTITY_KEY = "CONSTRAINT alert_event_identity_key UNIQUE (workspace_id, source, source_event_id)"


@pytest.fixture
def execute(clean_database: str) -> Iterator[Execute]:
    """Execute statements, each in a transaction of its own; the session's database is open again afterwards."""
    with closing(psycopg2.connect(clean_database)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        yield cursor.execute
    database.close_all()
    open_database(clean_database)


@pytest.fixture(params=["SQL_ASCII", "LATIN1"])
def narrow_url(request: pytest.FixtureRequest, clean_database: str, execute: Execute) -> Iterator[str]:
    """A database that cannot hold Unicode."""
    database.close_all()
    execute(f"CREATE DATABASE narrow TEMPLATE template0 ENCODING '{request.param}' LOCALE 'C'")
    yield urlunsplit(urlsplit(clean_database)._replace(path="/narrow"))
    database.close_all()
    execute("DROP DATABASE narrow WITH (FORCE)")  # a probe that came too late may be connected


def run(environ: dict[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(main.main, arguments, env=environ)


def readiness(environ: dict[str, str]) -> dict[str, str]:
    """Return what ``/readyz`` says of PostgreSQL, asking again while the machine is too busy to probe it in time."""
    client = web(environ)
    answers = (client.get("/readyz").get_json()["postgresql"] for _ in range(10))
    return next(answer for answer in answers if answer["state"] != "silent")


def test_a_database_that_cannot_hold_unicode_is_refused_with_words(environ: dict[str, str], narrow_url: str) -> None:
    environ["DATABASE_URL"] = narrow_url
    migrated, examined = run(environ, "migrate"), run(environ, "doctor")
    ready = readiness(environ)
    assert (migrated.exit_code, examined.exit_code, ready["state"]) == (1, 1, "away")
    for says in (migrated.stderr, examined.stdout, ready["reason"]):
        assert "cannot hold Unicode: create another with `createdb --template=template0 --encoding=UTF8`" in says
    assert migrated.stderr.count("\n") == 1


def test_while_the_database_cannot_hold_unicode_deliveries_wait(narrow_url: str) -> None:
    open_database(narrow_url)
    database.close_idle()
    with pytest.raises(DatabaseUnusable), session():
        pass


def test_a_role_with_another_client_encoding_stores_unicode(clean_database: str, execute: Execute) -> None:
    execute("ALTER ROLE CURRENT_USER SET client_encoding = 'LATIN1'")
    try:
        database.close_all()
        open_database(clean_database)
        add_workspace()
        record(pending_event("日本語 🎉"))
        with session():
            assert AlertEvent.select(AlertEvent.source_event_id).scalar() == "日本語 🎉"
    finally:
        execute("ALTER ROLE CURRENT_USER RESET client_encoding")


def test_a_null_in_an_array_stays_null_whatever_the_default_of_the_role(clean_database: str, execute: Execute) -> None:
    execute("ALTER ROLE CURRENT_USER SET array_nulls = off")
    try:
        database.close_all()
        open_database(clean_database)
        add_workspace()
        record(pending_event("a", link=None), pending_event("b", issue="2", link=None))
        assert [group.link for group in groups()] == [None, None]
    finally:
        execute("ALTER ROLE CURRENT_USER RESET array_nulls")


@pytest.mark.parametrize(
    ("change", "undo", "says"),
    [
        (
            "ALTER TABLE alert_event DROP CONSTRAINT alert_event_identity_key",
            f"ALTER TABLE alert_event ADD {_IDENTITY_KEY}",
            "no unique or exclusion constraint matching the ON CONFLICT specification: a unique constraint of ours is",
        ),
        (
            "CREATE ROLE guest LOGIN",
            "DROP ROLE guest",
            "permission denied for table [a-z_]+: grant it to the role of DATABASE_URL",
        ),
    ],
)
def test_a_change_of_tables_or_privileges_is_no_deliverys_fault(
    clean_database: str, execute: Execute, change: str, undo: str, says: str
) -> None:
    add_workspace()
    execute(change)
    try:
        if "guest" in change:
            database.close_all()
            open_database(clean_database.replace("postgres@", "guest@"))
        with pytest.raises(DatabaseUnusable, match=says), session():
            record(pending_event("a"))
    finally:
        database.close_all()
        execute(undo)


def test_before_migrate_has_run_commands_and_readyz_say_what_to_do(
    environ: dict[str, str], clean_database: str, execute: Execute
) -> None:
    database.close_all()
    execute("CREATE DATABASE unmigrated TEMPLATE template0")
    environ["DATABASE_URL"] = urlunsplit(urlsplit(clean_database)._replace(path="/unmigrated"))
    try:
        listed, examined = run(environ, "failed", "list"), run(environ, "doctor")
        ready = readiness(environ)
    finally:
        database.close_all()
        execute("DROP DATABASE unmigrated WITH (FORCE)")
    assert listed.stderr == ('Error: relation "failed_delivery" does not exist: run `python -m signalcraft migrate`\n')
    assert "Run `python -m signalcraft migrate`" in examined.stdout
    assert ready["state"] == "behind"
    assert "`python -m signalcraft migrate`" in ready["reason"]


@pytest.fixture
def full_disk(execute: Execute, servers: embedded_servers.Servers) -> Iterator[None]:  # noqa: ARG001 - embedded, so its files are here
    """The directory of PostgreSQL's temporary files is a full file system."""
    with session():
        (data,) = database.execute_sql("SHOW data_directory").fetchone()
    owner, place = Path(data).stat(), Path(data) / "base" / "pgsql_tmp"
    place.mkdir(exist_ok=True)
    options = f"size=16k,uid={owner.st_uid},gid={owner.st_gid},mode=700"
    mounted = subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", options, "none", place], check=False)
    if mounted.returncode:
        place.rmdir()
        pytest.skip("cannot mount a file system")
    yield
    subprocess.run(["/bin/umount", "-l", place], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_said_by_readyz_and_doctor(environ: dict[str, str]) -> None:
    add_workspace()
    ready, examined = readiness(environ), run(environ, "doctor")
    assert ready["state"] == "away"
    for says in (ready["reason"], examined.stdout):
        assert "No space left on device: PostgreSQL's disk is full, make room on it" in says


@pytest.mark.usefixtures("clean_database")
def test_a_disk_with_room_passes() -> None:
    check_disk()


@pytest.mark.parametrize("port", [1, None])
def test_the_reason_is_the_first_line_of_libpq_without_the_password(
    port: int | None,
    clean_database: str,
    servers: embedded_servers.Servers,  # noqa: ARG001 - embedded
) -> None:
    place = "127.0.0.1:1/none" if port else clean_database.partition("@")[2].replace("signalcraft_test", "missing")
    open_database(f"postgresql://somebody:hunter2-pw@{place}")
    database.close_idle()
    try:
        with pytest.raises(DatabaseUnavailable) as raised, session():
            pass
    finally:
        open_database(clean_database)
    says = str(raised.value)
    assert says.startswith("connection to server ")
    assert ("Connection refused" if port else "FATAL:") in says
    assert "hunter2" not in says
    assert "\n" not in says


def test_the_reason_of_redis_is_its_first_line_without_arguments(redis_url: str) -> None:
    host = redis_url.partition("@")[2]
    for url, expected in (
        ("redis://:hunter2-pw@127.0.0.1:1", "Error 111 connecting to 127.0.0.1:1. Connection refused."),
        (f"redis://:hunter2-pw@{host}", "invalid username-password pair or user is disabled."),
    ):
        with pytest.raises(QueueUnavailable) as raised:
            redis_clients.check_writable(redis_clients.for_web(url))
        assert str(raised.value) == expected
    quoting = ResponseError("unknown command 'EVALSHA', with args beginning with: 'hunter2-pw' ")
    assert redis_clients.reason(quoting) == "unknown command 'EVALSHA'"
