"""Commands for notifications: routes, receivers, and the messages themselves."""

import os
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import click
from rich.markup import escape
from rich.table import Table

from signalcraft.cli.context import LONG_TIMEOUT_MS, console, database, minute, workspace_option
from signalcraft.domain.alerts import Severity
from signalcraft.groups.reading import queries as group_queries
from signalcraft.groups.reading.pages import Row
from signalcraft.notify import config as notify_config
from signalcraft.notify import extensions, fan_out, queries
from signalcraft.notify.config import NotifyConfig
from signalcraft.notify.routes import Match, Subject, never_deciding
from signalcraft.notify.routing import Router
from signalcraft.notify.simulation import simulate
from signalcraft.settings import Settings
from signalcraft.sources import DEFAULT_SOURCE
from signalcraft.storage import tenants

_LISTED = 100
_TEST_SECONDS = 30.0
_STEPS = {"day": "%Y-%m-%d", "hour": "%Y-%m-%d %H:00"}
_PERIOD = re.compile(r"(\d{1,4})([mhd])")
_UTC_FORMATS = ("%Y-%m-%dT%H:%MZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def _config(settings: Settings, notify: str | None = None) -> NotifyConfig:
    return notify_config.load(settings.notify if notify is None else notify, os.environ)


@click.group("routes")
def routes() -> None:
    """Check and try the routes of NOTIFY: who is told of what."""


@routes.command("check")
def check_routes() -> None:
    """Read the configuration, and say what is wrong with it or with a receiver. Nothing is sent."""
    config = _config(Settings.from_environ(os.environ))
    problems = [
        f"{name}: {problem}"
        for name, receiver in config.receivers.items()
        for problem in notify_config.problems_of(receiver, os.environ)
    ]
    used = {name for route in config.routes for name in route.to} | ({config.fallback} if config.fallback else set())
    problems += [f"{name}: no route names this receiver" for name in config.receivers if name not in used]
    problems += [f"route {route.name}: {why}" for route, why in never_deciding(config.routes)]
    click.echo(f"Receivers: {len(config.receivers)}. Routes: {len(config.routes)}.")
    if not any(route.match.covers(Match()) for route in config.routes):
        click.echo("Alerts that meet the conditions of no route are told to no receiver.")
    for problem in problems:
        click.echo(problem)
    if problems:
        raise click.ClickException(f"{len(problems)} problems.")


class _Conditions(click.ParamType[tuple[str, str]]):
    """``project=pay`` or ``tag.team=pay``."""

    name = "NAME=VALUE"
    _NAMES = ("workspace", "source", "project", "environment", "severity")

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        name, equals, text = str(value).partition("=")
        if not equals or not (name in self._NAMES or name.removeprefix("tag.") != name):
            self.fail(
                f"{value} is not one of {', '.join(self._NAMES)} or tag.NAME, an equals sign, a value", param, ctx
            )
        return name, text


@routes.command("test")
@click.argument("conditions", metavar="[NAME=VALUE]...", nargs=-1, type=_Conditions())
@click.option("--at", type=click.DateTime(_UTC_FORMATS), help="When it happens, in UTC.")
@click.option("--kind", default="opened", show_default=True, type=click.Choice(notify_config.HAPPENINGS))
@click.option("--expect", help="Receivers that must be told, comma-separated; anything else is a failure.")
def test_routes(conditions: Sequence[tuple[str, str]], at: datetime | None, kind: str, expect: str | None) -> None:
    """Show what each route says to an alert, for instance project=pay environment=prod tag.team=core."""
    settings = Settings.from_environ(os.environ)
    config = _config(settings)
    moment = at.replace(tzinfo=UTC) if at else datetime.now(UTC)
    subject = _subject(dict(conditions), settings)
    told: dict[str, datetime] = {}
    is_decided = False
    for route in config.routes:
        why = route.match.mismatch(subject)
        if is_decided:
            why = "an earlier route decided"
        elif why is None and kind not in route.on:
            why = f"it does not tell of {kind}"
            is_decided = not route.go_on
        elif why is None:
            is_decided = not route.go_on
            due = route.due_at(moment)
            told |= {name: due for name in route.to if name not in told}
            why = f"tells {', '.join(route.to)} {'at once' if due <= moment else f'at {due:%Y-%m-%d %H:%M} UTC'}"
        click.echo(f"{route.name}: {why}")
    click.echo(f"Told: {', '.join(told) or 'no receiver'}.")
    if expect is not None and set(told) != {name.strip() for name in expect.split(",") if name.strip()}:
        raise click.ClickException(f"expected {expect}")


def _subject(conditions: Mapping[str, str], settings: Settings) -> Subject:
    try:
        severity = Severity(conditions.get("severity", "high"))
    except ValueError:
        names = ", ".join(each.value for each in Severity)
        raise click.BadParameter(f"severity must be one of {names}") from None
    return Subject(
        workspace=conditions.get("workspace", settings.default_workspace),
        source=conditions.get("source", DEFAULT_SOURCE.NAME),
        project=conditions.get("project", ""),
        environment=conditions.get("environment", settings.default_environment),
        severity=severity,
        tags=[(name.removeprefix("tag."), text) for name, text in conditions.items() if name.startswith("tag.")],
    )


@routes.command("explain")
@click.option("--group", "group_id", type=int, required=True, help="Id of the group.")
def explain_routes(group_id: int) -> None:
    """Say what happened to a group, who was told of it and with which outcome."""
    with database():
        happened = fan_out.happenings_of(group_id)
        page = queries.notifications(queries.NotificationFilter(group_id=group_id), limit=_LISTED, after=None)
    if not happened:
        raise click.ClickException(f"nothing is known of a group {group_id}")
    notifications = sorted(page.rows, key=lambda row: row["id"])
    for row in happened:
        routed = "" if row["routed_at"] else ", not routed yet"
        click.echo(f"{row['at']:%Y-%m-%d %H:%M:%S} {row['kind']} by {row['by']}{routed}")
        about = [each for each in notifications if each["happening_id"] == row["id"]]
        if row["routed_at"] and not about:
            click.echo("    no receiver was to be told, or a card was there to be edited")
        for each in about:
            click.echo(f"    {each['receiver']} by route {each['route'] or '(none)'}: {_state(each)}")
            for attempt in each["attempts"]:
                click.echo(f"        {attempt['at']:%H:%M:%S} {attempt['outcome']} {attempt['code']}".rstrip())


def _state(row: Row) -> str:
    match row["state"]:
        case "sent":
            return f"sent at {row['sent_at']:%Y-%m-%d %H:%M:%S}"
        case "covered":
            digest = f", by the digest {row['covered_by_id']}" if row["covered_by_id"] else ": it was no news any more"
            return f"not sent on its own{digest}"
        case "pending":
            return f"due at {row['due_at']:%Y-%m-%d %H:%M:%S}, {row['tries']} tries"
        case state:
            return str(state).replace("_", " ")


@routes.command("replay")
@click.option("--since", default="7d", show_default=True, help="How far back: 90m, 12h, 7d.")
@click.option("--file", "path", type=click.Path(exists=True, dir_okay=False), help="A file to compare with today's.")
@click.option("--by", "step", default="day", show_default=True, type=click.Choice(list(_STEPS)), help="In UTC.")
def replay_routes(since: str, path: str | None, step: str) -> None:
    """Count the messages that each receiver would have had, by day or hour, and compare with another file."""
    match = _PERIOD.fullmatch(since)
    if match is None:
        raise click.BadParameter("must be like 90m, 12h or 7d", param_hint="--since")
    begin = datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    with database(statement_timeout_ms=LONG_TIMEOUT_MS) as settings:
        happened = fan_out.happenings_since(begin)
    rules = extensions.rules(settings)
    configs = {"today": _config(settings)} | ({"file": _config(settings, path)} if path else {})
    counts = {
        name: simulate(config, Router(config, rules), happened, by_hour=step == "hour")
        for name, config in configs.items()
    }
    table = Table(step, "receiver", *counts)
    for receiver, begins in sorted({key for each in counts.values() for key in each}, key=lambda key: (key[1], key[0])):
        numbers = (str(each.get((receiver, begins), 0)) for each in counts.values())
        table.add_row(f"{begins:{_STEPS[step]}}", escape(receiver), *numbers)
    console().print(table)
    totals = ", ".join(f"{name} {sum(each.values())}" for name, each in counts.items())
    click.echo(f"{len(happened)} happenings; messages: {totals}.")


@click.group("receivers")
def receivers() -> None:
    """List the receivers, and send them a test."""


@receivers.command("list")
def list_receivers() -> None:
    """List the receivers of NOTIFY, and how they fare."""
    with database() as settings:
        config = _config(settings)
        known = {row["receiver"]: row for row in queries.receivers()}
    table = Table("receiver", "kind", "state", "waiting", "last sent", "last error")
    for name, receiver in config.receivers.items():
        row = known.get(name)
        state = (
            "no notifier has run" if row is None else f"broken: {row['broken_code']}" if row["broken_since"] else "ok"
        )
        sent, failed = (minute(row[f"last_{what}_at"]) if row else "" for what in ("sent", "error"))
        error = f"{failed} {row['last_error_code']}" if row and failed else ""
        table.add_row(escape(name), receiver.kind, state, str(row["waiting"]) if row else "", sent, error)
    console().print(table)


@receivers.command("test")
@click.argument("name")
def test_receiver(name: str) -> None:
    """Send a message marked TEST through the notifier, and wait for its outcome."""
    with database() as settings:
        if name not in _config(settings).receivers:
            raise click.ClickException(f"NOTIFY has no receiver {name}")
        notification_id = queries.insert_test(name)
    deadline = time.monotonic() + _TEST_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.5)
        with database():
            row = queries.notification(notification_id)
        if row and row["attempts"]:
            attempt = row["attempts"][-1]
            click.echo(f"{attempt['outcome']} {attempt['code']} {attempt['detail']}".strip())
            if attempt["outcome"] == "sent":
                return
            raise click.ClickException(f"{name} did not take the test")
    raise click.ClickException("no notifier has sent it: does `python worker.py notifications` run?")


@click.group("notifications")
def notifications() -> None:
    """List messages, and send again what was given up."""


@notifications.command("list")
@click.option("--receiver", help="Only of this receiver.")
@click.option("--state", type=click.Choice([state.value for state in queries.State]), help="Only in this state.")
@click.option("--group", "group_id", type=int, help="Only about this group.")
@workspace_option(default="all")
def list_notifications(receiver: str | None, state: str | None, group_id: int | None, workspace: str | None) -> None:
    """List the newest messages."""
    table = Table("id", "happened", "receiver", "reason", "group", "state", "tries", "outcome")
    with database(statement_timeout_ms=LONG_TIMEOUT_MS):
        workspace_id = tenants.id_of(workspace) if workspace else None
        wanted = queries.NotificationFilter(
            workspace_id=workspace_id,
            receiver=receiver,
            state=queries.State(state) if state else None,
            group_id=group_id,
        )
        page = queries.notifications(wanted, limit=_LISTED, after=None)
    for row in page.rows:
        last = row["attempts"][-1] if row["attempts"] else None
        table.add_row(
            str(row["id"]),
            f"{row['happened_at']:%Y-%m-%d %H:%M:%S}",
            escape(row["receiver"]),
            row["reason"],
            str(row["alert_group_id"] or ""),
            row["state"],
            str(row["tries"]),
            f"{last['outcome']} {last['code']}" if last else "",
        )
    console().print(table)
    click.echo(f"{len(page.rows)} notifications{', and more' if page.end else ''}.")


@notifications.command("show")
@click.argument("notification_id", metavar="ID", type=int)
def show_notification(notification_id: int) -> None:
    """Show one message and every attempt to send it."""
    with database():
        row = queries.notification(notification_id)
        group = (
            row
            and row["alert_group_id"]
            and group_queries.group(row["workspace"], row["alert_group_id"], now=datetime.now(UTC))
        )
    if row is None:
        raise click.ClickException(f"there is no notification {notification_id}")
    for name in ("id", "receiver", "route", "mode", "reason", "state", "tries", "happened_at", "due_at", "sent_at"):
        click.echo(f"{name:12} {row[name]}")
    click.echo(f"{'about':12} {group['title'] if group else row['title']}")
    for attempt in row["attempts"]:
        click.echo(
            f"{attempt['at']:%Y-%m-%d %H:%M:%S} {attempt['outcome']} {attempt['code']} "
            f"({attempt['took_ms']} ms) {ascii(attempt['detail'])[1:-1]}".rstrip()
        )


@notifications.command("retry")
@click.argument("notification_id", metavar="[ID]", type=int, required=False)
@click.option("--all", "is_all", is_flag=True, help="All that were given up.")
def retry_notifications(notification_id: int | None, *, is_all: bool) -> None:
    """Send again what was given up."""
    if (notification_id is None) != is_all:
        raise click.UsageError("name one notification, or --all")
    with database():
        retried = queries.retry(notification_id)
    click.echo(f"{retried} notifications are due again.")
    if not retried and notification_id is not None:
        raise click.ClickException(f"{notification_id} is no notification that was given up")


COMMANDS: tuple[click.Command, ...] = (routes, receivers, notifications)
