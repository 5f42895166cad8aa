"""A client of the pages, and groups to look at."""

import time
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from redis import Redis

from tests.support.browser_client import sign_in
from tests.support.queues import work
from tests.support.web_client import sample, send, web


@pytest.fixture
def within_an_hour() -> None:
    """Let no hour begin during the test: pages show alerts by hour, and are others then."""
    left = 3_600 - time.time() % 3_600
    if left < 15:
        time.sleep(left)


@pytest.fixture
def client(environ: dict[str, str], redis: Redis) -> FlaskClient:  # noqa: ARG001 - it has a workspace
    """A client that has signed in with API_TOKEN, which may write."""
    client = web(environ)
    assert sign_in(client).status_code == 303
    return client


@pytest.fixture
def alert(client: FlaskClient, redis: Redis) -> Callable[..., None]:
    """Send sample alerts, and process them."""

    def send_all(*titles: str, **params: object) -> None:
        for title in titles:
            assert send(client, sample(title=title, **params)).status_code == 202
        work(redis)

    return send_all
