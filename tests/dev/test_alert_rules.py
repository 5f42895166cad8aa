"""Alert rules and dashboard use existing metrics, each rule has a runbook section, and promtool accepts all."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis

from signalcraft import metrics, tasks
from signalcraft.domain.notifications import default_rule
from signalcraft.metrics import Kind
from signalcraft.notify import config as notify_config
from signalcraft.notify.notifier import Notifier
from signalcraft.queues import jobs
from signalcraft.settings import Settings
from signalcraft.worker.batch_worker import BatchWorker
from tests.support import ROOT
from tests.support.builders import accepted
from tests.support.queues import enqueue_deliveries
from tests.support.web_client import add_workspace, ask, no_database, sample, send, web

ALERTS = ROOT / "ops/prometheus/alerts.yml"
DASHBOARD = ROOT / "ops/grafana/signalcraft.json"
RUNBOOK = ROOT / "docs/runbook.md"
NAME = re.compile(r"\bsignalcraft_[a-z_]+\b")


def exposed() -> set[str]:
    """Return the names of all series at /metrics."""
    names = {declaration.name for declaration in metrics.DECLARED}
    histograms = {declaration.name for declaration in metrics.DECLARED if declaration.kind is Kind.HISTOGRAM}
    return (names - histograms) | {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


@pytest.mark.parametrize("path", [ALERTS, ALERTS.with_name("alerts_test.yml"), DASHBOARD], ids=lambda path: path.name)
def test_every_metric_that_is_named_is_exposed(path: Path) -> None:
    assert set(NAME.findall(path.read_text())) <= exposed()


def test_every_metric_that_the_runbook_names_is_declared() -> None:
    assert set(NAME.findall(RUNBOOK.read_text())) <= exposed() | {one.name for one in metrics.DECLARED}


def test_every_alert_rule_has_a_summary_and_links_to_its_runbook_section() -> None:
    headings = {
        f"docs/runbook.md#{line[3:].strip().lower()}" for line in RUNBOOK.read_text().splitlines() if line[:3] == "## "
    }
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook"] in headings
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_every_alert_rule_is_tested() -> None:
    tests = ALERTS.with_name("alerts_test.yml").read_text()
    tried = set(re.findall(r"SignalCraft\w+", tests.replace("SignalCraftNo(Worker|Notifier)", "")))
    for names in re.findall(r"SignalCraft\(([\w|]+)\)", tests):
        tried |= {f"SignalCraft{name}" for name in names.split("|")}
    assert {rule["alert"] for rule in rules()} <= tried


def test_the_dashboard_shows_the_pipeline_from_left_to_right_without_overlap() -> None:
    rows = [panel["title"] for panel in panels() if panel["type"] == "row"]
    assert rows == ["Received", "Queued", "Processed", "Stored", "Told", "Errors"]
    cells = [
        (x, y)
        for panel in panels()
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in panels()}) == len(panels())


@pytest.mark.parametrize(
    "arguments", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")], ids="-".join
)
def test_promtool_agrees_with_the_rules(arguments: tuple[str, ...]) -> None:
    _promtool(arguments, "")


def test_promtool_agrees_with_a_scrape_of_a_web_process_that_has_received_deliveries(
    environ: dict[str, str], clean_redis: Redis, settings: Settings
) -> None:
    add_workspace()
    tasks.configure_worker(settings, clean_redis)
    metrics._registry.forget()
    client = web(environ)
    assert send(client, sample()).status_code == 202
    assert send(client, sample(), headers={"Sentry-Hook-Signature": "0" * 64}).status_code == 401
    again = sample(event_id="a" * 32)
    assert [send(client, again).status_code for _ in range(2)] == [202, 200]
    assert send(client, sample("error.created", event_id="a" * 32)).status_code == 202
    unreadable = accepted()  # the web process accepts none
    delivery = replace(unreadable.delivery, body=b'{"action":"triggered"}')
    enqueue_deliveries(clean_redis, replace(unreadable, delivery=delivery))
    with no_database(settings.database_url):
        assert ask(client, "/groups").status_code == 503
    BatchWorker(jobs.ALERTS, connection=clean_redis, stages=tasks.processor(), batch_size=5).work(burst=True)
    Notifier(notify_config.load("", {}), [default_rule]).run_until_idle()
    metrics.flush(clean_redis)
    scraped = client.get("/metrics").text
    declared = {one.name for one in metrics.DECLARED if one.kind is Kind.GAUGE}
    assert declared <= set(re.findall(r"^# TYPE (\w+) gauge$", scraped, re.MULTILINE))
    values = dict(re.findall(r"^(\S+) (\S+)$", scraped, re.MULTILINE))
    expected = {
        'signalcraft_webhooks_total{answer="accepted",resource="event_alert",source="sentry"}': 2,
        'signalcraft_webhooks_total{answer="duplicate",resource="event_alert",source="sentry"}': 1,
        'signalcraft_webhooks_total{answer="signature_invalid",resource="unknown",source="sentry"}': 1,
        'signalcraft_rejected_total{code="signature_invalid"}': 1,
        'signalcraft_rejected_total{code="unavailable"}': 1,
        "signalcraft_ack_seconds_count": 5,
        "signalcraft_webhook_bytes_count": 5,
        "signalcraft_batch_size_sum": 4,
        "signalcraft_alerts_total": 2,
        "signalcraft_duplicates_total": 1,
        "signalcraft_groups_created_total": 1,
        'signalcraft_decisions_total{decision="new"}': 1,
        'signalcraft_decisions_total{decision="joined"}': 1,
        'signalcraft_errors_total{kind="permanent",stage="normalize"}': 1,
        "signalcraft_failed_deliveries": 1,
        'signalcraft_notifications_total{outcome="sent",receiver="log"}': 1,
        "signalcraft_notification_seconds_count": 1,
        "signalcraft_notifications_waiting": 0,
        "signalcraft_notifications_given_up": 0,
        'signalcraft_receiver_broken{receiver="log"}': 0,
    }
    assert {name: float(values.get(name, "nan")) for name in expected} == expected
    for stage in ("verify", "identify", "queue", "normalize", "group", "store", "rules"):
        assert float(values[f'signalcraft_stage_seconds_count{{stage="{stage}"}}']) > 0, stage
    _promtool(("check", "metrics"), scraped)


def _promtool(arguments: tuple[str, ...], stdin: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        assert "CI" not in os.environ, "CI installs it: see .ci/run"
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run(
        [promtool, *arguments], cwd=ALERTS.parent, input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
