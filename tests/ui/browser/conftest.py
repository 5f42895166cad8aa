"""One browser, and one web server with groups, for all tests of this folder.

They need Chromium. Where there is none they are skipped, unless BROWSER_TESTS is ``required``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Browser
from redis import Redis

from signalcraft.settings import Settings
from signalcraft.storage import tenants
from signalcraft.storage.database import open_database, session
from signalcraft.web.app import create_app
from tests.support import browser as chromium
from tests.support import browsing
from tests.support.browsing import Visitor
from tests.support.site import WORKSPACE, fill
from tests.support.tables import empty_tables
from tests.support.web_client import SECRET, TOKEN


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium.browser() as launched:
        yield launched


@dataclass
class Site:
    """The running server; ``visit`` opens a browser profile on it, ``ids`` are the groups by name."""

    url: str
    ids: dict[str, int]
    browser: Browser
    session_cookies: list[Any] = field(default_factory=list)
    visitors: list[Visitor] = field(default_factory=list)

    def visit(self, *, signed_in: bool = True, **options: Any) -> Visitor:  # noqa: ANN401 - as ``browsing.visit`` takes them
        visitor = browsing.visit(self.browser, self.url, **options)
        self.visitors.append(visitor)
        if signed_in:
            visitor.context.add_cookies(self.session_cookies)
        return visitor

    def visit_as(self, name: str, *, can_write: bool = True, **options: Any) -> Visitor:  # noqa: ANN401 - likewise
        """Sign in with a new token."""
        with session():
            token = tenants.create_token(WORKSPACE, can_write=can_write, name=name)
        visitor = self.visit(signed_in=False, **options)
        visitor.sign_in(token)
        return visitor


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
    with browsing.serving(create_app(Settings.from_environ(environ))) as url:
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


@pytest.fixture
def visit(site: Site) -> Callable[..., Visitor]:
    return site.visit
