"""The command line. Errors are one line on standard error and an exit status that is not 0."""

import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from signalcraft import care, dashboard, demo, doctor, documents, embedded, rescue
from signalcraft.deployment import ROOT, deployed
from signalcraft.domain.errors import SignalCraftError
from signalcraft.samples.mock_sentry import MockSentry
from signalcraft.settings import Settings
from signalcraft.sources.sentry import samples
from signalcraft.storage import migrations, tenants
from signalcraft.storage.database import open_database, session

_STARTING = "Starting Redis, PostgreSQL, web, worker and notifier ..."
_UP = """
It runs. Ctrl-C stops it; the data stays, in {deployment.directory}, beside the logs.

  webhooks   {deployment.webhook_url}
  groups     curl -H "Authorization: Bearer {deployment.token}" {deployment.url}/api/v1/groups
  the API    {deployment.url}/docs
  metrics    {deployment.url}/metrics
  settings   {environment} (the secret to sign with is SENTRY_CLIENT_SECRET there)

From another terminal:

  set -a; . {environment}; set +a
  .venv/bin/python -m signalcraft send event_alert.triggered --title "It broke" --count 3
  .venv/bin/python -m signalcraft dashboard # the queues, to look at
"""
_WORKSPACE = click.option("--workspace", required=True, metavar="SLUG", help="Whose.")


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


@contextmanager
def _database() -> Iterator[Settings]:
    settings = Settings.from_environ(os.environ)
    open_database(settings.database_url)
    with session():
        yield settings


@main.command()
def migrate() -> None:
    """Bring the database to the newest schema, and make the default workspace.

    Several at once wait for each other.
    """
    settings = Settings.from_environ(os.environ)
    for name in migrations.apply(settings.database_url):
        click.echo(f"applied {name}")
    with _database(), suppress(tenants.TenancyError):  # it is there already
        tenants.create_workspace(settings.default_workspace)
        click.echo(f"created the workspace {settings.default_workspace}")
    click.echo("The database is up to date.")


@main.group()
def workspace() -> None:
    """Tenants."""


@workspace.command("create")
@click.argument("slug")
def create_workspace(slug: str) -> None:
    """Make the workspace SLUG: 1 to 63 of a-z, 0-9, _ and -."""
    with _database():
        tenants.create_workspace(slug)
    click.echo(f"Created. Its webhook URL ends in /webhooks/sentry/{slug}")


@workspace.command("list")
def list_workspaces() -> None:
    """Print the slugs, one a line."""
    with _database():
        for slug in tenants.workspaces():
            click.echo(slug)


@main.group()
def secret() -> None:
    """What explains a delivery's signature. Several can be live, so that one can be changed without a gap."""


@secret.command("add")
@_WORKSPACE
@click.option("--kind", type=click.Choice(tenants.KINDS), default="integration", show_default=True)
@click.option("--name", help="What lists and logs call it; made up if not given.")
def add_secret(workspace: str, kind: str, name: str | None) -> None:
    """Store a secret, encrypted. Its value is asked for, or read from standard input: never an argument."""
    value = _ask_or_read()
    with _database() as settings:
        name = tenants.add_secret(workspace, kind, value, settings.encryption_keys, name)
    click.echo(f"Added {name}. Web processes know it within ten seconds.")


def _ask_or_read() -> str:
    if sys.stdin.isatty():
        return click.prompt("Secret", hide_input=True, err=True)
    return sys.stdin.read().strip()


@secret.command("list")
@_WORKSPACE
def list_secrets(workspace: str) -> None:
    """Print everything about the stored secrets but their values."""
    table = Table("name", "kind", "since", "last used", "retired")
    with _database():
        for info in tenants.secrets(workspace):
            times = (info.created_at, info.last_used_at, info.retired_at)
            table.add_row(info.name, info.kind, *(f"{moment:%Y-%m-%d %H:%M}" if moment else "" for moment in times))
    Console().print(table)


@secret.command("retire")
@_WORKSPACE
@click.argument("name")
def retire_secret(workspace: str, name: str) -> None:
    """Make the secret NAME explain nothing any more."""
    with _database():
        tenants.retire_secret(workspace, name)
    click.echo(f"Retired {name}.")


@secret.command("reencrypt")
def reencrypt_secrets() -> None:
    """Encrypt all secrets, of every workspace, with the first key in ENCRYPTION_KEY; the others can go then."""
    with _database() as settings:
        number = tenants.encrypt_anew(settings.encryption_keys)
    click.echo(f"Encrypted {number} with the first key.")


@main.group()
def token() -> None:
    """Bearer tokens for the API. Each is of one workspace."""


@token.command("create")
@_WORKSPACE
@click.option("--scope", "scopes", type=click.Choice(["read", "write"]), multiple=True, default=["read"],
              show_default=True, help="write includes read.")  # fmt: skip
@click.option("--name", help="What to revoke it by; made up if not given.")
def create_token(workspace: str, scopes: tuple[str, ...], name: str | None) -> None:
    """Make a token and print it, alone on the last line of standard output. It is shown this once."""
    name = name or f"token-{secrets.token_hex(3)}"
    with _database():
        value = tenants.create_token(workspace, can_write="write" in scopes, name=name)
    click.echo(f"Created {name}:", err=True)
    click.echo(value)


@token.command("revoke")
@_WORKSPACE
@click.argument("name")
def revoke_token(workspace: str, name: str) -> None:
    """Make the token NAME open nothing any more."""
    with _database():
        tenants.revoke_token(workspace, name)
    click.echo(f"Revoked {name}.")


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


def _console() -> Console:
    """As wide as the terminal; where there is none, wide enough for the tables."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


@main.command("demo")
def run_demo() -> None:
    """Play sample alerts through real servers and processes, print the groups, and leave nothing behind."""
    console = _console()
    with (
        tempfile.TemporaryDirectory(prefix="signalcraft-demo-") as directory,
        console.status(_STARTING) as status,
        deployed(Path(directory), os.environ, port=embedded.free_port(), durable=False) as deployment,
    ):
        status.stop()
        demo.play(deployment, console)


@main.command()
@click.option("--port", envvar="PORT", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / ".signalcraft",
    show_default=".signalcraft/",
    help="Where data, logs, secret and token are kept.",
)
def dev(port: int, data: Path) -> None:
    """Run everything on this machine until Ctrl-C, and keep its data."""
    console, environment = _console(), data / "environment"
    known = dict(line.split("=", 1) for line in environment.read_text().splitlines()) if environment.exists() else {}
    with (
        suppress(KeyboardInterrupt),
        console.status(_STARTING) as status,
        deployed(
            data,
            {"SLOW_QUERY_MS": "0", **os.environ},  # all of them
            port=port,
            secret=known.get("SENTRY_CLIENT_SECRET", ""),
            token=known.get("API_TOKEN", ""),
        ) as deployment,
    ):
        status.stop()
        environment.touch(mode=0o600)
        environment.write_text("".join(f"{name}={value}\n" for name, value in deployment.environ.items()))
        demo.play(deployment, console)
        # unbroken, for it is there to be copied
        click.echo(_UP.format(deployment=deployment, environment=os.path.relpath(environment)))
        while True:
            deployment.check()
            time.sleep(0.5)


@main.command("settings")
@click.option("--write", is_flag=True, help="Bring .env.example and README.md up to date.")
def show_settings(*, write: bool) -> None:
    """Print every setting with its default and its purpose."""
    if write:
        for path in documents.write():
            click.echo(f"wrote {path.name}")
    else:
        click.echo(documents.settings_table(), nl=False)


for command in (care.explain, care.show_stats, care.purge, dashboard.serve, doctor.doctor, *rescue.COMMANDS):
    main.add_command(command)
