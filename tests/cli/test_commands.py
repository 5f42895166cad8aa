"""The command line on a real database: effects, output and failures."""

import base64
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from cryptography.fernet import Fernet

from signalcraft import http_client
from signalcraft.cli import main
from signalcraft.dev import demo, embedded_servers
from signalcraft.domain.deliveries import Delivery, Secret
from signalcraft.sources import grafana
from signalcraft.sources.sentry import samples
from signalcraft.sources.sentry.signature import sign
from signalcraft.storage import migrations
from signalcraft.storage.database import session
from signalcraft.storage.models import ApiToken, WebhookSecret
from tests.support import ROOT
from tests.support.waiting import wait_until
from tests.support.web_client import SECRET

Run = Callable[..., Result]


@pytest.fixture
def run(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    for name, value in {**environ, "ENCRYPTION_KEY": Fernet.generate_key().decode()}.items():
        monkeypatch.setenv(name, value)

    def invoke(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main.main, arguments, input=stdin)

    return invoke


@pytest.fixture
def shop(run: Run) -> str:
    assert run("workspace", "create", "shop").exit_code == 0
    return "shop"


def test_migrate_may_run_again_and_creates_the_default_workspace(run: Run) -> None:
    for _ in range(2):
        result = run("migrate")
        assert (result.exit_code, result.stderr) == (0, "")
        assert "up to date" in result.stdout
    assert run("workspace", "list").stdout == "default\n"


def test_migrate_sets_up_an_empty_database_and_concurrent_releases_wait_for_each_other(database_url: str) -> None:
    name = f"signalcraft_cli_{os.getpid()}"
    url = embedded_servers.create_database(database_url, name)
    environ = {**os.environ, "DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1:1"}
    try:
        releases = [
            subprocess.Popen(
                [sys.executable, "-m", "signalcraft", "migrate"],
                cwd=ROOT,
                env=environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(3)
        ]
        outputs = [release.communicate(timeout=60) for release in releases]
        assert [release.returncode for release in releases] == [0, 0, 0], outputs
        applied = sum(output.count("applied 0001") for output, _ in outputs)
        assert applied == 1
        assert migrations.apply(url) == []
    finally:
        embedded_servers.drop_database(database_url, name)


def test_a_workspace_is_created_once(run: Run, shop: str) -> None:
    again = run("workspace", "create", shop)
    assert again.exit_code == 1
    assert again.stderr == "Error: There is a workspace shop already.\n"
    assert shop in run("workspace", "list").stdout.splitlines()


def test_a_token_is_the_last_line_of_standard_output_alone(run: Run, shop: str) -> None:
    result = run("token", "create", "--workspace", shop, "--scope", "read", "--scope", "write", "--name", "ci")
    (value,) = result.stdout.splitlines()
    with session():
        (row,) = ApiToken.select().where(ApiToken.name == "ci")
    assert row.token_sha256 == hashlib.sha256(value.encode()).hexdigest()
    assert row.can_write
    assert value not in result.stderr


def test_a_token_is_read_only_by_default_and_can_be_revoked(run: Run, shop: str) -> None:
    assert run("token", "create", "--workspace", shop, "--name", "ci").exit_code == 0
    assert run("token", "revoke", "--workspace", shop, "ci").exit_code == 0
    with session():
        (row,) = ApiToken.select()
    assert not row.can_write
    assert row.revoked_at is not None
    assert run("token", "revoke", "--workspace", shop, "ci").exit_code == 1


def test_a_secret_comes_from_standard_input_and_is_never_shown(run: Run, shop: str) -> None:
    added = run("secret", "add", "--workspace", shop, "--kind", "legacy", "--name", "old", stdin="hunter2\n")
    listed = run("secret", "list", "--workspace", shop)
    assert (added.exit_code, listed.exit_code) == (0, 0)
    assert "old" in listed.stdout
    assert "hunter2" not in added.output + listed.output
    with session():
        (row,) = WebhookSecret.select()
    assert (row.kind, "hunter2" in row.value_encrypted) == ("legacy", False)
    assert run("secret", "retire", "--workspace", shop, "old").exit_code == 0
    assert run("secret", "retire", "--workspace", shop, "old").exit_code == 1


def test_a_secret_that_was_added_says_who_needs_the_key_and_how_to_try_it(run: Run, shop: str) -> None:
    added = run("secret", "add", "--workspace", shop, stdin="hunter2\n")
    assert "Web processes that have this ENCRYPTION_KEY use it at once; others refuse" in added.stdout
    assert "`doctor --workspace shop --url" in added.stdout


def test_without_a_key_the_command_that_makes_one_is_named(
    run: Run, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", "")
    refused = run("secret", "add", "--workspace", shop, stdin="hunter2\n")
    assert refused.exit_code == 1
    (command,) = re.findall("`(openssl .*)`", refused.stderr)
    made = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True).stdout
    Fernet(made.strip())


def test_the_credentials_of_the_environment_are_listed_with_the_stored_ones_of_the_default_workspace(
    run: Run, shop: str, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("migrate")
    monkeypatch.setenv("SENTRY_CLIENT_SECRET", f"{environ['SENTRY_CLIENT_SECRET']},second")
    run("secret", "add", "--workspace", "default", "--name", "stored", stdin="x\n")
    run("token", "create", "--workspace", "default", "--name", "ci", "--scope", "write")
    run("token", "create", "--workspace", "default", "--name", "gone")
    run("token", "revoke", "--workspace", "default", "gone")
    secrets, tokens = (cells(run(what, "list", "--workspace", "default")) for what in ("secret", "token"))
    assert [row[:4] for row in secrets[:2]] == [
        [f"SENTRY_CLIENT_SECRET-{n}", "sentry", "integration", "environment"] for n in (1, 2)
    ]
    assert [row[0] for row in secrets] == ["SENTRY_CLIENT_SECRET-1", "SENTRY_CLIENT_SECRET-2", "stored"]
    assert [row[:2] for row in tokens] == [["API_TOKEN", "write"], ["ci", "write"], ["gone", "read"]]
    assert [bool(row[4]) for row in tokens] == [False, False, True]
    assert cells(run("secret", "list", "--workspace", shop)) == cells(run("token", "list", "--workspace", shop)) == []


def cells(result: Result) -> list[list[str]]:
    """The cells of a table's rows, without its head."""
    assert result.exit_code == 0, result.output
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines() if line[:1] == "│"]


def test_an_empty_secret_and_an_unknown_workspace_are_refused_in_one_line(run: Run, shop: str) -> None:
    empty = run("secret", "add", "--workspace", shop, stdin="\n")
    unknown = run("token", "create", "--workspace", "nowhere")
    for result in (empty, unknown):
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1


def test_a_missing_setting_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    result = CliRunner().invoke(main.main, ["migrate"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: DATABASE_URL is not set.")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["migrate"], ["workspace", "list"]])
def test_an_unavailable_database_is_one_line(command: list[str]) -> None:
    environ = {**os.environ, "DATABASE_URL": "postgresql://127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1"}
    done = subprocess.run(
        [sys.executable, "-m", "signalcraft", *command],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["migrate"],
        ["workspace"],
        ["workspace", "create"],
        ["workspace", "list"],
        ["secret"],
        ["secret", "add"],
        ["secret", "list"],
        ["secret", "retire"],
        ["token"],
        ["token", "create"],
        ["token", "list"],
        ["token", "revoke"],
        ["send"],
        ["demo"],
        ["dev"],
        ["settings"],
        ["stats"],
        ["replay"],
        ["failed", "list"],
        ["failed", "replay"],
        ["failed", "drop"],
    ],
)
def test_every_command_has_a_help_text(command: list[str]) -> None:
    result = CliRunner().invoke(main.main, [*command, "--help"])
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")


def test_settings_prints_the_table() -> None:
    assert "| `DATABASE_URL` | **must be set** |" in CliRunner().invoke(main.main, ["settings"]).stdout


def test_send_to_a_closed_port_fails_in_one_line() -> None:
    arguments = ["send", "event_alert.triggered", "--url", "http://127.0.0.1:1/webhooks/sentry", "--secret", "-"]
    result = CliRunner().invoke(main.main, arguments, input="x\n")
    assert result.exit_code == 1
    assert result.stdout == "1 x no response: ConnectionRefusedError\n"
    assert result.stderr == "Error: 1 of 1 deliveries were not accepted.\n"


@pytest.mark.parametrize(
    ("arguments", "stdin", "warned"),
    [
        (["--secret", "-"], f"{SECRET}\n", False),
        (["--secret"], f"{SECRET}\n", False),
        ([], None, False),
        (["--secret", SECRET], None, True),
    ],
    ids=["dash", "alone", "environment", "command line"],
)
def test_send_signs_with_a_secret_from_standard_input_or_the_environment_and_warns_of_one_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], stdin: str | None, *, warned: bool
) -> None:
    signed: list[bool] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            signed.append(self.headers["Sentry-Hook-Signature"] == sign(body, SECRET.encode()))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

    monkeypatch.setenv("SENTRY_CLIENT_SECRET", "another" if arguments else f"{SECRET},another")
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        command = ["send", "event_alert.triggered", "--url", url, *arguments]
        result = CliRunner().invoke(main.main, command, input=stdin)
    assert (result.exit_code, signed) == (0, [True])
    assert ("Warning" in result.stderr) is warned
    assert SECRET not in result.output


def test_send_takes_the_secret_of_the_kind_that_the_sample_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received = Delivery(headers=headers, body=body, received_at=datetime.now(UTC))
            secrets = [Secret(name=kind.name, kind=kind.name, value=kind.name.encode()) for kind in grafana.KINDS]
            verified.append(grafana.verify(received, secrets).kind)
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

    for kind in grafana.KINDS:
        monkeypatch.setenv(kind.variable, kind.name)
    for name in ("grafana.firing", "grafana.signed"):
        with HTTPServer(("127.0.0.1", 0), Receiver) as server:
            threading.Thread(target=server.handle_request, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}"
            assert CliRunner().invoke(main.main, ["send", name, "--url", url]).exit_code == 0
    assert verified == ["bearer", "hmac"]


def test_send_without_any_secret_says_where_one_may_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SENTRY_CLIENT_SECRET", raising=False)
    result = CliRunner().invoke(main.main, ["send", "event_alert.triggered"])
    assert result.exit_code == 1
    assert "set SENTRY_CLIENT_SECRET, or use `--secret -`" in result.stderr


@pytest.mark.parametrize(
    ("given", "path"),
    [("", "/webhooks/sentry"), ("/", "/webhooks/sentry"), ("/webhooks/sentry/shop", "/webhooks/sentry/shop")],
)
def test_send_appends_the_webhook_path_to_a_base_url_and_keeps_a_whole_url(given: str, path: str) -> None:
    paths: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            paths.append(self.path)
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}{given}"
        result = CliRunner().invoke(
            main.main, ["send", "event_alert.triggered", "--url", url, "--secret", "-"], input="x"
        )
    assert (result.exit_code, paths) == (0, [path])


def test_send_lists_every_sample_in_its_help() -> None:
    words = CliRunner().invoke(main.main, ["send", "--help"], terminal_width=300).stdout.replace(",", " ").split()
    assert {name.rstrip(".") for name in samples.NAMES} <= {word.rstrip(".") for word in words}


@pytest.mark.parametrize(
    ("name", "kind"), [("legacy.modern", "legacy"), ("servicehook.triggered", "servicehook"), ("error.created", None)]
)
def test_a_sample_that_is_refused_for_its_kind_of_secret_says_what_to_add(name: str, kind: str | None) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        result = CliRunner().invoke(main.main, ["send", name, "--url", url, "--secret", "x"])
    assert result.exit_code == 1
    assert (f"--kind {kind}" in result.stderr) is bool(kind)


def test_every_workspace_option_is_alike() -> None:
    options = [
        next(option.get_help_record(click.Context(command)) for option in command.params if option.name == "workspace")
        for command in all_commands(main.main)
        if any(option.name == "workspace" for option in command.params)
    ]
    assert len(options) >= 9
    assert {names for names, _ in options} == {"--workspace SLUG"}
    assert all(text.startswith("Slug of the workspace") for _, text in options)


def all_commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from all_commands(child)


def test_send_refuses_an_unknown_sample() -> None:
    result = CliRunner().invoke(main.main, ["send", "issue.exploded"])
    assert result.exit_code == 2
    assert "event_alert.triggered" in result.stderr


def test_the_demo_prints_groups_received_over_http_and_leaves_no_files(tmp_path: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "signalcraft", "demo"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for text in (
        "GET /api/v1/groups",
        "resolved",
        "staging",
        "signature_invalid",
        "41 alerts in 9 groups.",
        "Slack, #alerts",
    ):
        assert text in done.stdout
    assert "New: KeyError: 'price'" in done.stdout
    assert "Resolved: PaymentTimeout" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("`make run` keeps all of this up")
    for _, scene in demo.scenes():
        assert not scene.alerts or str(scene.params.get("title", scene.shows))[:40] in done.stdout, scene.shows
    assert not list(tmp_path.iterdir())


def test_dev_stays_up_keeps_its_data_and_stops_gracefully(tmp_path: Path) -> None:
    """Start it twice: the second run has the data, the secret and the token of the first."""
    environments = []
    for number in range(2):
        port = embedded_servers.free_port()
        development = _start_dev(tmp_path, port)
        try:
            environ = _environment(tmp_path / "environment", development, port)
            _send(environ)
            wait_until(lambda environ=environ, wanted=42 + number: _count(environ) == wanted)  # samples are added once
            environments.append([environ[n] for n in ("SENTRY_CLIENT_SECRET", "API_TOKEN", "DASHBOARD_PASSWORD")])
            assert _sign_in(environ) == 200
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.2", port)).close()  # it listens on 127.0.0.1 alone
            slack = http_client.get(environ["SLACK_API_URL"].removesuffix("api/") + "control")
            assert number or slack.body["channels"]["alerts"], "the samples of the first run are told"
        finally:
            development.send_signal(signal.SIGINT if number else signal.SIGTERM)
            output, _ = development.communicate(timeout=60)
        assert development.returncode == 0, output
        with pytest.raises(http_client.ServerUnreachable):
            http_client.get(f"http://127.0.0.1:{port}/healthz")
    assert environments[0] == environments[1]
    logged = re.findall(r"slow query.*duration_ms\W+([\d.]+)", (tmp_path / "worker.log").read_text())
    assert all(float(milliseconds) >= 250 for milliseconds in logged), "only slow queries are logged, as everywhere"


def _sign_in(environ: dict[str, str]) -> int:
    """Return the status of the queue dashboard."""
    given = base64.b64encode(f"anybody:{environ['DASHBOARD_PASSWORD']}".encode()).decode()
    url = f"http://127.0.0.1:{environ['PORT']}/rq/"
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {given}"})
    with urllib.request.urlopen(request) as response:  # noqa: S310 - likewise
        return int(response.status)


def test_dev_on_a_taken_port_ends_with_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        output, _ = _start_dev(tmp_path, port).communicate(timeout=30)
    assert output.splitlines()[-1] == (
        f"Error: Port {port} cannot be used (Address already in use): choose another by PORT."
    )
    assert "Traceback" not in output


def _start_dev(directory: Path, port: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "signalcraft", "dev", "--port", str(port), "--data", str(directory)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _environment(path: Path, development: "subprocess.Popen[str]", port: int) -> dict[str, str]:
    """Return what dev wrote for other terminals, once it is up."""
    deadline = time.monotonic() + 60
    assert development.stdout is not None
    for line in development.stdout:
        if line.startswith("  groups "):
            assert line.endswith(f":{port}/api/v1/groups\n"), "a line to copy is one line"
        if "From another terminal" in line:
            return dict(line.split("=", 1) for line in path.read_text().splitlines())
        assert time.monotonic() < deadline
    raise AssertionError(f"dev on port {port} ended: {development.wait()}")


def _send(environ: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "signalcraft", "send", "event_alert.triggered", "--title", "Made by hand"],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "1 x 202 accepted\n"), done.stderr


def _count(environ: dict[str, str]) -> int:
    url = f"http://127.0.0.1:{environ['PORT']}/api/v1/groups"
    return sum(group["count"] for group in http_client.get(url, token=environ["API_TOKEN"]).body["groups"])
