"""The command line. An error is one line on standard error and a nonzero exit status."""

import os
from contextlib import suppress
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.progress import track

from signalcraft import __version__, http_client
from signalcraft.cli import doctor, local, notifications, recovery, reports, sign_in, slack, tenancy
from signalcraft.cli.context import database, prompt_secret
from signalcraft.dev import docs, settings_docs
from signalcraft.domain.errors import SignalCraftError
from signalcraft.settings import Settings
from signalcraft.sources import DEFAULT_SOURCE, SOURCES, Source
from signalcraft.sources.protocol import Sample
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
    """SignalCraft: alerts in, a few groups out. Settings are environment variables: see .env.example."""


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


#: The source of each sample.
_SAMPLES = {name: source for source in SOURCES.values() for name in source.SAMPLES}


@main.command(epilog=f"SAMPLE is one of: {', '.join(_SAMPLES)}.")
@click.argument("name", metavar="SAMPLE", type=click.Choice(list(_SAMPLES)))
@click.option("--url", help="Base URL or whole webhook URL; by default this machine's web process.")
@click.option("--secret", metavar="-", is_flag=False, flag_value="-",
              help="Ask for the secret, or read it from standard input; default: the source's variable, such as "
                   f"{DEFAULT_SOURCE.KINDS[0].variable}.")  # fmt: skip
@click.option(
    "--count",
    default=1,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Number of deliveries, all different.",
)
@click.option("--title", help="Title of the alert; one title is one problem.")
@click.option("--project", help="Slug of the project.")
@click.option("--environment", help="Environment of the alert.")
def send(name: str, url: str | None, secret: str | None, count: int, **params: str | None) -> None:
    """Send sample deliveries, as their sender would, and count the responses."""
    source = _SAMPLES[name]
    value = _secret_to_sign_with(secret, source, source.build_sample(name, secret="").kind)
    url = url or f"http://127.0.0.1:{os.environ.get('PORT', '8000')}"
    if urlsplit(url).path in ("", "/"):
        url = f"{url.rstrip('/')}/webhooks/{source.NAME}"
    given = {param: value for param, value in params.items() if value is not None}
    samples = (source.build_sample(name, secret=value, **given) for _ in range(count))
    responses: dict[str, int] = {}
    refused, kind = 0, ""
    progress = Console(stderr=True)
    for sample in track(samples, "Sending", total=count, console=progress, transient=True, disable=count == 1):
        kind = sample.kind
        response, is_accepted = _post(url, sample, source)
        responses[response] = responses.get(response, 0) + 1
        refused += not is_accepted
    for response, times in responses.items():
        click.echo(f"{times} x {response}")
    if any(response.startswith("401") for response in responses):
        _advise(kind, source)
    if refused:
        raise click.ClickException(f"{refused} of {count} deliveries were not accepted.")


def _post(url: str, sample: Sample, source: Source) -> tuple[str, bool]:
    """Post a sample as patiently as its sender; return the response in words, and whether it is a success."""
    try:
        response = http_client.post(sample.url(url), sample.body, sample.headers, timeout=source.TRAITS.answer_within)
    except http_client.ServerUnreachable as error:
        return f"no response: {type(error.__cause__).__name__}", False
    return response.summary, response.accepted


def _advise(kind: str, source: Source) -> None:
    """Say what a refused sample needs at the other end, unless it is the usual kind of secret."""
    for other in source.KINDS[1:]:
        if other.name == kind:
            add = f"`secret add --workspace SLUG --source {source.NAME} --kind {kind}`"
            click.echo(f"Its secret is {other.carried_by}. Add it with {add}, and send with the same.", err=True)


def _secret_to_sign_with(option: str | None, source: Source, kind: str) -> str:
    """Return the secret that ``send`` signs with.

    ``option`` is the value of --secret; a secret of ``kind`` is preferred.
    """
    kinds = sorted(source.KINDS, key=lambda each: each.name != kind)
    variables = [each.variable for each in kinds if each.variable]
    if option is None:
        found = (os.environ.get(variable, "").partition(",")[0].strip() for variable in variables)
        value = next(filter(None, found), "")
    elif option == "-":
        value = prompt_secret()
    else:
        value = option
        click.echo(
            "Warning: the process list and the shell's history show a secret on the command line. Use `--secret -`.",
            err=True,
        )
    if not value:
        names = " or ".join(variables)
        raise click.ClickException(f"there is no secret to sign with: set {names}, or use `--secret -`.")
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
