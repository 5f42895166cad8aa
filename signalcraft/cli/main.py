"""The command line. An error is one line on standard error and a nonzero exit status."""

import os
from contextlib import suppress
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.progress import track

from signalcraft import __version__
from signalcraft.cli import doctor, local, notifications, recovery, reports, sign_in, slack, tenancy
from signalcraft.cli.context import database, prompt_secret
from signalcraft.dev import docs, settings_docs
from signalcraft.dev.mock_sentry import MockSentry
from signalcraft.domain.errors import SignalCraftError
from signalcraft.settings import Settings
from signalcraft.sources.sentry import samples
from signalcraft.storage import migrations, tenants


class _Commands(click.Group):
    """A group that prints SignalCraft's own errors as one line; others keep their traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; turn a SignalCraftError into a ClickException."""
        try:
            return super().invoke(ctx)
        except SignalCraftError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="SignalCraft")
def main() -> None:
    """SignalCraft: Sentry's webhooks in, a few groups out. Settings are environment variables: see .env.example."""


@main.command()
def migrate() -> None:
    """Apply all migrations, and create the default workspace.

    Concurrent runs wait for each other.
    """
    settings = Settings.from_environ(os.environ)
    for name in migrations.apply(settings.database_url):
        click.echo(f"applied {name}")
    with database(), suppress(tenants.TenancyError):  # it exists already
        tenants.create_workspace(settings.default_workspace)
        click.echo(f"created the workspace {settings.default_workspace}")
    click.echo("The database is up to date.")


#: What a sample needs at the other end that the others do not, by resource.
_SECRET_ADVICE = {
    "legacy": "Sentry's legacy plugin does not sign: its URL carries a secret of kind legacy.",
    "servicehook": "A service hook is signed with a secret of kind servicehook.",
}


@main.command(epilog=f"RESOURCE.ACTION is one of: {', '.join(samples.NAMES)}.")
@click.argument("name", metavar="RESOURCE.ACTION", type=click.Choice(samples.NAMES))
@click.option("--url", help="Base URL or whole webhook URL; by default this machine's web process.")
@click.option("--secret", metavar="-", is_flag=False, flag_value="-",
              help="Ask for the secret, or read it from standard input; default: SENTRY_CLIENT_SECRET.")  # fmt: skip
@click.option(
    "--count",
    default=1,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Number of deliveries, all different.",
)
@click.option("--title", help="Title of the alert; one title is one issue.")
@click.option("--project", help="Slug of the project.")
@click.option("--environment", help="Environment of the alert.")
def send(name: str, url: str | None, secret: str | None, count: int, **params: str | None) -> None:
    """Send signed sample deliveries, as Sentry would, and count the responses."""
    value = _secret_to_sign_with(secret)
    url = url or f"http://127.0.0.1:{os.environ.get('PORT', '8000')}"
    if urlsplit(url).path in ("", "/"):
        url = url.rstrip("/") + "/webhooks/sentry"
    given = {param: value for param, value in params.items() if value is not None}
    responses: dict[str, int] = {}
    refused = 0
    for _ in track(range(count), "Sending", console=Console(stderr=True), transient=True, disable=count == 1):
        sample = samples.build(name, secret=value, **given)
        attempt = MockSentry(url=url).deliver(sample)[-1]
        response = f"no response: {attempt.failure}" if attempt.failure else attempt.response.summary
        responses[response] = responses.get(response, 0) + 1
        refused += not attempt.response.accepted
    for response, times in responses.items():
        click.echo(f"{times} x {response}")
    kind = name.partition(".")[0]
    if any(response.startswith("401") for response in responses) and kind in _SECRET_ADVICE:
        add = f"`secret add --workspace SLUG --kind {kind}`"
        click.echo(f"{_SECRET_ADVICE[kind]} Add it with {add}, and send with the same.", err=True)
    if refused:
        raise click.ClickException(f"{refused} of {count} deliveries were not accepted.")


def _secret_to_sign_with(option: str | None) -> str:
    """Return the secret that ``send`` signs with.

    ``option`` is the value of --secret.
    """
    if option is None:
        value = os.environ.get("SENTRY_CLIENT_SECRET", "").partition(",")[0].strip()
    elif option == "-":
        value = prompt_secret()
    else:
        value = option
        click.echo(
            "Warning: the process list and the shell's history show a secret on the command line. Use `--secret -`.",
            err=True,
        )
    if not value:
        raise click.ClickException("there is no secret to sign with: set SENTRY_CLIENT_SECRET, or use `--secret -`.")
    return value


@main.command("settings")
@click.option("--write", is_flag=True, help="Update .env.example and README.md.")
def show_settings(*, write: bool) -> None:
    """Print every setting with its default and its purpose."""
    if write:
        for path in docs.write(settings_docs.documents()):
            click.echo(f"wrote {path.name}")
    else:
        click.echo(settings_docs.settings_table(), nl=False)


for command in (
    *tenancy.COMMANDS,
    *reports.COMMANDS,
    *recovery.COMMANDS,
    *notifications.COMMANDS,
    *slack.COMMANDS,
    *sign_in.COMMANDS,
    *local.COMMANDS,
    doctor.doctor,
):
    main.add_command(command)
