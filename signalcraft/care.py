"""Commands for whoever looks after a deployment: why an alert is where it is, and what is too old to keep."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.progress import track

from signalcraft import chores, explanations, models, retention, retrieval, workbench
from signalcraft.models import AlertEvent
from signalcraft.settings import Settings


@click.command()
@click.argument("event_id", type=int)
def explain(event_id: int) -> None:
    """Say why the event EVENT_ID is in the group it is in."""
    settings = Settings.from_environ(os.environ)
    models.open_database(settings.database_url)
    with models.session():
        whose = AlertEvent.select(AlertEvent.workspace, AlertEvent.alert_group).where(AlertEvent.id == event_id)
        found: tuple[int, int] | None = whose.tuples().first()
        if found is None:
            raise click.ClickException(f"there is no event {event_id}")
        workspace_id, group_id = found
        event = retrieval.event(workspace_id, event_id)
        group = retrieval.group(workspace_id, group_id, now=datetime.now(UTC))
    if event and group:
        for sentence in explanations.explain(event, group, workbench.policy_of(settings).window):
            click.echo(sentence)


@click.command()
@click.option("--dry-run", is_flag=True, help="Only count what would go.")
def purge(*, dry_run: bool) -> None:
    """Delete events past RETENTION_DAYS, but for each group's first, last and turning points, and older payloads."""
    settings = Settings.from_environ(os.environ)
    models.open_database(settings.database_url, statement_timeout_ms=120_000)
    old = chores.purge_of(settings, datetime.now(UTC))
    with models.session():
        events, payloads = retention.count(old)
        if dry_run:
            click.echo(f"{events} events and {payloads} payloads would go.")
            return
        deleted = _with_progress("Events", retention.delete_events, old.events_before)
        dropped = _with_progress("Payloads", retention.drop_payloads, old.payloads_before)
        retention.forget_words(old.events_before)
    click.echo(f"{deleted} events and {dropped} payloads are gone.")


def _with_progress(what: str, delete: Callable[[datetime], Iterator[int]], before: datetime) -> int:
    console = Console(stderr=True)
    return sum(track(delete(before), what, total=retention.transactions(before), console=console))
