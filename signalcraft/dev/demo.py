"""What ``make demo`` shows: deliveries of every sort go in over HTTP, and a few groups come out.

Every scene says how many alerts it should add. The demo ends well only if the groups' counts add up to that.
"""

import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table

from signalcraft import http_client
from signalcraft.dev.local_stack import Deployment, DeploymentError
from signalcraft.dev.mock_sentry import MockSentry
from signalcraft.sources.sentry import samples

_WORK_SECONDS = 30.0
_PAGE = 200
_COLOURS = {"critical": "bold red", "high": "red", "med": "yellow", "low": "blue", "info": "dim"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Deliveries that show one thing; ``alerts`` of them are alerts of their own, the rest must not count."""

    shows: str
    sample: str
    times: int = 1
    alerts: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    forged: bool = False


def scenes() -> list[Scene]:
    """A day of a shop, in order. Event ids are new each time, so that it can be played again on kept data."""
    event_id, other_event_id = uuid.uuid4().hex, uuid.uuid4().hex
    timeout = {"title": "PaymentTimeout: card gateway did not answer within 5.0 s"}
    catalog = {"project": "catalog", "fingerprint": ["{{ default }}"]}
    missing = {"title": "KeyError: 'price'", **catalog}
    return [
        Scene(shows="a new issue", sample="event_alert.triggered", alerts=1, params={"event_id": event_id, **timeout}),
        Scene(
            shows="the same delivery again", sample="event_alert.triggered", params={"event_id": event_id, **timeout}
        ),
        Scene(
            shows="the same event by another rule",
            sample="event_alert.triggered",
            params={"event_id": event_id, "rule": "Everything to SignalCraft", **timeout},
        ),
        Scene(shows="more events of the issue", sample="event_alert.triggered", times=25, alerts=25, params=timeout),
        Scene(
            shows="the issue in another environment",
            sample="event_alert.triggered",
            times=3,
            alerts=3,
            params={"environment": "staging", "level": "warning", **timeout},
        ),
        Scene(
            shows="an event that arrives as error.created",
            sample="error.created",
            alerts=1,
            params={"event_id": other_event_id, **missing},
        ),
        Scene(
            shows="… and as event_alert too",
            sample="event_alert.triggered",
            params={"event_id": other_event_id, **missing},
        ),
        Scene(
            shows="another issue with {{ default }}",
            sample="event_alert.triggered",
            times=4,
            alerts=4,
            params={"title": "TemplateSyntaxError: unknown tag 'pricee'", "level": "fatal", **catalog},
        ),
        Scene(
            shows="a metric alert",
            sample="metric_alert.critical",
            alerts=1,
            params={"project": "search", "title": "p95 latency above 800 ms"},
        ),
        Scene(shows="a comment, which is no alert", sample="comment.created"),
        Scene(shows="a delivery with a forged signature", sample="event_alert.triggered", forged=True),
        Scene(shows="the legacy plugin without a token", sample="legacy.modern", forged=True),
        Scene(shows="the first issue resolved in Sentry", sample="issue.resolved", params=timeout),
    ]


def play(deployment: Deployment, console: Console) -> None:
    """Send all scenes, wait until they are worked off, and print what became of them.

    Raises:
        DeploymentError: something was not answered, or the groups do not add up.
    """
    told, before = scenes(), sum(group["count"] for group in _groups(deployment))
    answers = _send(told, deployment, console)
    expected = before + sum(scene.alerts for scene in told)
    groups = _wait_for(expected, deployment)
    console.print(_as_table(groups))
    console.print(_totals(answers, groups))


def _send(told: Sequence[Scene], deployment: Deployment, console: Console) -> "Counter[str]":
    answers: Counter[str] = Counter()
    title = f"Sent to {deployment.webhook_url}"
    table = Table("what", "deliveries", "answer", title=title, title_justify="left", box=SIMPLE)
    for scene in track(told, "Sending", console=console, transient=True):
        given = Counter(_deliver(scene, deployment) for _ in range(scene.times))
        answers.update(given)
        table.add_row(scene.shows, f"{scene.times} {scene.sample}", ", ".join(given))
    console.print(table)
    return answers


def _deliver(scene: Scene, deployment: Deployment) -> str:
    sample = samples.build(scene.sample, secret="forged" if scene.forged else deployment.secret, **scene.params)
    attempt = MockSentry(url=deployment.webhook_url).deliver(sample)[-1]
    if attempt.answer.accepted == scene.forged:
        said = attempt.failure or attempt.answer.said
        raise DeploymentError(f"{scene.shows}: answered {said}.\n{deployment.last_lines('web')}")
    return attempt.answer.said


def _wait_for(alerts: int, deployment: Deployment) -> list[Mapping[str, Any]]:
    """The groups, once their counts add up and the resolved issue is resolved."""
    deadline = time.monotonic() + _WORK_SECONDS
    while True:
        deployment.check()
        groups = _groups(deployment)
        counted = sum(group["count"] for group in groups)
        if counted == alerts and any(group["status"] == "resolved" for group in groups):
            return groups
        if time.monotonic() > deadline:
            raise DeploymentError(
                f"The groups count {counted} alerts instead of {alerts}.\n{deployment.last_lines('worker')}",
            )
        time.sleep(0.1)


def _groups(deployment: Deployment) -> list[Mapping[str, Any]]:
    return [group for page in _pages(deployment) for group in page["groups"]]


def _pages(deployment: Deployment) -> Iterator[Mapping[str, Any]]:
    url = next_url = f"{deployment.url}/api/v1/groups?limit={_PAGE}"
    while next_url:
        answer = http_client.get(next_url, token=deployment.token)
        if not answer.accepted:
            raise DeploymentError(f"The API answered {answer.status}.\n{deployment.last_lines('web')}")
        yield answer.body
        cursor = answer.body["next_cursor"]
        next_url = f"{url}&cursor={cursor}" if cursor else ""


def _as_table(groups: Iterable[Mapping[str, Any]]) -> Table:
    table = Table(title="GET /api/v1/groups", title_justify="left", box=SIMPLE)
    for column in ("id", "status", "severity", "environment", "project"):
        table.add_column(column, no_wrap=True)
    table.add_column("title", overflow="fold")
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("last seen", no_wrap=True)
    for group in groups:
        severity = group["severity"]
        table.add_row(
            str(group["id"]),
            group["status"],
            f"[{_COLOURS.get(severity, 'default')}]{severity}[/]",
            group["environment"],
            group["project"],
            _plain(group["title"]),
            str(group["count"]),
            group["last_seen_at"][11:19],
        )
    return table


def _plain(text: str) -> str:
    """What a sender wrote is no markup."""
    return text.replace("[", r"\[")


def _totals(answers: Mapping[str, int], groups: Sequence[Mapping[str, Any]]) -> str:
    def times(beginning: str) -> int:
        return sum(number for answer, number in answers.items() if answer.startswith(beginning))

    return (
        f"[bold]{times('')}[/] deliveries sent: {times('202')} accepted, {times('200 duplicate')} duplicate, "
        f"{times('200 ignored')} ignored, {times('4')} refused. "
        f"[bold]{sum(group['count'] for group in groups)}[/] alerts in [bold]{len(groups)}[/] groups."
    )
