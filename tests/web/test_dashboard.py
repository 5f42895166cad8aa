"""rq-dashboard in the web process and as a command: it shows our queues, read-only."""

import os
import re
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
import rq_dashboard
from click.testing import CliRunner
from flask.testing import FlaskClient
from redis import Redis

from signalcraft import tasks, thread_budgets
from signalcraft.cli import main
from signalcraft.dev import embedded_servers
from signalcraft.ingest import context
from signalcraft.queues import enqueue, jobs
from signalcraft.web import dashboard
from signalcraft.worker.batch_worker import BatchWorker
from tests.support import ROOT
from tests.support.builders import accepted
from tests.support.waiting import wait_until
from tests.support.web_client import web

PASSWORD = "look, do not touch"
WITH_PASSWORD = {"Authorization": "Basic " + b64encode(f"anybody:{PASSWORD}".encode()).decode()}


@pytest.fixture
def client(redis_url: str) -> Iterator[FlaskClient]:
    app = dashboard.create_dashboard(redis_url, PASSWORD)
    yield app.test_client()
    app.redis_conn.connection_pool.disconnect()  # type: ignore[attr-defined]  # rq-dashboard's place for it


def snapshot(redis: Redis) -> dict[bytes, object]:
    """Return all keys in Redis except rates: the web process of an earlier test may still be synchronizing its own."""
    read = {b"hash": redis.hgetall, b"set": redis.smembers, b"string": redis.get, b"stream": redis.xrange}
    read |= {b"list": lambda key: redis.lrange(key, 0, -1), b"zset": lambda key: redis.zrange(key, 0, -1)}
    return {key: read[redis.type(key)](key) for key in redis.scan_iter() if not key.startswith(b"signalcraft:rate:")}


@pytest.mark.parametrize("path", ["/", "/0/view/workers", "/0/data/queues.json", "/static/css/bootstrap.min.css"])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic bm86"}, {"Authorization": "Bearer x"}])
def test_without_the_password_every_page_is_refused(client: FlaskClient, path: str, headers: dict[str, str]) -> None:
    response = client.get(path, headers=headers)
    assert (response.status_code, "Basic" in response.headers["WWW-Authenticate"]) == (401, True)


def test_it_shows_queues_jobs_and_workers_with_their_json_arguments(client: FlaskClient, redis: Redis) -> None:
    waiting = accepted()
    enqueue.enqueue_once(redis, waiting, ttl_seconds=60)
    worker = BatchWorker(jobs.ALERTS, connection=redis, stages=tasks.processor(), batch_size=1)
    worker.register_birth()
    redis.hset(worker.key, "current_job", waiting.delivery_id)
    before = snapshot(redis)
    for path in ("/", "/0/view/jobs/alerts/queued/8/asc/1", f"/0/view/job/{waiting.delivery_id}", "/0/view/workers"):
        assert client.get(path, headers=WITH_PASSWORD).status_code == 200, path
    queues = client.get("/0/data/queues.json", headers=WITH_PASSWORD).get_json()["queues"]
    assert [(queue["name"], queue["count"]) for queue in queues] == [("alerts", 1)]
    listed = client.get("/0/data/jobs/alerts/queued/8/asc/1.json", headers=WITH_PASSWORD).get_json()["jobs"]
    assert [job["id"] for job in listed] == [waiting.delivery_id]
    job = client.get(f"/0/data/job/{waiting.delivery_id}.json", headers=WITH_PASSWORD).get_json()
    assert job["description"] == "sentry event_alert"
    (shown,) = client.get("/0/data/workers.json", headers=WITH_PASSWORD).get_json()["workers"]
    assert shown["queues"] == ["alerts"]
    assert snapshot(redis) == before


@pytest.mark.parametrize("path", ["/", "/0/view/jobs", "/0/view/workers"])
def test_its_policy_allows_what_its_pages_need_and_no_script_of_a_job(client: FlaskClient, path: str) -> None:
    """Seen in a browser: a page whose templates may not be compiled shows "Loading..." forever."""
    page = client.get(path, headers=WITH_PASSWORD)
    policy = page.headers["Content-Security-Policy"]
    (scripts,) = re.findall(r"script-src ([^;]+);", policy)
    (nonce,) = re.findall(r"'nonce-([^']+)'", scripts)
    assert "'unsafe-eval'" in scripts, "Underscore's templates are compiled in the browser"
    assert "'unsafe-inline'" not in scripts, "descriptions and errors of jobs are written into the page as they are"
    inline = [
        tag for tag in re.findall(r"<script[^>]*>", page.text) if "src=" not in tag and "text/template" not in tag
    ]
    assert inline == [f'<script nonce="{nonce}">']
    assert "img-src 'self' data:" in policy, "Bootstrap's arrows are in its stylesheet"
    assert client.get(path, headers=WITH_PASSWORD).headers["Content-Security-Policy"] != policy


def test_no_page_has_a_button_that_would_be_refused(client: FlaskClient, clean_redis: Redis) -> None:
    waiting = accepted()
    enqueue.enqueue_once(clean_redis, waiting, ttl_seconds=60)
    lists = ("/0/view/jobs/alerts/queued/8/asc/1", "/0/view/jobs/alerts/failed/8/asc/1")
    for path in (*lists, f"/0/view/job/{waiting.delivery_id}"):
        page = client.get(path, headers=WITH_PASSWORD).text
        (hidden,) = re.findall(r"<style>\s*(.*?) { display: none !important }", page)
        offered = {f"#{name}" for name in re.findall(r'id="([a-z-]+-btn)"', page)}
        offered |= {f"[data-role={name}]" for name in re.findall(r'data-role="([a-z-]+-btn)"', page)}
        assert offered
        assert offered <= set(hidden.split(", ")), path


def test_without_the_name_of_a_queue_it_shows_the_jobs_of_alerts(client: FlaskClient, clean_redis: Redis) -> None:
    enqueue.enqueue_once(clean_redis, accepted(), ttl_seconds=60)
    assert "on queue <strong>alerts</strong>" in client.get("/0/view/jobs", headers=WITH_PASSWORD).text
    named = client.get("/0/view/jobs/notifications/queued/8/asc/1", headers=WITH_PASSWORD).text
    assert "on queue <strong>notifications</strong>" in named


@pytest.mark.parametrize("path", ["/0/view/job/gone", "/0/data/job/gone.json"])
def test_a_job_that_was_processed_meanwhile_is_not_found(client: FlaskClient, path: str) -> None:
    response = client.get(path, headers=WITH_PASSWORD)
    assert (response.status_code, response.text.startswith("There is no such job any more")) == (404, True)


def test_an_unavailable_redis_is_reported_in_a_line() -> None:
    client = dashboard.create_dashboard("redis://127.0.0.1:1", PASSWORD).test_client()
    response = client.get("/0/data/queues.json", headers=WITH_PASSWORD)
    assert (response.status_code, response.text) == (503, "Redis cannot be reached.\n")


def test_password_attempts_are_limited(environ: dict[str, str]) -> None:
    client = web(environ, DASHBOARD_PASSWORD=PASSWORD, RATELIMIT_ADDRESS="3/minute")
    wrong = {"Authorization": "Basic " + b64encode(b"anybody:guess").decode()}
    responses = [client.get("/rq/", headers=wrong) for _ in range(5)]
    assert [response.status_code for response in responses] == [401, 401, 401, 429, 429]
    assert int(responses[-1].headers["Retry-After"]) > 0
    assert client.get("/rq/").status_code == 401, "a browser that has not asked for the password yet"
    assert client.get("/rq/", headers=WITH_PASSWORD).status_code == 429, "otherwise guessing would find the password"
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert client.get("/rq/", headers=WITH_PASSWORD, environ_overrides=elsewhere).status_code == 200
    with client.application.app_context():
        context.current().redis.close()


def test_junk_at_the_api_does_not_block_the_right_password(environ: dict[str, str]) -> None:
    client = web(environ, DASHBOARD_PASSWORD=PASSWORD, RATELIMIT_ADDRESS="3/minute")
    assert [client.get("/api/v1/groups").status_code for _ in range(5)][-1] == 429
    assert client.get("/rq/", headers=WITH_PASSWORD).status_code == 200
    with client.application.app_context():
        context.current().redis.close()


def test_every_endpoint_that_changes_state_is_refused_with_any_method(client: FlaskClient, redis: Redis) -> None:
    failed = jobs.queue(redis, jobs.ALERTS).enqueue("no.such.thing", job_id="failed")
    BatchWorker(jobs.ALERTS, connection=redis, stages=tasks.processor(), batch_size=1).work(burst=True)
    before = snapshot(redis)
    changing = [rule for rule in client.application.url_map.iter_rules() if rule.endpoint not in dashboard._PAGES]
    assert "/requeue/<queue_name>" in {rule.rule for rule in changing}
    for rule in changing:
        values = {"queue_name": "alerts", "registry_name": "failed", "job_id": failed.id}
        path = rule.rule
        for name, value in values.items():
            path = path.replace(f"<{name}>", value)
        for method in ("GET", "POST", "PUT", "DELETE"):
            response = client.open(path, method=method, headers=WITH_PASSWORD)
            assert response.status_code in (403, 404, 405), (method, path)
    assert client.post("/", headers=WITH_PASSWORD).status_code in (403, 405)
    assert snapshot(redis) == before


def test_every_allowed_page_exists() -> None:
    app = dashboard.create_dashboard("redis://127.0.0.1:1", PASSWORD)
    assert {rule.endpoint for rule in app.url_map.iter_rules()} >= dashboard._PAGES
    assert rq_dashboard.blueprint.name == "rq_dashboard"


def test_a_third_concurrent_request_is_refused() -> None:
    inside, release = threading.Barrier(thread_budgets.MAX_DASHBOARD_REQUESTS + 1), threading.Event()

    def slow(_environ: object, _start_response: object) -> list[bytes]:
        inside.wait(5)
        release.wait(5)
        return [b"done"]

    limited = dashboard._ConcurrencyLimit(slow)
    threads = [threading.Thread(target=limited, args=({}, None)) for _ in range(thread_budgets.MAX_DASHBOARD_REQUESTS)]
    for thread in threads:
        thread.start()
    inside.wait(5)
    statuses: list[str] = []
    limited({"REQUEST_METHOD": "GET"}, lambda status, _headers: statuses.append(status))
    release.set()
    for thread in threads:
        thread.join()
    assert statuses == ["503 SERVICE UNAVAILABLE"]


def test_six_concurrent_requests_for_static_files_are_served() -> None:
    together = threading.Barrier(6)

    def slow(_environ: object, _start_response: object) -> list[bytes]:
        together.wait(5)
        return [b"done"]

    limited, responses = dashboard._ConcurrencyLimit(slow), list[object]()

    def ask() -> None:
        responses.append(limited({"REQUEST_METHOD": "GET", "PATH_INFO": "/static/js/jquery.js"}, lambda *_: None))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert responses == [[b"done"]] * 6


def test_its_redis_pool_is_its_own_and_has_two_connections(redis_url: str) -> None:
    pool = dashboard.create_dashboard(redis_url, PASSWORD).redis_conn.connection_pool  # type: ignore[attr-defined]  # likewise
    assert pool.max_connections == thread_budgets.MAX_DASHBOARD_REQUESTS
    assert pool.connection_kwargs["socket_timeout"] < 1


def test_the_web_process_serves_it_only_if_a_password_is_set(environ: dict[str, str]) -> None:
    assert web(environ).get("/rq/").status_code == 404
    client = web(environ, DASHBOARD_PASSWORD=PASSWORD)
    assert client.get("/rq/").status_code == 401
    page = client.get("/rq/", headers=WITH_PASSWORD)
    assert page.status_code == 200
    assert "/rq/static/" in page.get_data(as_text=True)
    assert client.get("/healthz").status_code == 200


def test_the_command_asks_for_the_password_shows_the_queues_and_stops_on_sigterm(
    environ: dict[str, str], clean_redis: Redis
) -> None:
    enqueue.enqueue_once(clean_redis, accepted(), ttl_seconds=60)
    port = embedded_servers.free_port()
    command = [sys.executable, "-m", "signalcraft", "dashboard", "--port", str(port)]
    known = {"REDIS_URL": environ["REDIS_URL"], "DASHBOARD_PASSWORD": PASSWORD}
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **known}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        wait_until(lambda: _get(port, "/", {}) == (401, b"A password is needed.\n"), seconds=30)
        status, queues = _get(port, "/0/data/queues.json", WITH_PASSWORD)
        elsewhere = _get(port, "/", {**WITH_PASSWORD, "Host": "evil.example"})
        assert elsewhere, "another name may resolve to this machine"
        assert elsewhere[0] == 400
        assert (status, b'"name":"alerts"' in queues, b'"count":1' in queues) == (200, True, True)
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=10)
    assert f"http://127.0.0.1:{port}/" in output
    assert _get(port, "/", {}) is None


def test_the_command_names_a_missing_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    result = CliRunner().invoke(main.main, ["dashboard"])
    assert (result.exit_code, result.stderr) == (1, "Error: REDIS_URL is not set.\n")


def _get(port: int, path: str, headers: dict[str, str]) -> tuple[int, bytes] | None:
    """Return the status and the body; None if nothing listens on ``port``."""
    try:
        with urlopen(Request(f"http://127.0.0.1:{port}{path}", headers=headers), timeout=5) as response:
            return response.status, response.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()
    except URLError:
        return None


def test_a_redirect_names_no_host(client: FlaskClient) -> None:
    """Werkzeug takes it from the Host header, which anybody sends."""
    below = {"SCRIPT_NAME": "/rq", "PATH_INFO": ""}
    response = client.get("/", headers={"Host": "evil.example", **WITH_PASSWORD}, environ_overrides=below)
    assert (response.status_code, response.headers["Location"]) == (308, "/rq/")
