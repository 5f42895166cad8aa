"""Commands for recovery: put lost jobs back, replay deliveries, list dead letters."""

import os
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from signalcraft import tasks
from signalcraft.cli.context import LONG_TIMEOUT_MS, database
from signalcraft.queues import dead_letters, jobs, quarantine, redis_clients
from signalcraft.queues import reconcile as queues_reconcile
from signalcraft.settings import Settings
from signalcraft.worker import replay as worker_replay
from signalcraft.worker.replay import Period, ReplayResult

_MAX_LISTED = 100
_MAX_SHOWN = 2_000


class _UtcDateTime(click.DateTime):
    """A date, or a date and a time, in UTC."""

    def __init__(self) -> None:
        super().__init__(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        moment: datetime = super().convert(value, param, ctx)
        return moment.replace(tzinfo=UTC)


@click.command()
@click.option(
    "--quarantine", "moves", is_flag=True, help=f"Move what cannot be read to {quarantine.PREFIX}*, for 30 days."
)
def reconcile(*, moves: bool) -> None:
    """Put back jobs that are in Redis but in no queue or registry. A second run finds none.

    Entries that are no job ids, and keys of jobs that are no jobs, are counted.
    """
    settings = Settings.from_environ(os.environ)
    redis = redis_clients.for_worker(settings.redis_url)
    found = 0
    with (
        redis_clients.redis_errors_as_unavailable(),
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        quarantine.move_keys_of_other_types(redis)
        unreadable = quarantine.unreadable(redis, move=moves)
        for name in (jobs.ALERTS, jobs.NOTIFICATIONS):
            task = progress.add_task(f"Checking jobs of {name}", total=None)
            for put_back in queues_reconcile.reconcile(redis, name):
                found += put_back
                progress.advance(task)
    click.echo(f"{found} jobs were put back.")
    if unreadable and moves:
        click.echo(f"{unreadable} entries that are not ours were moved to {quarantine.PREFIX}* for 30 days.")
    elif unreadable:
        click.echo(f"{unreadable} entries are not ours and are skipped: `reconcile --quarantine` moves them.")


@click.command()
@click.option("--since", type=_UtcDateTime(), help="Only deliveries received at or after this time, in UTC.")
@click.option("--until", type=_UtcDateTime(), help="Only deliveries received before this time, in UTC.")
@click.option("--failed", is_flag=True, help="Only dead-lettered deliveries.")
@click.option("--dry-run", is_flag=True, help="Only report what would change.")
def replay(*, since: datetime | None, until: datetime | None, failed: bool, dry_run: bool) -> None:
    """Process stored deliveries again with the current code, as of the time they were received.

    An event that is stored already stays as it is and is not counted again.
    """
    period, total = Period(since=since, until=until), ReplayResult()
    with (
        database(statement_timeout_ms=LONG_TIMEOUT_MS) as settings,
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        context = tasks.configure_worker(settings, redis_clients.for_web(settings.redis_url)).context
        task = progress.add_task("Replaying", total=worker_replay.count(period, failed=failed))
        for batch in worker_replay.retained_deliveries(period, failed=failed):
            worker_replay.replay(batch, context, total, dry_run=dry_run)
            progress.advance(task, len(batch))
    would = "would be" if dry_run else "were"
    click.echo(
        f"{total.deliveries} deliveries: {total.alerts} alerts {would} added, "
        f"{total.still_failing} cannot be processed."
    )
    if total.identity_changed:
        click.echo(
            f"{total.identity_changed} events stay as they are: "
            "from their bodies alone they would get another id and be counted twice."
        )


@click.group("failed")
def failed() -> None:
    """List dead letters: deliveries that were acknowledged and failed. `replay --failed` tries again."""


@failed.command("list")
def list_failed() -> None:
    """List the newest dead letters that were not replayed."""
    table = Table("id", "failed", "workspace", "resource", "stage", "code", "reason")
    with database(statement_timeout_ms=LONG_TIMEOUT_MS):
        rows = dead_letters.newest(limit=_MAX_LISTED)
    for row in rows:
        when = f"{row.failed_at:%Y-%m-%d %H:%M}"
        reason = _without_markup(row.reason)
        table.add_row(str(row.id), when, str(row.workspace_id), row.resource, row.stage, row.code, reason)
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
    click.echo(f"{len(rows)} deliveries.")


@failed.command("show")
@click.argument("failed_id", metavar="ID", type=int)
@click.option("--body", is_flag=True, help="Only the whole body, byte for byte.")
def show_failed(failed_id: int, *, body: bool) -> None:
    """Show one dead letter in full."""
    with database(statement_timeout_ms=LONG_TIMEOUT_MS):
        row = dead_letters.get(failed_id)
    if row is None:
        raise click.ClickException(f"there is no failed delivery {failed_id}")
    if body:
        click.echo(bytes(row.body), nl=False)
        return
    for name in ("id", "delivery_id", "workspace_id", "source", "resource", "received_at", "failed_at", "replayed_at"):
        click.echo(f"{name:14} {getattr(row, name)}")
    click.echo(f"{'why':14} {row.stage}: {row.code}: {row.reason}")
    text = ascii(bytes(row.body[:_MAX_SHOWN]).decode("utf-8", "replace"))[1:-1]
    click.echo(f"{'body':14} {len(row.body)} bytes: {text}")


def _without_markup(text: str) -> str:
    return text.replace("[", r"\[")


COMMANDS: tuple[click.Command, ...] = (reconcile, replay, failed)
