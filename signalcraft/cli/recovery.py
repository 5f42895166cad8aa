"""Commands for recovery: put lost jobs back, replay deliveries; list, replay and drop dead letters."""

import os
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from signalcraft import tasks
from signalcraft.cli.context import LONG_TIMEOUT_MS, database, minute, workspace_option
from signalcraft.queues import dead_letters, jobs, quarantine, redis_clients
from signalcraft.queues import reconcile as queues_reconcile
from signalcraft.settings import Settings
from signalcraft.storage import tenants
from signalcraft.storage.delivery_models import FailedDelivery
from signalcraft.worker import replay as worker_replay
from signalcraft.worker.replay import ReplayResult, Selection

_MAX_LISTED = 100
_MAX_SHOWN = 2_000
#: In lists, for a workspace that is gone: dead letters outlive it.
_NO_WORKSPACE = "(deleted)"


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
@click.option("--failed", is_flag=True, help="Dead letters that were not replayed, instead of events.")
@click.option("--all", "everything", is_flag=True, help="Every stored event with a body, and unhandled deliveries.")
@workspace_option(default="all")
@click.option("--dry-run", is_flag=True, help="Only report what would change.")
def replay(
    *,
    since: datetime | None,
    until: datetime | None,
    failed: bool,
    everything: bool,
    workspace: str | None,
    dry_run: bool,
) -> None:
    """Process stored deliveries again with the current code, as of the time they were received.

    Needs one of --failed, --since and --all. An event that is stored already stays as it is, and counts nowhere again.
    """
    if not (failed or since or everything):
        raise click.UsageError("Say what to replay: --failed (dead letters), --since TIME, or --all stored events.")
    if failed and everything:
        raise click.UsageError("--all is about stored events, and --failed about dead letters: give one of them.")
    with database(statement_timeout_ms=LONG_TIMEOUT_MS) as settings:
        workspace_id = tenants.id_of(workspace) if workspace else None
        selection = Selection(failed=failed, workspace_id=workspace_id, since=since, until=until)
        _replay(selection, settings, dry_run=dry_run)


def _replay(selection: Selection, settings: Settings, *, dry_run: bool = False) -> ReplayResult:
    """Replay what is selected, with a progress bar, and print the counts."""
    total = ReplayResult()
    context = tasks.configure_worker(settings, redis_clients.for_web(settings.redis_url)).context
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Replaying", total=worker_replay.count(selection))
        for batch in worker_replay.retained_deliveries(selection):
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
    return total


@click.group("failed")
def failed() -> None:
    """Show dead letters, deliveries that were acknowledged and failed; replay or drop them.

    They are kept for PAYLOAD_RETENTION_DAYS.
    """


@failed.command("list")
@workspace_option(default="all")
def list_failed(workspace: str | None) -> None:
    """List the newest dead letters that were not replayed."""
    table = Table("id", "failed", "workspace", "resource", "stage", "code", "reason")
    with database(statement_timeout_ms=LONG_TIMEOUT_MS):
        workspace_id = tenants.id_of(workspace) if workspace else None
        rows, slugs = dead_letters.newest(limit=_MAX_LISTED, workspace_id=workspace_id), tenants.slugs()
    for row in rows:
        reason = Text(row.reason)
        slug = slugs.get(row.workspace_id, _NO_WORKSPACE)
        table.add_row(str(row.id), minute(row.failed_at), slug, row.resource, row.stage, row.code, reason)
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
    click.echo(f"{len(rows)} deliveries.")


@failed.command("show")
@click.argument("failed_id", metavar="ID", type=int)
@click.option("--body", is_flag=True, help="Only the whole body, byte for byte.")
def show_failed(failed_id: int, *, body: bool) -> None:
    """Show one dead letter in full."""
    with database(statement_timeout_ms=LONG_TIMEOUT_MS):
        row, slugs = _dead_letter(failed_id), tenants.slugs()
    if body:
        click.echo(bytes(row.body), nl=False)
        return
    click.echo(f"{'workspace':14} {slugs.get(row.workspace_id, _NO_WORKSPACE)}")
    for name in ("id", "delivery_id", "source", "resource", "received_at", "failed_at", "replayed_at"):
        click.echo(f"{name:14} {getattr(row, name)}")
    click.echo(f"{'why':14} {row.stage}: {row.code}: {row.reason}")
    text = ascii(bytes(row.body[:_MAX_SHOWN]).decode("utf-8", "replace"))[1:-1]
    click.echo(f"{'body':14} {len(row.body)} bytes: {text}")


@failed.command("replay")
@click.argument("failed_id", metavar="ID", type=int)
def replay_failed(failed_id: int) -> None:
    """Process one dead letter again; `replay --failed` does all."""
    with database(statement_timeout_ms=LONG_TIMEOUT_MS) as settings:
        if _dead_letter(failed_id).replayed_at:
            raise click.ClickException(f"The dead letter {failed_id} was replayed already.")
        total = _replay(Selection(failed=True, failed_id=failed_id), settings)
    if total.still_failing:
        raise click.ClickException(f"The dead letter {failed_id} still cannot be processed.")


@failed.command("drop")
@click.argument("failed_id", metavar="[ID]", type=int, required=False)
@click.option("--before", type=_UtcDateTime(), help="All that failed before this time, in UTC.")
@workspace_option(default="all")
def drop_failed(failed_id: int | None, before: datetime | None, workspace: str | None) -> None:
    """Delete the dead letter ID, or all that failed before a time, replayed or not. Their bytes are lost."""
    with database(statement_timeout_ms=LONG_TIMEOUT_MS):
        if before is not None and failed_id is None:
            dropped = dead_letters.drop_before(before, tenants.id_of(workspace) if workspace else None)
        elif failed_id is not None and before is None and workspace is None:
            dropped = dead_letters.drop(_dead_letter(failed_id).id)
        else:
            raise click.UsageError("Give the ID of a dead letter; or --before TIME, with or without --workspace.")
    click.echo(f"{dropped} dead letters were dropped.")


def _dead_letter(failed_id: int) -> FailedDelivery:
    row = dead_letters.get(failed_id)
    if row is None:
        raise click.ClickException(f"There is no dead letter {failed_id}.")
    return row


COMMANDS: tuple[click.Command, ...] = (reconcile, replay, failed)
