"""Receiving: which deliveries are accepted, which are refused and how, and where an acknowledged one is stored."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.fernet import Fernet
from flask.testing import FlaskClient
from redis import Redis
from rq.utils import as_text
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from signalcraft.dev import embedded_servers
from signalcraft.domain.deliveries import Delivery
from signalcraft.ingest import durable_enqueue
from signalcraft.sources.sentry import signature
from signalcraft.storage import tenants
from signalcraft.storage.database import session
from signalcraft.storage.delivery_models import Inbox
from tests.support.builders import accepted
from tests.support.stopwatch import stopwatch
from tests.support.waiting import wait_until
from tests.support.web_client import PATH, SECRET, add_workspace, code_of, no_database, sample, send, web

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def client(environ: dict[str, str]) -> FlaskClient:
    add_workspace()
    return web(environ)


def signed(body: bytes, *, resource: str = "event_alert", secret: str = SECRET) -> dict[str, object]:
    """Return the arguments that post ``body``, however malformed, with a valid signature."""
    headers = {
        "Content-Type": "application/json",
        "Sentry-Hook-Resource": resource,
        "Sentry-Hook-Signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
    }
    return {"data": body, "headers": headers}


def queued(redis: Redis) -> list[str]:
    return [as_text(job_id) for job_id in redis.lrange("rq:queue:alerts", 0, -1)]


def inbox_rows() -> list[Inbox]:
    with session():
        return list(Inbox.select().order_by(Inbox.id))


# --- accepted deliveries


def test_a_signed_delivery_is_accepted_and_queued(client: FlaskClient, clean_redis: Redis) -> None:
    response = send(client, sample())
    assert response.status_code == 202
    assert response.get_json() == {"status": "accepted", "delivery_id": queued(clean_redis)[0]}


def test_the_id_of_a_delivery_begins_with_the_time(client: FlaskClient, clean_redis: Redis) -> None:
    """So that the index of events gets ids of one moment side by side."""
    before = time.time_ns()
    delivery_id = send(client, sample()).get_json()["delivery_id"]
    assert before // 1_000_000 <= int(delivery_id[:12], 16) <= time.time_ns() // 1_000_000
    assert len(delivery_id) == 32
    assert queued(clean_redis) == [delivery_id]


def test_a_redelivery_is_a_duplicate_of_the_first(client: FlaskClient, clean_redis: Redis) -> None:
    first = send(client, sample(event_id="a" * 32)).get_json()
    again = send(client, sample(event_id="a" * 32), headers={"Request-ID": "f" * 32, "Sentry-Hook-Timestamp": "1"})
    assert again.status_code == 200
    assert again.get_json() == {"status": "duplicate", "delivery_id": first["delivery_id"]}
    assert len(queued(clean_redis)) == 1


@pytest.mark.parametrize("name", ["installation.created", "comment.created", "seer.pr_created"])
def test_a_verified_delivery_without_an_alert_is_ignored_with_a_reason(
    client: FlaskClient, clean_redis: Redis, name: str
) -> None:
    response = send(client, sample(name))
    assert response.status_code == 200
    assert response.get_json()["status"] == "ignored"
    assert response.get_json()["reason"]
    assert queued(clean_redis) == []


def test_a_resource_that_sentry_adds_tomorrow_is_ignored(client: FlaskClient) -> None:
    body = json.dumps({"action": "happened", "data": {"comet": {}}}).encode()
    response = client.post(PATH, **signed(body, resource="comet"))
    assert (response.status_code, response.get_json()["status"]) == (200, "ignored")


@pytest.mark.parametrize("path", [PATH, f"{PATH}/", f"{PATH}/default", f"{PATH}/default/"])
def test_no_spelling_of_the_path_is_redirected(client: FlaskClient, path: str) -> None:
    assert send(client, sample(), path).status_code == 202


def test_the_response_names_sentrys_project(client: FlaskClient) -> None:
    response = send(client, sample("issue.created", project="checkout"))
    assert response.status_code == 202
    assert response.headers["Sentry-Hook-Project"]


def test_the_path_names_the_workspace_else_the_header_else_the_default(environ: dict[str, str]) -> None:
    add_workspace("acme")
    client = web(environ, DEFAULT_WORKSPACE="acme")
    assert send(client, sample()).status_code == 202
    assert send(client, sample(), headers={"X-SignalCraft-Workspace": "acme"}).status_code == 202
    assert send(client, sample(), headers={"X-SignalCraft-Workspace": "other"}).status_code == 401
    assert send(client, sample(), f"{PATH}/acme", headers={"X-SignalCraft-Workspace": "other"}).status_code == 202
    assert send(client, sample(), f"{PATH}/other", headers={"X-SignalCraft-Workspace": "acme"}).status_code == 401


def test_every_live_secret_verifies_a_delivery(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ, SENTRY_CLIENT_SECRET="old, new")
    assert [send(client, sample(secret=secret)).status_code for secret in ("old", "new", "other")] == [202, 202, 401]


@pytest.mark.parametrize(
    "odd",
    [
        b'"\\u0000"',
        b'"\\ud800"',
        b"NaN",
        b"-Infinity",
        b"1" * 5000,
        b"1e999",
        '"caf\u00e9"'.encode(),
    ],
    ids=["nul", "lone surrogate", "nan", "infinity", "huge int", "huge float", "utf-8"],
)
def test_odd_nested_values_are_accepted(client: FlaskClient, odd: bytes) -> None:
    event = b'{"event_id":"' + b"a" * 32 + b'","title":"t","extra":{"odd":' + odd + b"}}"
    body = b'{"action":"triggered","installation":{},"data":{"event":' + event + b',"triggered_rule":' + odd + b"}}"
    assert client.post(PATH, **signed(body)).status_code == 202


def test_a_secret_that_was_just_added_works_at_once(environ: dict[str, str]) -> None:
    key = Fernet.generate_key().decode()
    add_workspace("acme")
    client = web(environ, ENCRYPTION_KEY=key)
    assert send(client, sample(secret="fresh"), f"{PATH}/acme").status_code == 401
    with session():
        tenants.add_secret("acme", "integration", "fresh", [key])
    assert send(client, sample(secret="fresh"), f"{PATH}/acme").status_code == 202


# --- refused deliveries


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"not json", 400, "body_not_json"),
        (b"\xff\xfe", 400, "body_not_json"),
        (b"[]", 400, "body_not_object"),
        (b"7", 400, "body_not_object"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "body_too_deep"),
        (b"[" * 100_000 + b"]" * 100_000, 400, "body_too_deep"),
        (b"{}", 422, "fields_invalid"),
        (b'{"action":"triggered"}', 422, "fields_invalid"),
        (b'{"action":7,"data":{}}', 422, "fields_invalid"),
        (b'{"action":"triggered","data":[]}', 422, "fields_invalid"),
        (b'{"action":"triggered","data":{"metric_alert":{"id":"1"}}}', 422, "resource_mismatch"),
    ],
)
def test_a_signed_body_that_is_no_delivery_is_refused_with_its_code(
    client: FlaskClient, clean_redis: Redis, body: bytes, status: int, code: str
) -> None:
    response = client.post(PATH, **signed(body))
    assert (response.status_code, code_of(response)) == (status, code)
    if code == "fields_invalid":
        assert response.get_json()["errors"]
    assert queued(clean_redis) == []
    assert send(client, sample()).status_code == 202


def test_an_empty_body_is_not_json(client: FlaskClient) -> None:
    response = client.post(PATH, **signed(b""), environ_overrides={"CONTENT_LENGTH": "0"})
    assert (response.status_code, code_of(response)) == (400, "body_not_json")


def flip(position: int) -> Callable[[str], str]:
    return lambda good: good[:position] + ("0" if good[position] != "0" else "1") + good[position + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: "",
        lambda _: "0" * 64,
        lambda good: good[:-1],
        lambda good: good + "0",
        lambda good: good.upper(),
        lambda good: "sha256=" + good,
        lambda good: f"{good}, {good}",
        lambda good: good[:-1] + "\u00e9",
        flip(0),
        flip(31),
        flip(63),
    ],
)
def test_a_signature_that_is_not_exactly_right_is_refused(
    client: FlaskClient, clean_redis: Redis, spoil: Callable[[str], str]
) -> None:
    good = sample()
    response = send(client, good, headers={"Sentry-Hook-Signature": spoil(good.headers["Sentry-Hook-Signature"])})
    assert (response.status_code, code_of(response)) == (401, "signature_invalid")
    assert queued(clean_redis) == []


def test_a_signature_of_another_body_is_refused(client: FlaskClient) -> None:
    one, other = sample(), sample()
    response = send(client, other, headers={"Sentry-Hook-Signature": one.headers["Sentry-Hook-Signature"]})
    assert response.status_code == 401


def test_without_a_secret_every_delivery_is_refused(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ, SENTRY_CLIENT_SECRET="")
    assert send(client, sample(secret="x")).status_code == 401
    assert send(client, sample(), headers={"Sentry-Hook-Signature": ""}).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/options"), ("POST", "/alert-rule"), ("GET", "/webhooks/sentry")]
)
def test_a_ui_component_request_to_another_path_is_named_in_the_response(
    client: FlaskClient, method: str, path: str
) -> None:
    response = client.open(path, method=method, headers={"Sentry-App-Signature": "0" * 64})
    assert (response.status_code, code_of(response)) == (422, "ui_component_request")
    assert client.open(path, method=method).status_code in (404, 405)


def test_a_ui_component_request_is_named_in_the_response(client: FlaskClient) -> None:
    body = b'{"fields":[],"installationId":"x"}'
    headers = {"Content-Type": "application/json", "Sentry-App-Signature": signature.sign(body, SECRET.encode())}
    response = client.post(PATH, data=body, headers=headers)
    assert (response.status_code, code_of(response)) == (422, "ui_component_request")


def test_an_unknown_workspace_is_indistinguishable_from_a_bad_signature(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    signings: list[bytes] = []
    sign = signature.sign

    def counted(body: bytes, secret: bytes) -> str:
        signings.append(body)
        return sign(body, secret)

    monkeypatch.setattr(signature, "sign", counted)
    bad, worked = send(client, sample(secret="wrong")), len(signings)
    signings.clear()
    unknown = send(client, sample(), f"{PATH}/nobody")
    assert len(signings) == worked == 1
    assert bad.status_code == unknown.status_code == 401
    assert bad.data == unknown.data
    assert list(bad.headers.keys()) == list(unknown.headers.keys())


# --- size, length and type of the body


def test_a_body_up_to_the_limit_is_accepted_and_one_byte_more_is_refused(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ, MAX_BODY_BYTES="16384")
    fitting = sample(size=16384)
    assert len(fitting.body) == 16384
    assert send(client, fitting).status_code == 202
    for too_large in (send(client, sample(size=16385)), claim_length(client, "9" * 5000)):
        assert (too_large.status_code, code_of(too_large)) == (413, "body_too_large")


def claim_length(client: FlaskClient, length: str) -> TestResponse:
    return send(client, sample(), environ_overrides={"CONTENT_LENGTH": length})


def test_a_body_without_a_length_is_refused(client: FlaskClient) -> None:
    for environ_overrides in ({"CONTENT_LENGTH": ""}, {"CONTENT_LENGTH": "-1"}, {"HTTP_TRANSFER_ENCODING": "chunked"}):
        response = send(client, sample(), environ_overrides=environ_overrides)
        assert (response.status_code, code_of(response)) == (411, "length_required")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": ""},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Encoding": "gzip"},
    ],
)
def test_only_plain_json_is_accepted(client: FlaskClient, headers: dict[str, str]) -> None:
    response = send(client, sample(), headers=headers)
    assert (response.status_code, code_of(response)) == (415, "media_unsupported")


def test_json_with_the_charset_utf_8_is_accepted(client: FlaskClient) -> None:
    headers = {"Content-Type": "application/json; charset=UTF-8", "Content-Encoding": "identity"}
    assert send(client, sample(), headers=headers).status_code == 202


def test_other_methods_are_refused_with_the_allowed_one(client: FlaskClient) -> None:
    response = client.get(PATH)
    assert (response.status_code, code_of(response)) == (405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


# --- limits


def test_a_workspace_has_a_limit_and_headers_that_show_it(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ, RATELIMIT_WEBHOOK="2/hour")
    responses = [send(client, sample()) for _ in range(3)]
    assert [response.status_code for response in responses] == [202, 202, 429]
    assert [response.headers["X-RateLimit-Remaining"] for response in responses] == ["1", "0", "0"]
    assert code_of(responses[2]) == "rate_limited"
    assert 3500 < int(responses[2].headers["Retry-After"]) <= 3600
    assert "Retry-After" not in responses[0].headers


def test_the_limit_of_one_workspace_is_not_anothers(environ: dict[str, str]) -> None:
    add_workspace()
    add_workspace("acme")
    client = web(environ, RATELIMIT_WEBHOOK="1/hour")
    assert [send(client, sample()).status_code for _ in range(2)] == [202, 429]
    other = web(environ, RATELIMIT_WEBHOOK="1/hour", DEFAULT_WORKSPACE="acme")
    assert send(other, sample()).status_code == 202


def test_processes_learn_what_the_others_counted(environ: dict[str, str]) -> None:
    add_workspace()
    one, other = (web(environ, RATELIMIT_WEBHOOK="10/hour") for _ in range(2))
    for _ in range(10):
        assert send(one, sample()).status_code == 202
    send(other, sample())
    deadline = time.monotonic() + 5
    while send(other, sample()).status_code == 202:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_junk_is_first_refused_and_then_limited_and_never_blocks_the_real_sender(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ, RATELIMIT_ADDRESS="3/hour", RATELIMIT_WEBHOOK="3/hour")
    junk = [send(client, sample(secret="wrong")) for _ in range(5)]
    assert [response.status_code for response in junk] == [401, 401, 401, 429, 429]
    assert int(junk[4].headers["Retry-After"]) > 0
    assert [send(client, sample()).status_code for _ in range(3)] == [202, 202, 202]


def test_a_forged_forwarding_header_gains_nothing(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ, RATELIMIT_ADDRESS="1/hour")
    forged = [send(client, sample(secret="x"), headers={"X-Forwarded-For": f"10.0.0.{n}"}) for n in range(2)]
    assert [response.status_code for response in forged] == [401, 429]


def test_behind_a_trusted_proxy_its_forwarding_header_sets_the_address(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ, RATELIMIT_ADDRESS="1/hour", TRUSTED_PROXIES="1")
    others = [send(client, sample(secret="x"), headers={"X-Forwarded-For": f"6.6.6.6, 10.0.0.{n}"}) for n in range(2)]
    assert [response.status_code for response in others] == [401, 401]
    again = send(client, sample(secret="x"), headers={"X-Forwarded-For": "7.7.7.7, 10.0.0.1"})
    assert again.status_code == 429


def test_limits_are_counted_in_memory_while_redis_is_unavailable(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ, RATELIMIT_WEBHOOK="2/hour", REDIS_URL=NOWHERE)
    assert [send(client, sample()).status_code for _ in range(3)] == [202, 202, 429]


# --- where a delivery is stored during outages


def test_without_redis_a_delivery_is_added_to_the_inbox_and_acknowledged(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ, REDIS_URL=NOWHERE)
    sent = sample(event_id="a" * 32)
    response = send(client, sent)
    assert response.status_code == 202
    (row,) = inbox_rows()
    assert row.delivery_id == response.get_json()["delivery_id"]
    assert bytes(row.body) == sent.body
    assert row.headers_json["sentry-hook-resource"] == "event_alert"
    again = send(client, sent)
    assert (again.status_code, again.get_json()["status"]) == (200, "duplicate")
    assert again.get_json()["delivery_id"] == row.delivery_id
    assert len(inbox_rows()) == 1


def test_inbox_durability_adds_every_delivery_to_the_inbox(environ: dict[str, str], clean_redis: Redis) -> None:
    add_workspace()
    assert send(web(environ, INGEST_DURABILITY="inbox"), sample()).status_code == 202
    assert len(inbox_rows()) == 1
    assert queued(clean_redis) == []


def test_redis_durability_acknowledges_nothing_without_redis(environ: dict[str, str]) -> None:
    add_workspace()
    response = send(web(environ, INGEST_DURABILITY="redis", REDIS_URL=NOWHERE), sample())
    assert (response.status_code, code_of(response)) == (503, "unavailable")
    assert inbox_rows() == []


def test_with_redis_and_postgresql_unavailable_nothing_is_acknowledged(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ, REDIS_URL=NOWHERE)
    assert send(client, sample(secret="wrong")).status_code == 401
    with no_database(environ["DATABASE_URL"]):
        response = send(client, sample())
    assert (response.status_code, code_of(response)) == (503, "unavailable")
    assert int(response.headers["Retry-After"]) > 0


def test_with_postgresql_unavailable_deliveries_are_still_accepted(environ: dict[str, str], clean_redis: Redis) -> None:
    add_workspace()
    client = web(environ)
    assert send(client, sample()).status_code == 202
    with no_database(environ["DATABASE_URL"]):
        assert send(client, sample()).status_code == 202
        assert send(client, sample(secret="wrong")).status_code == 401
    assert len(queued(clean_redis)) == 2


def test_before_the_secrets_are_cached_a_missing_database_is_unavailable_and_not_a_bad_signature(
    environ: dict[str, str],
) -> None:
    add_workspace()
    client = web(environ)
    with no_database(environ["DATABASE_URL"]):
        response = send(client, sample())
    assert (response.status_code, code_of(response)) == (503, "unavailable")
    assert int(response.headers["Retry-After"]) > 0


@pytest.fixture
def frozen_redis(servers: embedded_servers.Servers) -> Iterator[Callable[[], None]]:
    try:
        yield servers.redis.freeze
    finally:
        servers.redis.thaw()


@pytest.mark.usefixtures("product_timeouts")
def test_a_frozen_redis_costs_one_slow_response_and_no_delivery(
    environ: dict[str, str], servers: embedded_servers.Servers, frozen_redis: Callable[[], None]
) -> None:
    add_workspace()
    client = web(environ, REDIS_URL=servers.redis_url)
    wait_until(lambda: send(client, sample()).status_code == 202)  # the credentials are read

    def scraped(series: str) -> float:
        """Ask again while Redis or PostgreSQL was too slow for the scrape."""
        pages = (client.get("/metrics").get_data(as_text=True) for _ in range(20))
        return next(value_of(series, page) for page in pages if f"\n{series} " in page)

    before, stored_before = scraped("signalcraft_shelved_total"), len(inbox_rows())
    frozen_redis()
    seconds = []
    for _ in range(5):
        with stopwatch() as watch:
            assert send(client, sample()).status_code == 202
        seconds.append(watch.seconds)
    assert max(seconds) < 0.7
    assert sorted(seconds)[-2] < 0.2
    assert len(inbox_rows()) == stored_before + 5
    servers.redis.thaw()
    wait_until(lambda: scraped("signalcraft_shelved_total") == before + 5)
    assert scraped("signalcraft_inbox_oldest_seconds") > 0


# --- logs and metrics


def test_each_delivery_is_one_log_line_without_its_contents(client: FlaskClient) -> None:
    with capture_logs() as lines:
        accepted = send(client, sample(title="CanaryError: secret-canary"), f"{PATH}?token=secret-canary")
        send(client, sample(secret="wrong"), headers={"Sentry-Hook-Resource": "secret-canary"})
    answered = [line for line in lines if line["event"] == "delivery answered"]
    assert [line["status"] for line in answered] == [202, 401]
    assert answered[0]["delivery_id"] == accepted.get_json()["delivery_id"]
    assert answered[0]["workspace"] == "default"
    assert (answered[0]["resource"], answered[0]["action"]) == ("event_alert", "triggered")
    assert (answered[1]["answer"], answered[1]["resource"]) == ("signature_invalid", None)
    assert all(line["log_level"] == "info" and line["stage"] == "receive" for line in answered)
    assert "secret-canary" not in repr(lines)
    assert SECRET not in repr(lines)


def test_a_delivery_that_is_lost_is_logged_as_an_error(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ, INGEST_DURABILITY="redis", REDIS_URL=NOWHERE)
    with capture_logs() as lines:
        send(client, sample())
    (line,) = [line for line in lines if line["event"] == "delivery answered"]
    assert (line["status"], line["log_level"]) == (503, "error")


def test_an_unavailable_redis_is_logged_once_and_not_for_each_delivery(environ: dict[str, str]) -> None:
    add_workspace()
    client = web(environ, REDIS_URL=NOWHERE)
    with capture_logs() as lines:
        first, *_ = [send(client, sample()).get_json()["delivery_id"] for _ in range(20)]
    (line,) = [line for line in lines if line["event"] == "enqueue failed, Redis unavailable"]
    assert (line["log_level"], line["delivery_id"], line["reason"]) == (
        "warning",
        first,
        "Error 111 connecting to 127.0.0.1:1. Connection refused.",
    )


def test_a_delivery_to_a_mistyped_path_is_logged(client: FlaskClient) -> None:
    with capture_logs() as lines:
        send(client, sample(), "/webhooks/senty/secret-canary")
    (line,) = [line for line in lines if line["event"] == "request answered"]
    assert (line["method"], line["path"], line["status"]) == ("POST", None, 404)
    assert "secret-canary" not in repr(lines)


def test_each_delivery_is_counted_also_a_refused_one(client: FlaskClient) -> None:
    before = client.get("/metrics").get_data(as_text=True)
    send(client, sample("installation.deleted"))
    send(client, sample(secret="wrong"))
    send(client, sample(), headers={"Content-Type": "text/plain"})
    after = client.get("/metrics").get_data(as_text=True)
    for answer, resource in (
        ("ignored", "installation"),
        ("signature_invalid", "unknown"),
        ("media_unsupported", "unknown"),
    ):
        line = f'signalcraft_webhooks_total{{answer="{answer}",resource="{resource}",source="sentry"}}'
        assert value_of(line, after) == value_of(line, before) + 1


def value_of(series: str, exposition: str) -> float:
    values = [line.rpartition(" ")[2] for line in exposition.splitlines() if line.startswith(series)]
    return float(values[0]) if values else 0.0


def test_an_internal_error_is_logged_and_not_shown(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = "secret-canary"

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError(canary)

    monkeypatch.setattr("signalcraft.ingest.routes.receive.receive", fail)
    client.application.config["PROPAGATE_EXCEPTIONS"] = False
    with capture_logs() as lines:
        response = send(client, sample())
    assert (response.status_code, code_of(response)) == (500, "internal_error")
    assert canary not in response.get_data(as_text=True)
    (line,) = [line for line in lines if line["event"] == "request failed"]
    assert line["error"] == "ZeroDivisionError"
    assert canary not in str(line), "a message can quote a body"


def test_a_clock_that_is_set_back_gives_a_delivery_no_more_than_the_response_timeout() -> None:
    an_hour_ahead = datetime.now(UTC) + timedelta(hours=1)
    delivery = Delivery(headers={}, body=b"{}", received_at=an_hour_ahead)
    assert durable_enqueue._seconds_left(replace(accepted(), delivery=delivery)) <= 0.8
