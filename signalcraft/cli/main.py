"""The command line. Errors are one line on standard error and an exit status that is not 0."""

import os
from contextlib import suppress
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.progress import track

from signalcraft.cli import doctor, local, recovery, reports, tenancy
from signalcraft.cli.context import database
from signalcraft.dev import docs, settings_docs
from signalcraft.dev.mock_sentry import MockSentry
from signalcraft.domain.errors import SignalCraftError
from signalcraft.settings import Settings
from signalcraft.sources.sentry import samples
from signalcraft.storage import migrations, tenants


class _Commands(click.Group):
    """Our own errors are for people to read; a traceback is for errors that we did not foresee."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except SignalCraftError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option("0.1.0", prog_name="SignalCraft")
def main() -> None:
    """SignalCraft: Sentry's webhooks in, a few groups out. Settings are environment variables: see .env.example."""


@main.command()
def migrate() -> None:
    """Bring the database to the newest schema, and make the default workspace.

    Several at once wait for each other.
    """
    settings = Settings.from_environ(os.environ)
    for name in migrations.apply(settings.database_url):
        click.echo(f"applied {name}")
    with database(), suppress(tenants.TenancyError):  # it is there already
        tenants.create_workspace(settings.default_workspace)
        click.echo(f"created the workspace {settings.default_workspace}")
    click.echo("The database is up to date.")


@main.command()
@click.argument("name", metavar="RESOURCE.ACTION", type=click.Choice(samples.NAMES))
@click.option("--url", help="Where to: an address, or a webhook's whole URL; by default this machine's web process.")
@click.option("--secret", envvar="SENTRY_CLIENT_SECRET", required=True, help="What to sign with.", show_envvar=True)
@click.option("--count", default=1, show_default=True, type=click.IntRange(1, 100_000), help="How many, all different.")
@click.option("--title", help="Of the alert; one title is one issue.")
@click.option("--project", help="Its slug.")
@click.option("--environment", help="Where it happened.")
def send(name: str, url: str | None, secret: str, count: int, **params: str | None) -> None:
    """Send signed sample deliveries, as Sentry would, and print each different answer."""
    url = url or f"http://127.0.0.1:{os.environ.get('PORT', '8000')}"
    if urlsplit(url).path in ("", "/"):
        url = url.rstrip("/") + "/webhooks/sentry"
    given = {param: value for param, value in params.items() if value is not None}
    answers: dict[str, int] = {}
    refused = 0
    for _ in track(range(count), "Sending", console=Console(stderr=True), transient=True, disable=count == 1):
        sample = samples.build(name, secret=secret.partition(",")[0], **given)
        attempt = MockSentry(url=url).deliver(sample)[-1]
        said = f"no answer: {attempt.failure}" if attempt.failure else attempt.answer.said
        answers[said] = answers.get(said, 0) + 1
        refused += not attempt.answer.accepted
    for said, times in answers.items():
        click.echo(f"{times} x {said}")
    if refused:
        raise click.ClickException(f"{refused} of {count} did not arrive.")


@main.command("settings")
@click.option("--write", is_flag=True, help="Bring .env.example and README.md up to date.")
def show_settings(*, write: bool) -> None:
    """Print every setting with its default and its purpose."""
    if write:
        for path in docs.write(settings_docs.documents()):
            click.echo(f"wrote {path.name}")
    else:
        click.echo(settings_docs.settings_table(), nl=False)


for command in (*tenancy.COMMANDS, *reports.COMMANDS, *recovery.COMMANDS, *local.COMMANDS, doctor.doctor):
    main.add_command(command)
