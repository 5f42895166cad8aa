from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result

from signalcraft.cli import main
from signalcraft.storage.database import session
from signalcraft.storage.models import AlertEvent, Workspace
from tests.support.builders import NOON, pending_event, record

Run = Callable[..., Result]
DAY = 24 * 60


@pytest.fixture
def run(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with session():
        Workspace.create(slug="default")
    return lambda *arguments: CliRunner().invoke(main.main, arguments)


def minute_of(days_ago: float) -> float:
    return (datetime.now(UTC) - timedelta(days=days_ago) - NOON) / timedelta(minutes=1)


def test_explain_gives_the_reasons_of_a_group_assignment_in_words(run: Run) -> None:
    record(pending_event("a", 0))
    event_id = record(pending_event("b", 5)).events[0].event_id
    result = run("explain", str(event_id))
    assert result.exit_code == 0
    assert "fingerprint (issue:1)" in result.stdout
    assert "it joined group 1" in result.stdout


@pytest.mark.parametrize("name", ["abc", "abc:1", "delivery-of-abc:1"])
def test_explain_takes_the_senders_id_and_the_deliverys(run: Run, name: str) -> None:
    with session():
        other = Workspace.create(slug="other")
    record(pending_event("abc:1", workspace_id=other.id))
    result = run("explain", name)
    assert result.exit_code == 0
    assert "opened group 1" in result.stdout


@pytest.mark.parametrize("name", ["7", "none", "a\0b", "x" * 500])
def test_explain_of_an_unknown_event_fails(run: Run, name: str) -> None:
    result = run("explain", name)
    assert result.exit_code == 1
    assert f"There is no event {name}." in result.stderr


def test_a_dry_run_of_purge_counts_and_deletes_nothing(run: Run) -> None:
    record(*(pending_event(f"{number}", minute_of(100) + number) for number in range(10)))
    result = run("purge", "--dry-run")
    assert result.stdout == "8 events, 10 payloads, 0 raw deliveries and 0 notifications would be deleted.\n"
    with session():
        assert AlertEvent.select().count() == 10


def test_purge_deletes_what_is_past_retention(run: Run) -> None:
    record(*(pending_event(f"old {number}", minute_of(100) + number) for number in range(10)))
    record(*(pending_event(f"young {number}", minute_of(10) + number) for number in range(10)))
    result = run("purge")
    assert result.stdout == "8 events, 2 payloads, 0 raw deliveries and 0 notifications were deleted.\n"
    with session():
        assert AlertEvent.select().count() == 12
        assert AlertEvent.select().where(AlertEvent.payload_json.is_null()).count() == 2


def test_stats_counts_alerts_and_group_decisions(run: Run) -> None:
    record(*(pending_event(f"a{number}", minute_of(0.02) + number / 100) for number in range(9)))
    record(pending_event("a0", minute_of(0.02)), pending_event("b", minute_of(0.02), issue="2", environment="staging"))
    record(pending_event("old", minute_of(5), issue="3"))
    result = run("stats")
    assert result.exit_code == 0
    assert row_of("all", result.stdout) == ["all", "11", "1", "8", "2", "81.8%"]
    assert row_of("staging", result.stdout) == ["staging", "1", "0", "0", "1", "0.0%"]
    assert row_of("all", run("stats", "--days", "7").stdout)[1] == "12"


def row_of(name: str, table: str) -> list[str]:
    (row,) = [line for line in table.splitlines() if line.strip(" │").startswith(name)]
    return row.replace("│", " ").split()


def test_stats_of_an_unknown_workspace_fails(run: Run) -> None:
    result = run("stats", "--workspace", "unknown")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: There is no workspace unknown.\n"


def test_stats_without_alerts_are_zeros(run: Run) -> None:
    assert row_of("all", run("stats").stdout) == ["all", "0", "0", "0", "0", "0.0%"]
