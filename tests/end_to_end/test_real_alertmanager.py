"""Alertmanager itself, from Debian's package, fires, repeats, groups, resolves and silences through a deployment.

Skipped where the package ``prometheus-alertmanager`` is not installed. CI installs it.
"""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from signalcraft import http_client
from signalcraft.dev import embedded_servers
from signalcraft.domain.errors import SignalCraftError
from signalcraft.storage.database import session
from signalcraft.storage.models import AlertEvent, Episode
from tests.support import ROOT
from tests.support.builders import groups
from tests.support.waiting import wait_until
from tests.support.web_client import add_workspace

PROGRAM = shutil.which("prometheus-alertmanager")
TOKEN = "alertmanager-token-long-enough"
#: Each of the two sends everything: a pair whose members do not reach each other.
AUTHORIZATION = (
    f"authorization: {{credentials: {TOKEN}}}",
    f"basic_auth: {{username: alertmanager, password: {TOKEN}}}",
)
CONFIG = """
route: {{receiver: signalcraft, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 5s}}
receivers:
  - name: signalcraft
    webhook_configs:
      - url: {url}/webhooks/alertmanager
        http_config: {{ {authorization} }}
"""

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="needs Debian's package prometheus-alertmanager"),
    pytest.mark.usefixtures("clean_redis"),
]


class Pair:
    """Two Alertmanagers, told of the same alerts."""

    def __init__(self, urls: list[str]) -> None:
        self.urls = urls
        self.started_at = datetime.now(UTC)

    def fire(self, *pods: str, ends_at: datetime | None = None) -> None:
        alerts = [
            {
                "labels": {"alertname": "PodRestarts", "service": "checkout", "severity": "critical", "pod": pod},
                "annotations": {"summary": "Pod restarts"},
                "startsAt": self.started_at.isoformat(),
                "endsAt": (ends_at or datetime.now(UTC) + timedelta(minutes=10)).isoformat(),
            }
            for pod in pods
        ]
        for url in self.urls:
            call(f"{url}/api/v2/alerts", alerts)

    def resolve(self, *pods: str) -> None:
        self.fire(*pods, ends_at=datetime.now(UTC))

    def silence(self, pod: str) -> list[str]:
        now = datetime.now(UTC)
        silence = {
            "matchers": [{"name": "pod", "value": pod, "isRegex": False, "isEqual": True}],
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(minutes=10)).isoformat(),
            "createdBy": "test",
            "comment": "test",
        }
        return [f"{url}/api/v2/silence/{call(f'{url}/api/v2/silences', silence)['silenceID']}" for url in self.urls]


def call(url: str, body: object = None, method: str = "POST") -> Any:  # noqa: ANN401 - JSON
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 - loopback
        return json.loads(response.read() or b"null")


def is_up(url: str) -> bool:
    with suppress(SignalCraftError):
        return http_client.get(url).status == 200
    return False


@pytest.fixture
def pair(environ: dict[str, str], tmp_path: Path) -> Iterator[Pair]:
    """A web process, a worker, and two Alertmanagers that send to it."""
    add_workspace()
    port = embedded_servers.free_port()
    variables = {**os.environ, **environ, "ALERTMANAGER_TOKEN": TOKEN, "PORT": str(port)}
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:

        def start(name: str, *command: str) -> None:
            log = stack.enter_context((tmp_path / f"{name}.log").open("wb"))
            process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=log, stderr=log)
            stack.callback(process.wait, 15)
            stack.callback(process.terminate)

        start("web", sys.executable, "-m", "gunicorn", "app:app")
        start("worker", sys.executable, "worker.py")
        wait_until(lambda: is_up(f"{url}/healthz"))
        urls = []
        for number, authorization in enumerate(AUTHORIZATION):
            config = tmp_path / f"alertmanager-{number}.yml"
            config.write_text(CONFIG.format(url=url, authorization=authorization))
            listen = embedded_servers.free_port()
            options = {
                "config.file": config,
                "storage.path": tmp_path / f"data-{number}",
                "web.listen-address": f"127.0.0.1:{listen}",
                "cluster.listen-address": "",
            }
            start(f"alertmanager-{number}", str(PROGRAM), *(f"--{name}={value}" for name, value in options.items()))
            urls.append(f"http://127.0.0.1:{listen}")
        for each in urls:
            wait_until(lambda url=each: is_up(f"{url}/-/ready"))
        yield Pair(urls)


def counts() -> list[tuple[str, int]]:
    return [(group.status, group.count) for group in groups()]


def ended() -> int:
    with session():
        return int(Episode.select().where(Episode.resolved_at.is_null(is_null=False)).count())


def test_it_fires_repeats_groups_resolves_and_silences(pair: Pair) -> None:
    pair.fire("pod-1", "pod-2")
    wait_until(lambda: counts() == [("open", 2)])
    (group,) = groups()
    assert (group.source, group.project, group.severity, group.title) == (
        "alertmanager",
        "checkout",
        "critical",
        "Pod restarts",
    )
    wait_until(lambda: groups()[0].last_seen_at > group.last_seen_at + timedelta(seconds=5), seconds=90)
    assert counts() == [("open", 2)], "repeats, by both of the pair, count once"

    pair.resolve("pod-1")
    wait_until(lambda: ended() == 1)
    assert counts() == [("open", 2)], "the other pod still fails"
    pair.resolve("pod-2")
    wait_until(lambda: counts() == [("resolved", 2)])

    silences = pair.silence("pod-3")
    pair.started_at = datetime.now(UTC)
    pair.fire("pod-3")
    pair.fire("pod-4")
    wait_until(lambda: counts()[1:] == [("open", 1)])
    with session():
        assert "pod-3" not in str([event.tags_json for event in AlertEvent.select()])
    for silence in silences:
        call(silence, method="DELETE")
    wait_until(lambda: counts()[1:] == [("open", 2)])
    pair.resolve("pod-3", "pod-4")
    wait_until(lambda: counts() == [("resolved", 2), ("resolved", 2)])
    with session():
        events = AlertEvent.select().order_by(AlertEvent.id)
        assert [event.decision for event in events] == ["new", "joined", "after_resolved", "joined"]
