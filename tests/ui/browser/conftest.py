"""One browser, and one web server with groups, for all tests of this folder.

They need Chromium. Where there is none they are skipped, unless BROWSER_TESTS is ``required``.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser
from redis import Redis

from signalcraft.settings import Settings
from signalcraft.storage.database import open_database
from signalcraft.web.app import create_app
from tests.support import browser as chromium
from tests.support import timeouts, wsgi_server
from tests.support.site import Site, fill
from tests.support.tables import empty_tables
from tests.support.web_client import SECRET, TOKEN


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium.browser() as launched:
        yield launched


@pytest.fixture(scope="package")
def running_site(browser: Browser, database_url: str, redis_url: str) -> Iterator[Site]:
    with Redis.from_url(redis_url) as redis:
        redis.flushdb()
    open_database(database_url)
    empty_tables()
    ids = fill(datetime.now(UTC))
    environ = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SENTRY_CLIENT_SECRET": SECRET,
        "API_TOKEN": TOKEN,
        "RATELIMIT_API": "100000/minute",
    }
    with (
        pytest.MonkeyPatch.context() as patched,
        wsgi_server.serving(create_app(Settings.from_environ(environ))) as url,
    ):
        # While Chromium is busy, new tokens and revoked ones may take longer to read than a request waits.
        timeouts.lengthen(patched)
        site = Site(url, ids, browser)
        visitor = site.visit(signed_in=False)
        visitor.sign_in(TOKEN)
        visitor.check()
        site.session_cookies = visitor.context.cookies()
        visitor.context.close()
        site.visitors.clear()
        yield site
    open_database(database_url)


@pytest.fixture
def site(running_site: Site) -> Iterator[Site]:
    """The running server. After a test, nothing that a page did may have been wrong."""
    yield running_site
    try:
        for visitor in running_site.visitors:
            visitor.check()
    finally:
        for visitor in running_site.visitors:
            visitor.context.close()
        running_site.visitors.clear()
