"""Send requests to the web application, in this process."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from signalcraft.api import context as api_context
from signalcraft.ingest.rate_limits import SharedCounters
from signalcraft.settings import Settings
from signalcraft.sources.protocol import Sample
from signalcraft.sources.sentry import samples
from signalcraft.storage.database import database, open_database, session
from signalcraft.storage.models import Workspace
from signalcraft.web.app import create_app
from tests.support.loop_thread import LoopThread

SECRET = "test-client-secret"
TOKEN = "test-api-token"
PATH = "/webhooks/sentry"
_counters: list[SharedCounters] = []


def add_workspace(slug: str = "default") -> int:
    with session():
        return int(Workspace.create(slug=slug).id)


@contextmanager
def no_database(url: str) -> Iterator[None]:
    """Make PostgreSQL unavailable during the block; then reconnect to ``url``."""
    open_database("postgresql://127.0.0.1:1/nowhere")
    database.close_idle()
    try:
        yield
    finally:
        open_database(url)


def web(environ: Mapping[str, str], **changes: str) -> FlaskClient:
    """A client of a new application, configured by ``environ`` and ``changes``."""
    _loop()  # has its thread from now on, also where a test forbids to start one
    app = create_app(Settings.from_environ({**environ, **changes}))
    _counters.append(api_context.of(app).rate._counters)
    return app.test_client()


def forget_hits() -> None:
    """Drop the hits of applications of earlier tests, which their threads would still add to Redis."""
    while _counters:
        _counters.pop().reset()


def sample(name: str = "event_alert.triggered", *, secret: str = SECRET, **params: object) -> Sample:
    return samples.build(name, secret=secret, **params)


def send(client: FlaskClient, sent: Sample, path: str = PATH, **options: Any) -> TestResponse:  # noqa: ANN401 - as the client takes them
    """Post a sample, served as by a web process, in its loop; ``headers`` among the options override its own."""
    headers = {**sent.headers, **options.pop("headers", {})}
    (served,) = _loop().serve(lambda: client.post(path, **{"data": sent.body, "headers": headers, **options}))
    return served.result(30)


@cache
def _loop() -> LoopThread:
    return LoopThread()


def ask(client: FlaskClient, path: str, token: str = TOKEN) -> TestResponse:
    return client.get(f"/api/v1{path}", headers={"Authorization": f"Bearer {token}"})


def code_of(response: TestResponse) -> str:
    assert response.mimetype == "application/problem+json"
    problem = response.get_json()
    assert problem["status"] == response.status_code
    return str(problem["code"])
