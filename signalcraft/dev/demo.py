"""The scenes of ``make demo``: deliveries sent over HTTP, the groups they end up in, and what Slack shows of those.

Every scene states how many alerts it adds. The demo succeeds only if the groups' counts add up to that.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from signalcraft import http_client
from signalcraft.dev.local_stack import Deployment, DeploymentError
from signalcraft.sources import SOURCES, Source
from signalcraft.sources.protocol import Scene

_PROCESSING_TIMEOUT_SECONDS = 30.0
_PAGE_SIZE = 200
_COLOURS = {"critical": "bold red", "high": "red", "med": "yellow", "low": "blue", "info": "dim"}


def scenes() -> list[tuple[Source, Scene]]:
    """Return the scenes of all sources, in order."""
    return [(source, scene) for source in SOURCES.values() for scene in source.scenes()]


def play(stack: Deployment, console: Console) -> None:
    """Send all scenes, await their processing, and print the groups and Slack's messages.

    Raises:
        DeploymentError: a delivery got an unexpected response, the groups do not add up, or Slack is not told of one.
    """
    script, before = scenes(), sum(group["count"] for group in _groups(stack))
    responses = _send(script, stack, console)
    expected = before + sum(scene.alerts for _, scene in script)
    groups = _wait_for(expected, stack)
    console.print(_as_table(groups))
    console.print(_totals(responses, groups))
    if stack.slack_url:
        console.print(_as_messages(_wait_for_messages(groups, stack)))


def _send(script: Sequence[tuple[Source, Scene]], stack: Deployment, console: Console) -> "Counter[str]":
    responses: Counter[str] = Counter()
    title = f"Sent to {stack.url}/webhooks/<source>"
    table = Table("scene", "deliveries", "response", title=title, title_justify="left", box=SIMPLE)
    for source, scene in track(script, "Sending", console=console, transient=True):
        received = Counter(_deliver(source, scene, stack) for _ in range(scene.times))
        responses.update(received)
        table.add_row(scene.shows, f"{scene.times} {scene.sample}", ", ".join(received))
    console.print(table)
    return responses


def _deliver(source: Source, scene: Scene, stack: Deployment) -> str:
    secret = "forged" if scene.forged else stack.secret
    sample = source.build_sample(scene.sample, secret=secret, **scene.params)
    url = sample.url(stack.webhook_urls[source.NAME])
    response = http_client.post(url, sample.body, sample.headers, timeout=source.TRAITS.answer_within)
    if response.accepted == scene.forged:
        raise DeploymentError(f"{scene.shows}: response {response.summary}.\n{stack.last_lines('web')}")
    return response.summary


def _wait_for(alerts: int, stack: Deployment) -> list[Mapping[str, Any]]:
    """Poll the groups until all scenes have been processed.

    That is when their counts add up and the resolved issue is resolved.
    """
    deadline = time.monotonic() + _PROCESSING_TIMEOUT_SECONDS
    while True:
        stack.check()
        groups = _groups(stack)
        counted = sum(group["count"] for group in groups)
        if counted == alerts and any(group["status"] == "resolved" for group in groups):
            return groups
        if time.monotonic() > deadline:
            raise DeploymentError(
                f"The groups count {counted} alerts instead of {alerts}.\n{stack.last_lines('worker')}",
            )
        time.sleep(0.1)


def _groups(stack: Deployment) -> list[Mapping[str, Any]]:
    return [group for page in _pages(stack) for group in page["groups"]]


def _pages(stack: Deployment) -> Iterator[Mapping[str, Any]]:
    url = next_url = f"{stack.url}/api/v1/groups?limit={_PAGE_SIZE}"
    while next_url:
        response = http_client.get(next_url, token=stack.token)
        if not response.accepted:
            raise DeploymentError(f"The API responded with {response.status}.\n{stack.last_lines('web')}")
        yield response.body
        cursor = response.body["next_cursor"]
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
            Text(group["title"]),
            str(group["count"]),
            group["last_seen_at"][11:19],
        )
    return table


def _wait_for_messages(groups: Iterable[Mapping[str, Any]], stack: Deployment) -> list[Mapping[str, Any]]:
    """Poll the fake Slack until it shows each open group, and none as new that is resolved.

    About one message a second may be posted to a channel. What was resolved before it was told is not told.
    """
    opened = {group["title"] for group in groups if group["status"] == "open"}
    deadline = time.monotonic() + _PROCESSING_TIMEOUT_SECONDS
    while True:
        stack.check()
        messages: list[Mapping[str, Any]] = http_client.get(f"{stack.slack_url}control").body["channels"]["alerts"]
        shown = {message["text"].partition("\n")[0] for message in messages}
        if {line for line in shown if line.startswith("New: ")} == {f"New: {title}" for title in opened}:
            return messages
        if time.monotonic() > deadline:
            raise DeploymentError(f"Slack does not show the groups as they are.\n{stack.last_lines('notifier')}")
        time.sleep(0.1)


def _as_messages(messages: Iterable[Mapping[str, Any]]) -> Table:
    table = Table("message", "edits", title="Slack, #alerts", title_justify="left", box=SIMPLE)
    for message in messages:
        table.add_row(Text(message["text"]), str(message["edits"]))
    return table


def _totals(responses: Mapping[str, int], groups: Sequence[Mapping[str, Any]]) -> str:
    def times(prefix: str) -> int:
        return sum(number for response, number in responses.items() if response.startswith(prefix))

    return (
        f"[bold]{times('')}[/] deliveries sent: {times('202')} accepted, {times('200 duplicate')} duplicate, "
        f"{times('200 ignored')} ignored, {times('4')} refused. "
        f"[bold]{sum(group['count'] for group in groups)}[/] alerts in [bold]{len(groups)}[/] groups."
    )
