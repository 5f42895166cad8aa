"""Fixtures. None is autouse: a test that requests no server runs without one.

``servers`` are real ones from wheels, and run for the whole session. ``TEST_DATABASE_URL`` and ``TEST_REDIS_URL`` name
other servers to use: on the first a database is created and dropped, the second is emptied.
"""

import contextlib
import os
from collections.abc import Generator, Iterator

import psycopg2
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from redis import Redis

from signalcraft import tasks
from signalcraft.dev import embedded_servers
from signalcraft.settings import Settings
from signalcraft.storage import migrations
from signalcraft.storage.database import database, open_database, session
from signalcraft.storage.models import Workspace
from tests.support import timeouts
from tests.support.tables import empty_tables
from tests.support.web_client import forget_hits

#: Secrets of every test's application: no log line and no output of a test may contain one.
SECRETS = ("test-client-secret", "test-api-token")

#: An example that takes long, or longer than before, says something of the machine and nothing of the code.
hypothesis_settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("any machine")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test during which a secret was logged or printed; keep text that pytest-xdist can send, as UTF-8."""
    report = yield
    report.sections = [(name, text.encode(errors="replace").decode()) for name, text in report.sections]
    for section, written in report.sections:
        if report.outcome == "passed" and any(secret in written for secret in SECRETS):
            report.outcome = "failed"
            report.longrepr = f"{section}: contains a secret"
    return report


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded_servers.Servers]:
    """Embedded Redis and PostgreSQL, which a test may kill and freeze if it restarts them.

    No autovacuum decides by its clock which statistics the plan of a test's query is made of.
    """
    with embedded_servers.servers(tmp_path_factory.mktemp("servers"), durable=False) as running:
        with contextlib.closing(psycopg2.connect(running.database_url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute("ALTER SYSTEM SET autovacuum = off")
            cursor.execute("SELECT pg_reload_conf()")
        yield running


@pytest.fixture(scope="session")
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A migrated database for this session; ``storage.database.database`` is open on it."""
    server_url = os.environ.get("TEST_DATABASE_URL") or request.getfixturevalue("servers").database_url
    name = f"signalcraft_test_{os.getpid()}"
    url = embedded_servers.create_database(server_url, name)
    try:
        migrations.apply(url)
        open_database(url)
        yield url
    finally:
        database.close_all()
        embedded_servers.drop_database(server_url, name)


@pytest.fixture
def clean_database(database_url: str) -> str:
    """The database without rows, ids starting at 1, with the timeouts of a worker; no slow query is logged."""
    database.close_idle()
    database.query_hooks.clear()  # of an earlier test's application
    open_database(database_url)
    empty_tables()
    return database_url


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> str:
    return os.environ.get("TEST_REDIS_URL") or request.getfixturevalue("servers").redis_url


@pytest.fixture
def clean_redis(redis_url: str) -> Iterator[Redis]:
    """A client of the emptied Redis."""
    with Redis.from_url(redis_url) as client:
        forget_hits()
        client.flushdb()
        yield client


@pytest.fixture
def environ(
    clean_database: str,
    clean_redis: Redis,  # noqa: ARG001 - for that it is clean
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """The environment of a deployment on the test servers; a test may change it before it asks for ``settings``.

    Web processes in this one have long timeouts, unless it asks for ``product_timeouts``.
    """
    timeouts.lengthen(monkeypatch)
    return {
        "DATABASE_URL": clean_database,
        "REDIS_URL": redis_url,
        "SENTRY_CLIENT_SECRET": SECRETS[0],
        "API_TOKEN": SECRETS[1],
    }


@pytest.fixture
def product_timeouts(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - it lengthens them
    monkeypatch.undo()


@pytest.fixture
def settings(environ: dict[str, str]) -> Settings:
    return Settings.from_environ(environ)


@pytest.fixture
def redis(clean_redis: Redis, settings: Settings) -> Redis:
    """A client of the emptied Redis, in a process that can process deliveries of the workspace ``default``."""
    with session():
        Workspace.create(slug="default")
    tasks.configure_worker(settings, clean_redis)
    return clean_redis
