"""A web process that nobody asked for a while knows what changed meanwhile, from the first request on."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from redis import Redis

from signalcraft import http_client
from signalcraft.dev import embedded_servers
from signalcraft.domain.errors import SignalCraftError
from signalcraft.storage import tenants
from signalcraft.storage.database import session
from tests.support import ROOT
from tests.support.queues import depth
from tests.support.waiting import wait_until
from tests.support.web_client import add_workspace, sample

KEY = Fernet.generate_key().decode()
#: Longer than the ten seconds after which a change is known.
IDLE_SECONDS = 11


def add_secret(name: str) -> None:
    with session():
        tenants.add_secret("acme", "integration", f"value-{name}", [KEY], name)


@pytest.fixture
def url(environ: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """A gunicorn as the Procfile starts it."""
    port = str(embedded_servers.free_port())
    with (tmp_path / "web.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "app:app"],
            cwd=ROOT,
            env={**os.environ, **environ, "ENCRYPTION_KEY": KEY, "PORT": port},
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: is_up(url))
        yield url
    finally:
        process.terminate()
        process.wait(15)


def is_up(url: str) -> bool:
    with suppress(SignalCraftError):
        return http_client.get(f"{url}/healthz").status == 200
    return False


def deliver(url: str, secret: str) -> int:
    sent = sample(secret=secret)
    return http_client.post(f"{url}/webhooks/sentry/acme", sent.body, sent.headers).status


@pytest.mark.usefixtures("clean_redis")
def test_an_idle_process_accepts_a_new_secret_and_refuses_a_retired_one_and_a_revoked_token_at_first_asking(
    environ: dict[str, str], request: pytest.FixtureRequest, clean_redis: Redis
) -> None:
    assert environ
    add_workspace("default")
    add_workspace("acme")
    add_secret("old")
    with session():
        token = tenants.create_token("acme", can_write=True, name="oncall")
    url = request.getfixturevalue("url")
    assert deliver(url, "value-old") == 202
    assert http_client.get(f"{url}/api/v1/groups", token=token).status == 200
    add_secret("new")
    with session():
        tenants.retire_secret("acme", "old")
        tenants.revoke_token("acme", "oncall")
    time.sleep(IDLE_SECONDS)
    assert deliver(url, "value-old") == 401
    assert http_client.get(f"{url}/api/v1/groups", token=token).status == 401
    assert deliver(url, "value-new") == 202
    assert any(accepts_newest(url, number) for number in range(10))
    assert clean_redis.llen("rq:queue:alerts") + depth() >= 3


def accepts_newest(url: str, number: int) -> bool:
    """Return whether a secret is accepted as soon as it is there; a busy machine may not read it in time."""
    add_secret(f"newest-{number}")
    return deliver(url, f"value-newest-{number}") == 202
