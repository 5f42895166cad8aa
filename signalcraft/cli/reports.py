"""Commands for an operator: explain a group assignment, print statistics, purge old rows."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from signalcraft import sources
from signalcraft.cli.context import LONG_TIMEOUT_MS, database, workspace_option
from signalcraft.domain import explanations
from signalcraft.groups import hourly_counts
from signalcraft.groups.hourly_counts import MAX_DAYS, Period, Statistics
from signalcraft.groups.reading import event_queries, queries
from signalcraft.groups.reading.pages import Row
from signalcraft.storage import retention, tenants
from signalcraft.storage.database import current_time
from signalcraft.storage.models import Workspace
from signalcraft.worker import maintenance


@click.command()
@click.argument("event")
def explain(event: str) -> None:
    """Explain why an event is in its group.

    EVENT is an id of ours, the source's event id, or a delivery id. All workspaces are searched.
    """
    with database() as settings:
        found = list(_find(event))
    if not found:
        raise click.ClickException(f"There is no event {event}.")
    for event_row, group in found:
        window, fingerprints = settings.grouping_policy.window, sources.fingerprints(event_row["source"])
        for sentence in explanations.explain(event_row, group, window, fingerprints):
            click.echo(sentence)


def _find(name: str) -> Iterator[tuple[Row, Row]]:
    """Yield the event called ``name`` of each workspace that has one, with its group."""
    if not name.isprintable():
        return
    workspaces: Any = Workspace.select(Workspace.id).order_by(Workspace.id).tuples()
    for (workspace_id,) in workspaces:
        event = event_queries.find_event(workspace_id, name)
        group = event and queries.group(workspace_id, event["alert_group_id"], now=datetime.now(UTC))
        if event and group:
            yield event, group


@click.command("stats")
@workspace_option(default="DEFAULT_WORKSPACE")
@click.option("--days", type=click.IntRange(1, MAX_DAYS), default=1, show_default=True, help="Number of days back.")
def show_stats(workspace: str | None, days: int) -> None:
    """Print counts of alerts and groups: in total, by dimension, and the largest groups."""
    now = datetime.now(UTC)
    with database() as settings:
        workspace_id = tenants.id_of(workspace or settings.default_workspace)
        statistics = hourly_counts.of(workspace_id, Period.covering(now - timedelta(days=days), now))
    console = Console()
    console.print(_sums_table(statistics))
    console.print(_groups_table(statistics))


def _sums_table(statistics: Statistics) -> Table:
    period = statistics.period
    table = Table(title=f"{period.since:%Y-%m-%d %H:%M} to {period.until:%Y-%m-%d %H:%M} UTC", title_justify="left")
    table.add_column("dimension")
    for name in ("alerts", "duplicates", "joined a group", "new groups", "dedup ratio"):
        table.add_column(name, justify="right")
    rows = [("all", statistics.whole)]
    for division in ("severity", "environment", "project"):
        rows += [(str(value), sums) for value, sums in statistics.by[division]]
    for label, sums in rows:
        counts = (sums.alerts, sums.duplicates, sums.joined, sums.groups_new)
        table.add_row(escape(label), *(f"{count:,}" for count in counts), f"{sums.dedup_ratio:.1%}")
    return table


def _groups_table(statistics: Statistics) -> Table:
    table = Table("group", "title", "alerts", title="Largest groups last seen in that period", title_justify="left")
    for group_id, title, count in statistics.top_groups:
        table.add_row(str(group_id), escape(title), f"{count:,}")
    return table


@click.command()
@click.option("--dry-run", is_flag=True, help="Only count the rows to delete.")
def purge(*, dry_run: bool) -> None:
    """Delete events and notifications past RETENTION_DAYS, and bodies past PAYLOAD_RETENTION_DAYS.

    Each group keeps its first, last and decisive events. The bodies are those of events, dead letters, replayed or not,
    and unhandled deliveries. Workers do the same once a day.
    """
    with database(statement_timeout_ms=LONG_TIMEOUT_MS) as settings:
        old = maintenance.purge_of(settings, current_time())
        if dry_run:
            events, payloads = retention.count(old)
            raw = retention.count_raw_deliveries(old.payloads_before)
            told = retention.count_notifications(old.events_before)
            counts = f"{events} events, {payloads} payloads, {raw} raw deliveries and {told} notifications"
            click.echo(f"{counts} would be deleted.")
            return
        deleted = _with_progress("Events", retention.delete_events, old.events_before)
        dropped = _with_progress("Payloads", retention.drop_payloads, old.payloads_before)
        raw = retention.delete_raw_deliveries(old.payloads_before)
        retention.purge_source_updates(old.events_before)
        retention.purge_episodes(old.events_before)
        retention.purge_group_hours(old.events_before)
        told = retention.purge_notifications(old.events_before)
    click.echo(f"{deleted} events, {dropped} payloads, {raw} raw deliveries and {told} notifications were deleted.")


def _with_progress(label: str, delete: Callable[[datetime], Iterator[int]], before: datetime) -> int:
    console = Console(stderr=True)
    return sum(track(delete(before), label, total=retention.transactions(before), console=console))


COMMANDS = (explain, show_stats, purge)
