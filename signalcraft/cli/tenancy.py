"""Commands for workspaces, webhook secrets and API tokens."""

import secrets

import click
from rich.console import Console
from rich.table import Table

from signalcraft.cli.context import database, prompt_secret
from signalcraft.storage import tenants

_WORKSPACE = click.option("--workspace", required=True, metavar="SLUG", help="Whose.")


@click.group()
def workspace() -> None:
    """Tenants."""


@workspace.command("create")
@click.argument("slug")
def create_workspace(slug: str) -> None:
    """Make the workspace SLUG: 1 to 63 of a-z, 0-9, _ and -."""
    with database():
        tenants.create_workspace(slug)
    click.echo(f"Created. Its webhook URL ends in /webhooks/sentry/{slug}")


@workspace.command("list")
def list_workspaces() -> None:
    """Print the slugs, one a line."""
    with database():
        for slug in tenants.workspaces():
            click.echo(slug)


@click.group()
def secret() -> None:
    """What explains a delivery's signature. Several can be live, so that one can be changed without a gap."""


@secret.command("add")
@_WORKSPACE
@click.option("--kind", type=click.Choice(tenants.KINDS), default="integration", show_default=True)
@click.option("--name", help="What lists and logs call it; made up if not given.")
def add_secret(workspace: str, kind: str, name: str | None) -> None:
    """Store a secret, encrypted. Its value is asked for, or read from standard input: never an argument."""
    value = prompt_secret()
    with database() as settings:
        name = tenants.add_secret(workspace, kind, value, settings.encryption_keys, name)
    click.echo(f"Added {name}. Web processes know it within ten seconds.")


@secret.command("list")
@_WORKSPACE
def list_secrets(workspace: str) -> None:
    """Print everything about the stored secrets but their values."""
    table = Table("name", "kind", "since", "last used", "retired")
    with database():
        for info in tenants.secrets(workspace):
            times = (info.created_at, info.last_used_at, info.retired_at)
            table.add_row(info.name, info.kind, *(f"{moment:%Y-%m-%d %H:%M}" if moment else "" for moment in times))
    Console().print(table)


@secret.command("retire")
@_WORKSPACE
@click.argument("name")
def retire_secret(workspace: str, name: str) -> None:
    """Make the secret NAME explain nothing any more."""
    with database():
        tenants.retire_secret(workspace, name)
    click.echo(f"Retired {name}.")


@secret.command("reencrypt")
def reencrypt_secrets() -> None:
    """Encrypt all secrets, of every workspace, with the first key in ENCRYPTION_KEY; the others can go then."""
    with database() as settings:
        number = tenants.encrypt_anew(settings.encryption_keys)
    click.echo(f"Encrypted {number} with the first key.")


@click.group()
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
    with database():
        value = tenants.create_token(workspace, can_write="write" in scopes, name=name)
    click.echo(f"Created {name}:", err=True)
    click.echo(value)


@token.command("revoke")
@_WORKSPACE
@click.argument("name")
def revoke_token(workspace: str, name: str) -> None:
    """Make the token NAME open nothing any more."""
    with database():
        tenants.revoke_token(workspace, name)
    click.echo(f"Revoked {name}.")


COMMANDS = (workspace, secret, token)
