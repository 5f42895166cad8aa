"""Commands for notifications, on a real database."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from signalcraft.cli import main
from signalcraft.notify.contract import Outcome, OutcomeKind
from signalcraft.notify.notifier import Notifier
from tests.notify.test_notifier import alert, notifier, resolve
from tests.support.builders import record
from tests.support.receivers import RecordingReceiver

pytestmark = pytest.mark.usefixtures("redis")

Run = Callable[..., Result]
FILE = """
[receivers.ops]
kind = "log"
[receivers.pay]
kind = "log"
[[routes]]
name = "payments"
match = { project = "pay*", tags = { team = "core" } }
to = "pay"
hours = "mon-fri 08:00-18:00"
[[routes]]
name = "the rest"
to = "ops"
"""


@pytest.fixture
def run(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    for name, value in {**environ, "NOTIFY": FILE}.items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: CliRunner().invoke(main.main, arguments)


def test_routes_check_passes_a_good_file_and_names_what_is_never_used(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("routes", "check")
    assert (result.exit_code, result.stdout) == (0, "Receivers: 2. Routes: 2.\n")
    monkeypatch.setenv("NOTIFY", FILE.replace('to = "pay"', 'to = "ops"'))
    result = run("routes", "check")
    assert (result.exit_code, "pay: no route names this receiver" in result.stdout) == (1, True)
    monkeypatch.setenv("NOTIFY", f'{FILE}[[routes]]\nname = "last"\nto = "ops"\nmatch = {{ source = "sentry" }}')
    result = run("routes", "check")
    assert (result.exit_code, "route last: it is never reached, since the rest" in result.stdout) == (1, True)
    monkeypatch.setenv("NOTIFY", f'{FILE}match = {{ source = "sentry" }}')
    result = run("routes", "check")
    assert (result.exit_code, "Alerts that meet the conditions of no route" in result.stdout) == (0, True)
    monkeypatch.setenv("NOTIFY", "storms = 1")
    assert "NOTIFY: storms: Unknown field" in run("routes", "check").stderr


def test_routes_test_says_why_each_route_tells_or_not(run: Run) -> None:
    result = run("routes", "test", "project=payments", "tag.team=core", "--at", "2026-03-01T12:00Z", "--expect", "pay")
    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        [
            "payments: tells pay at 2026-03-02 08:00 UTC",
            "the rest: an earlier route decided",
            "Told: pay.",
        ],
    )
    result = run("routes", "test", "project=web", "--expect", "pay")
    assert result.exit_code == 1
    assert "payments: project is web, not pay*\nthe rest: tells ops at once" in result.stdout
    assert run("routes", "test", "color=red").exit_code == 2
    for at in ("2026-03-01T12:00", "2026-03-01T12:00:00", "2026-03-01T12:00:00Z"):
        result = run("routes", "test", "project=payments", "tag.team=core", "--at", at)
        assert "payments: tells pay at 2026-03-02 08:00 UTC" in result.stdout


def test_routes_explain_shows_what_happened_who_was_told_and_how(run: Run) -> None:
    ops = RecordingReceiver(outcomes=[Outcome(kind=OutcomeKind.RATE_LIMITED, code="http_429", retry_after=60.0)])
    record(alert())
    notifier(ops).run_until_idle()
    resolve()
    shown = run("routes", "explain", "--group", "1").stdout
    assert "opened by sentry" in shown
    assert "ops by route all: due at" in shown
    assert "rate_limited http_429" in shown
    assert "resolved by sentry, not routed yet" in shown
    assert run("routes", "explain", "--group", "9").exit_code == 1


def test_routes_replay_counts_messages_of_today_and_of_another_file(run: Run, tmp_path: Path) -> None:
    record(alert(), alert(issue="2"))
    resolve()
    other = tmp_path / "other.toml"
    other.write_text('[receivers.ops]\nkind = "log"\n[[routes]]\nname = "all"\nto = "ops"\non = ["opened"]')
    result = run("routes", "replay", "--since", "1d", "--file", str(other))
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "3 happenings; messages: today 3, file 3.")
    assert re.search(r"\d{4}-\d\d-\d\d +│ ops", result.stdout)
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:00 +│ ops", run("routes", "replay", "--by", "hour").stdout)
    assert run("routes", "replay", "--since", "yesterday").exit_code == 2


def test_receivers_list_shows_each_with_its_state(run: Run) -> None:
    assert "no notifier has run" in run("receivers", "list").stdout
    ops = RecordingReceiver(outcomes=[Outcome(kind=OutcomeKind.BROKEN, code="http_404")])
    record(alert())
    notifier(ops).run_until_idle()
    assert "broken: http_404" in " ".join(run("receivers", "list").stdout.split())


def test_receivers_test_waits_for_the_notifier(run: Run) -> None:
    running = notifier(RecordingReceiver())
    stop = running.start()
    try:
        result = run("receivers", "test", "ops")
        assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "sent")
        assert run("receivers", "test", "nobody").exit_code == 1
    finally:
        stop(5)


def test_what_was_given_up_is_listed_shown_and_sent_again(run: Run) -> None:
    ops = RecordingReceiver(outcomes=[Outcome(kind=OutcomeKind.REFUSED, code="http_400", detail="no \x1b[31mred")])
    running: Notifier = notifier(ops)
    record(alert())
    running.run_until_idle()
    assert "1 notifications." in run("notifications", "list", "--state", "given_up", "--receiver", "ops").stdout
    shown = run("notifications", "show", "1").stdout
    assert "refused http_400" in shown
    assert "\x1b" not in shown
    assert run("notifications", "retry").exit_code == 2
    assert run("notifications", "retry", "1").stdout == "1 notifications are due again.\n"
    assert run("notifications", "retry", "1").exit_code == 1
    running.run_until_idle()
    assert ops.told == [("opened", 1)]
    assert run("notifications", "show", "99").exit_code == 1
