"""Secrets pass the whole pipeline, and no log, response, row or repr contains one."""

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
import structlog
from cryptography.fernet import Fernet
from flask.testing import FlaskClient
from redis import Redis

from signalcraft import tasks
from signalcraft.domain.deliveries import AcceptedDelivery, Secret
from signalcraft.ingest.credential_cache import CredentialCache
from signalcraft.queues import jobs
from signalcraft.settings import Settings
from signalcraft.sources.sentry import signature
from signalcraft.storage import tenants
from signalcraft.storage.database import session
from signalcraft.storage.models import ApiToken, WebhookSecret
from signalcraft.worker.batch_worker import BatchWorker
from tests.support.builders import accepted
from tests.support.captured_logs import captured_logs
from tests.support.queues import enqueue_deliveries
from tests.support.web_client import PATH, add_workspace, no_database, sample, send, web

KEY = Fernet.generate_key().decode()
#: Must be found nowhere: a secret of the environment, a stored secret, tokens, text of a body.
CANARIES = {
    "SENTRY_CLIENT_SECRET": "canary-environment-secret",
    "stored": "canary-stored-secret",
    "API_TOKEN": "canary-api-token",
    "METRICS_TOKEN": "canary-metrics-token",
    "legacy": "canary-legacy-token",
    "title": "CanaryError: canary-title",
    "key": KEY,
}
#: Characters that end a line for some reader, or control a terminal.
BREAKERS = "\r\n\x1b[31m\x1b]0;owned\x07\u2028\u2029\x85\x0b\x0c\x00\u202e\ud800"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """The log of SignalCraft and its libraries, as in production, at DEBUG."""
    with captured_logs() as stream:
        yield stream


@pytest.fixture
def secretive(environ: dict[str, str]) -> dict[str, str]:
    add_workspace()
    with session():
        tenants.add_secret("default", "integration", CANARIES["stored"], [KEY], "stored")
        tenants.add_secret("default", "legacy", CANARIES["legacy"], [KEY], "legacy")
    named = ("SENTRY_CLIENT_SECRET", "API_TOKEN", "METRICS_TOKEN")
    return {**environ, **{name: CANARIES[name] for name in named}, "ENCRYPTION_KEY": KEY, "LOG_LEVEL": "DEBUG"}


def send_everything(client: FlaskClient) -> Iterator[str]:
    """Yield the responses to good and bad requests with canaries in every field."""
    title = CANARIES["title"] + BREAKERS
    for secret in (CANARIES["SENTRY_CLIENT_SECRET"], CANARIES["stored"], "wrong"):
        yield send(client, sample(secret=secret, title=title)).get_data(as_text=True)
    poisoned = json.dumps({"action": "triggered", "data": {"event": {"message": title}}}).encode()
    for body in (poisoned, b"canary-title", json.dumps([title]).encode(), json.dumps({"action": [title]}).encode()):
        proof = {"Sentry-Hook-Signature": signature.sign(body, CANARIES["stored"].encode())}
        response = client.post(PATH, data=body, headers={"Content-Type": "application/json", **proof})
        yield response.get_data(as_text=True)
    legacy = sample("legacy.modern", title=title)
    for token in (CANARIES["legacy"], CANARIES["legacy"] + "x"):
        yield send(client, legacy, f"{PATH}?token={token}").get_data(as_text=True)
    for header in ("Authorization", "X-SignalCraft-Workspace", "Sentry-Hook-Resource", "X-Forwarded-For", "User-Agent"):
        yield send(client, sample(secret="wrong"), headers={header: "canary-title\x1b[31m"}).get_data(as_text=True)
    for token in (CANARIES["API_TOKEN"] + "x", CANARIES["METRICS_TOKEN"] + "x"):
        for path in ("/api/v1/groups", "/metrics", "/api/v1/canary-title"):
            yield client.get(path, headers={"Authorization": f"Bearer {token}"}).get_data(as_text=True)


def unreadable() -> AcceptedDelivery:
    """Return a delivery that is dead-lettered: the web process accepts none any more, older ones did."""
    queued = accepted()
    body = json.dumps({"action": "triggered", "title": CANARIES["title"] + BREAKERS}).encode()
    return replace(queued, delivery=replace(queued.delivery, body=body))


def found_in(text: str) -> list[str]:
    return [name for name, canary in CANARIES.items() if canary in text or json.dumps(canary)[1:-1] in text]


def test_a_whole_run_writes_no_secret_no_token_and_no_body_and_one_json_object_a_line(
    secretive: dict[str, str], clean_redis: Redis, written: io.StringIO
) -> None:
    client = web(secretive)
    responses = list(send_everything(client))
    enqueue_deliveries(clean_redis, unreadable())
    described = [clean_redis.hget(key, "description") for key in clean_redis.keys("rq:job:*")]
    settings = Settings.from_environ(secretive)
    tasks.configure_worker(settings, clean_redis)
    BatchWorker(jobs.ALERTS, connection=clean_redis, stages=tasks.processor(), batch_size=9).work(burst=True)
    with no_database(secretive["DATABASE_URL"]):
        client.get("/readyz")
        send(client, sample(secret=CANARIES["stored"]))
    lines = written.getvalue()
    assert len(described) >= 3
    assert "delivery answered" in lines
    assert "delivery processed" in lines
    assert "delivery dead-lettered" in lines
    for text in (lines, "".join(responses), repr(described)):
        assert found_in(text) == []
        assert [line for line in text.split("\n") if "canary" in line.lower()] == []
    assert_one_object_a_line(lines)


def assert_one_object_a_line(text: str) -> None:
    for line in text.removesuffix("\n").split("\n"):
        assert isinstance(json.loads(line), dict)
        assert line.isascii()
        assert line.isprintable()


def test_no_repr_shows_a_secret(secretive: dict[str, str]) -> None:
    settings = Settings.from_environ(secretive)
    directory = CredentialCache(settings)
    access = directory.secrets_of("default", "sentry")
    delivery = sample(secret=CANARIES["stored"], title=CANARIES["title"])
    queued = accepted(title=CANARIES["title"])
    secret = Secret(name="s", kind="integration", value=CANARIES["stored"].encode())
    caller = directory.caller(CANARIES["API_TOKEN"])
    assert caller is not None
    shown = repr([settings, directory, directory._snapshot, access, secret, caller, delivery, queued, queued.delivery])
    assert found_in(shown + str(settings) + f"{access}{secret}") == []
    assert secretive["DATABASE_URL"] not in shown
    assert secretive["REDIS_URL"] not in shown


def test_no_stored_row_holds_a_secret_in_clear(secretive: dict[str, str]) -> None:
    assert secretive
    with session():
        token = tenants.create_token("default", can_write=True, name="mine")
        rows = repr([list(table.select().dicts()) for table in (WebhookSecret, ApiToken)])
    assert found_in(rows) == []
    assert token not in rows


def fail(text: str) -> None:
    raise ValueError(text)


@pytest.mark.parametrize("breaker", [*BREAKERS, BREAKERS])
def test_no_character_of_a_sender_ends_a_line_whatever_field_it_is_in(written: io.StringIO, breaker: str) -> None:
    text = f'a{breaker}b"}}\n{{"event":"forged"'
    log = structlog.get_logger(f"logger{breaker}")
    log.warning(text, **{"field": text, "list": [text], f"name{breaker}": text, "nested": {text: text}})
    logging.getLogger(f"library{breaker}").error("%s", text, extra={"more": text})
    try:
        fail(text)
    except ValueError:
        log.exception("failed")
        logging.getLogger("library").exception(text)
    assert written.getvalue().count("\n") == 4
    assert_one_object_a_line(written.getvalue())
    assert all(json.loads(line)["event"] != "forged" for line in written.getvalue().split("\n")[:-1])
