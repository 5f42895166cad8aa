"""``doctor`` on real servers: its findings, its advice and its exit status."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.fernet import Fernet
from redis import Redis
from werkzeug.serving import make_server

from signalcraft import tasks
from signalcraft.cli import doctor, doctor_checks, main
from signalcraft.cli.doctor_checks import Grade
from signalcraft.dev import fake_slack
from signalcraft.queues import jobs
from signalcraft.settings import Settings
from signalcraft.sources.sentry import samples
from signalcraft.sources.sentry.signature import sign
from signalcraft.storage import tenants
from signalcraft.storage.database import database, open_database, session
from signalcraft.storage.models import AlertEvent, AlertGroup
from signalcraft.web.app import create_app
from signalcraft.worker.batch_worker import BatchWorker
from tests.support.web_client import SECRET, add_workspace

Run = Callable[..., Result]
KEY = Fernet.generate_key().decode()


@pytest.fixture
def run(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    add_workspace()
    monkeypatch.setattr(doctor, "_SAMPLE_TIMEOUT_SECONDS", 5.0)
    for name, value in {**environ, "ENCRYPTION_KEY": KEY}.items():
        monkeypatch.setenv(name, value)
    return lambda *arguments, stdin=None: CliRunner().invoke(main.main, ["doctor", *arguments], input=stdin)


@pytest.fixture
def workers(settings: Settings, clean_redis: Redis) -> Iterator[None]:
    """A worker in a thread of this process, and a notifier that only registered."""
    tasks.configure_worker(settings, clean_redis)
    with Redis.from_url(settings.redis_url) as redis:
        notifier = BatchWorker(jobs.NOTIFICATIONS, connection=redis, stages=tasks.processor(), batch_size=1)
        notifier.register_birth()
        worker = BatchWorker(jobs.ALERTS, connection=redis, stages=tasks.processor(), batch_size=10)
        worker.register_birth()
        stopped = threading.Event()
        thread = threading.Thread(target=_work, args=(worker, redis, stopped))
        thread.start()
        yield
        stopped.set()
        thread.join()


def _work(worker: BatchWorker, redis: Redis, stopped: threading.Event) -> None:
    while not stopped.wait(0.05):
        queue = worker.queues[0]
        for job in queue.jobs:
            redis.lrem(queue.key, 1, job.id)
            job.restore(redis.hgetall(job.key))
            tasks.process_delivery(job.args[0])


@pytest.fixture
def url(environ: dict[str, str]) -> Iterator[str]:
    """The web process, listening."""
    app = create_app(Settings.from_environ(environ))
    with make_server("127.0.0.1", 0, app) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.port}"
        server.shutdown()
        thread.join()


def lines(result: Result) -> dict[str, str]:
    """The worst line of each part."""
    order = {"ok": 0, "warning": 1, "failure": 2}
    found: dict[str, str] = {}
    for line in result.stdout.splitlines():
        if not line.startswith(tuple(order)):
            continue  # a log line of the web process or worker, which are in this process here
        grade, about, says = (part.strip() for part in (line[:7], line[8:18], line[19:]))
        if about not in found or order[grade] > order[found[about].split()[0]]:
            found[about] = f"{grade} {says}"
    return found


@pytest.mark.usefixtures("workers")
def test_a_working_deployment_is_reported_as_ok_and_no_row_remains(run: Run, url: str) -> None:
    result = run("--url", url)
    found = lines(result)
    assert result.exit_code == 0, result.output
    for part in ("secrets", "clock", "postgresql", "worker", "notifier", "receivers", "url", "sample"):
        assert found[part].startswith("ok "), found
    with session():
        assert AlertEvent.select().count() == AlertGroup.select().count() == 0


@pytest.fixture
def acme(clean_database: str) -> str:
    """A workspace with a stored secret."""
    assert clean_database
    add_workspace("acme")
    with session():
        tenants.add_secret("acme", "integration", "the secret of acme", [KEY], "main")
    return "acme"


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("path", ["", "/", "/webhooks/sentry", "/webhooks/sentry/acme"])
def test_the_sample_goes_to_the_url_of_its_workspace_signed_with_its_secret(
    run: Run, environ: dict[str, str], request: pytest.FixtureRequest, acme: str, path: str
) -> None:
    environ["ENCRYPTION_KEY"] = KEY
    result = run("--workspace", acme, "--url", request.getfixturevalue("url") + path)
    assert result.exit_code == 0, result.output
    assert "/webhooks/sentry/acme accepted a delivery" in lines(result)["url"]
    assert lines(result)["sample"].startswith("ok Stored")
    assert "the secret of acme" not in result.output


@pytest.mark.usefixtures("workers")
def test_a_web_process_without_the_encryption_key_fails(run: Run, url: str, acme: str) -> None:
    """The key is in the shell alone, where `secret add` worked."""
    result = run("--workspace", acme, "--url", url)
    assert result.exit_code == 1
    assert "responds with 401 signature_invalid" in result.output
    assert "main signed the sample" in result.output
    assert "refuses deliveries signed with secrets that ENCRYPTION_KEY does not decrypt: 1." in run("--url", url).output


@pytest.mark.usefixtures("workers")
def test_a_sample_of_a_workspace_goes_through_the_queue(run: Run, acme: str) -> None:
    result = run("--workspace", acme)
    assert result.exit_code == 0, result.output
    assert "Stored within" in lines(result)["sample"]


def test_an_unknown_workspace_and_one_without_a_secret_fail(run: Run) -> None:
    unknown = run("--workspace", "nowhere")
    assert unknown.exit_code == 1
    assert lines(unknown)["workspace"].startswith("failure There is no workspace nowhere.")
    add_workspace("bare")
    bare = run("--workspace", "bare")
    assert bare.exit_code == 1
    assert lines(bare)["sample"].startswith("failure Not sent")
    assert "The workspace bare has none: every delivery to it is refused." in bare.output


@pytest.mark.usefixtures("workers")
def test_without_a_url_the_sample_goes_through_the_queue(run: Run) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert "Stored within" in lines(result)["sample"]
    assert "url" not in lines(result)


def test_without_a_worker_it_fails_and_reports_how_to_start_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_SAMPLE_TIMEOUT_SECONDS", 0.05)
    result = run()
    found = lines(result)
    assert result.exit_code == 1
    assert "python worker.py" in found["worker"]
    assert found["sample"].startswith("failure It was accepted, and not processed")
    assert found["notifier"].startswith("warning")


def test_a_missing_setting_is_the_only_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    result = CliRunner().invoke(main.main, ["doctor"])
    assert result.exit_code == 1
    assert result.stdout.count("\n") == 1
    assert "DATABASE_URL is not set" in result.stdout


def test_a_rule_that_cannot_be_imported_is_the_only_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RULES", "no.such.rule")
    result = run()
    assert result.exit_code == 1
    assert "failure settings   RULES names no.such.rule, which cannot be imported" in result.output


_MAIL = """
[receivers.mail]
kind = "email"
smtp = "env:SMTP_URL"
from = "alerts@example.org"
to = ["ops@example.org"]
"""


def test_receivers_that_do_not_work_are_reported_and_then_a_missing_notifier_is_a_failure(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_SAMPLE_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setenv("NOTIFY", _MAIL)
    monkeypatch.setenv("SMTP_URL", "smtp://me:secret-of-mail@127.0.0.1:1")
    result = run()
    found = lines(result)
    assert found["receivers"].startswith("warning mail: The SMTP server does not take the connection or the login")
    assert found["notifier"].startswith("failure")
    assert "secret-of-mail" not in result.output

    with session():
        database.execute_sql(
            "INSERT INTO receiver_state (receiver, broken_since, broken_code) VALUES ('mail', now(), 'auth')"
        )
    assert "It is broken (auth) and 0 messages wait." in run().stdout


def test_a_receiver_without_a_setting_that_it_needs_is_a_warning(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_SAMPLE_TIMEOUT_SECONDS", 0.05)
    with fake_slack.serving() as slack:
        monkeypatch.setenv("NOTIFY", '[receivers.pay]\nkind = "slack"\ntoken = "env:TOKEN"\nchannel = "C0ALERTS"')
        monkeypatch.setenv("TOKEN", slack.token)
        monkeypatch.setenv("SLACK_API_URL", slack.url)
        monkeypatch.setenv("PUBLIC_URL", "https://alerts.example.org")
        assert lines(run())["receivers"].startswith("warning pay: SLACK_SIGNING_SECRET is not set: no button works")
        monkeypatch.setenv("SLACK_SIGNING_SECRET", slack.signing_secret)
        assert lines(run())["receivers"].startswith("ok pay (slack)")


def test_a_configuration_of_receivers_that_stops_the_start_is_a_failure(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_SAMPLE_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setenv("NOTIFY", _MAIL)
    assert "names the environment variable SMTP_URL, which is not set" in lines(run())["receivers"]


def test_with_both_servers_unavailable_it_still_reports_every_part(
    run: Run, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/nowhere")
    database.close_idle()
    try:
        result = run()
    finally:
        open_database(database_url)
    found = lines(result)
    assert result.exit_code == 1
    assert [found[part].split()[0] for part in ("redis", "postgresql", "worker", "sample")] == ["failure"] * 4
    assert [found[part].split()[0] for part in ("secrets", "clock", "notifier")] == ["warning"] * 3


def test_a_deployment_without_a_secret_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTRY_CLIENT_SECRET", "")
    result = run()
    assert result.exit_code == 1
    assert lines(result)["secrets"].startswith("failure")
    assert lines(result)["sample"].startswith("warning Not sent")


def test_a_stored_secret_that_no_key_decrypts_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with session():
        tenants.add_secret("default", "integration", "stored secret", [KEY], "main")
    monkeypatch.setenv("ENCRYPTION_KEY", Fernet.generate_key().decode())
    monkeypatch.setattr(doctor, "_SAMPLE_TIMEOUT_SECONDS", 0.05)
    assert "default/main" in lines(run())["secrets"]


@pytest.mark.parametrize("value", ['"0123456789abcdef0123456789abcdef"', "short"])
def test_a_secret_that_looks_wrong_is_a_warning_and_is_not_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SENTRY_CLIENT_SECRET", value)
    monkeypatch.setattr(doctor, "_SAMPLE_TIMEOUT_SECONDS", 0.05)
    result = run()
    assert lines(result)["secrets"].startswith("warning")
    assert value.strip('"') not in result.output


def test_short_secrets_tokens_and_passwords_are_warnings_and_are_not_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_SAMPLE_TIMEOUT_SECONDS", 0.05)
    for name in ("API_TOKEN", "METRICS_TOKEN", "DASHBOARD_PASSWORD"):
        monkeypatch.setenv(name, "hunter2")
    with session():
        tenants.add_secret("default", "integration", "hunter2", [KEY], "mine")
    output = run().output
    for name in ("API_TOKEN", "METRICS_TOKEN", "DASHBOARD_PASSWORD", "default/mine"):
        assert f"{name} has only 7 characters" in output
    assert "hunter2" not in output
    for name in ("API_TOKEN", "METRICS_TOKEN", "DASHBOARD_PASSWORD"):
        monkeypatch.setenv(name, "a" * 16)
    assert "settings   All" in run().output
    assert "TOKEN has only" not in run().output


def test_misspelt_settings_are_named_also_where_one_that_must_be_set_is_missing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_LEVLE", "DEBUG")
    assert lines(run())["settings"] == (
        "warning LOG_LEVLE is no setting, and LOG_LEVEL is not set. Rename it if LOG_LEVEL is meant."
    )
    monkeypatch.setenv("REDIS_URI", "redis://localhost")
    monkeypatch.delenv("REDIS_URL")
    result = run()
    assert "REDIS_URI is no setting, and REDIS_URL is not set." in result.stdout
    assert "failure settings   REDIS_URL is not set." in result.stdout


def test_bodies_that_would_be_kept_for_longer_than_their_events_are_a_warning(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETENTION_DAYS", "30")
    monkeypatch.setenv("PAYLOAD_RETENTION_DAYS", "31")
    assert lines(run())["settings"].startswith("warning PAYLOAD_RETENTION_DAYS is 31, RETENTION_DAYS 30.")
    monkeypatch.setenv("PAYLOAD_RETENTION_DAYS", "30")
    assert "PAYLOAD_RETENTION_DAYS" not in run().stdout


@pytest.mark.usefixtures("workers")
def test_a_url_is_tried_also_before_sentry_has_made_a_secret(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SENTRY_CLIENT_SECRET")
    assert "url" not in lines(run("--url", url))
    assert lines(run("--url", "http://127.0.0.1:1"))["url"].startswith("failure No response from")


def test_redis_is_judged_by_its_info_and_a_missing_field_is_unknown() -> None:
    def grades(**info: object) -> list[Grade]:
        return [finding.grade for finding in doctor_checks.judge_redis(info)]

    good, bad, unknown = Grade.OK, Grade.WARNING, Grade.WARNING
    assert grades(redis_version="7.2.4", aof_enabled=1, maxmemory_policy="noeviction") == [good, good]
    assert grades(redis_version="7.2.4", aof_enabled=0, maxmemory_policy="allkeys-lru") == [bad, bad]
    assert grades() == [unknown, unknown]
    assert grades(redis_version="6.0.9", aof_enabled=1, maxmemory_policy="noeviction")[0] is Grade.FAILURE
    assert all("unknown" in finding.says for finding in doctor_checks.judge_redis({}))


@pytest.fixture
def redirecting() -> Iterator[str]:
    class Redirect(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(301)
            self.send_header("Location", "https://example.com/")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Redirect) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/webhooks/sentry"
        server.shutdown()
        thread.join()


def test_a_url_that_redirects_fails(run: Run, redirecting: str) -> None:
    result = run("--url", redirecting)
    assert result.exit_code == 1
    assert "takes a redirect for success" in lines(result)["url"]


def test_a_url_of_another_secret_and_one_where_no_server_listens_fail(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTRY_CLIENT_SECRET", "another secret, long enough")
    assert "another SENTRY_CLIENT_SECRET" in lines(run("--url", url))["url"]
    assert lines(run("--url", "http://127.0.0.1:1"))["url"].startswith("failure No response")


@pytest.fixture
def body(tmp_path: Path) -> Path:
    file = tmp_path / "body"
    file.write_bytes(samples.build("event_alert.triggered", secret=SECRET).body)
    return file


def test_a_delivery_is_diagnosed_without_any_server(body: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SENTRY_CLIENT_SECRET", SECRET)
    signature = sign(body.read_bytes(), SECRET.encode())
    good = CliRunner().invoke(main.main, ["doctor", "--delivery", str(body), "--signature", signature])
    bad = CliRunner().invoke(main.main, ["doctor", "--delivery", str(body), "--signature", "a" * 64])
    assert (good.exit_code, bad.exit_code) == (0, 1)
    assert "is good" in good.stdout


def test_a_retired_secret_of_the_workspace_is_recognised(run: Run, body: Path) -> None:
    with session():
        tenants.add_secret("default", "integration", "the old one", [KEY], "old")
        tenants.retire_secret("default", "old")
    result = run("--delivery", str(body), "--signature", sign(body.read_bytes(), b"the old one"))
    assert result.exit_code == 1
    assert "retired secret old" in result.stdout


def test_a_secret_may_come_from_standard_input(run: Run, body: Path) -> None:
    signature = sign(body.read_bytes(), b"given")
    result = run("--delivery", str(body), "--signature", signature, "--secret", stdin="given\n")
    assert result.exit_code == 0
    assert "given" not in result.stdout.replace("The given secret", "")


def test_only_the_secrets_of_the_workspace_make_a_delivery_good_and_another_workspace_is_named(
    run: Run, body: Path, acme: str
) -> None:
    by_acme = sign(body.read_bytes(), b"the secret of acme")
    by_default = sign(body.read_bytes(), SECRET.encode())
    good = run("--delivery", str(body), "--signature", by_acme, "--workspace", acme)
    assert (good.exit_code, "main signed it" in good.stdout) == (0, True)
    for arguments, named in (
        (("--signature", by_acme), "main of the workspace acme"),
        (("--signature", by_default, "--workspace", acme), "SENTRY_CLIENT_SECRET-1 of the workspace default"),
    ):
        result = run("--delivery", str(body), *arguments)
        assert result.exit_code == 1
        assert named in result.stdout


def test_a_delivery_of_an_unknown_workspace_and_secrets_that_are_not_tried_are_reported(
    run: Run, body: Path, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = run("--delivery", str(body), "--signature", "a" * 64, "--workspace", "nowhere")
    assert (unknown.exit_code, unknown.stderr) == (1, "Error: There is no workspace nowhere.\n")
    monkeypatch.setenv("ENCRYPTION_KEY", Fernet.generate_key().decode())
    untried = run("--delivery", str(body), "--signature", "a" * 64, "--workspace", acme)
    assert "Not tried, ENCRYPTION_KEY does not decrypt them: main." in untried.stderr
