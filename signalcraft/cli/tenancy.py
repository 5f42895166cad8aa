"""Commands for workspaces, webhook secrets and API tokens."""

import secrets

import click
from rich.table import Table

from signalcraft.cli.context import console, database, minute, prompt_secret, workspace_option
from signalcraft.sources import DEFAULT_SOURCE, SOURCES
from signalcraft.storage import tenants

#: Stands for the time since which a credential of the environment is there.
_ENVIRONMENT = "environment"
_WORKSPACE = workspace_option(required=True)
_KINDS = " ".join(f"{name}: {', '.join(kind.name for kind in source.KINDS)}." for name, source in SOURCES.items())


@click.group()
def workspace() -> None:
    """Manage workspaces (tenants)."""


@workspace.command("create")
@click.argument("slug")
def create_workspace(slug: str) -> None:
    """Create the workspace SLUG: 1 to 63 of a-z, 0-9, _ and -."""
    with database():
        tenants.create_workspace(slug)
    paths = ", ".join(f"/webhooks/{source}/{slug}" for source in SOURCES)
    click.echo(f"Created. Its webhook URL ends in {paths}")


@workspace.command("list")
def list_workspaces() -> None:
    """Print the slugs, one a line."""
    with database():
        for slug in tenants.workspaces():
            click.echo(slug)


@click.group()
def secret() -> None:
    """Manage the secrets that verify deliveries. Several can be live, so that one can be rotated without a gap."""


@secret.command("add")
@_WORKSPACE
@click.option("--source", type=click.Choice(list(SOURCES)), default=DEFAULT_SOURCE.NAME, show_default=True)
@click.option("--kind", help=f"Kind of the secret, by default the first of its source. {_KINDS}")
@click.option("--name", help="Name in lists and logs; by default generated.")
def add_secret(workspace: str, source: str, kind: str | None, name: str | None) -> None:
    """Store a secret, encrypted. The value is prompted for or read from standard input, never an argument."""
    kinds = [known.name for known in SOURCES[source].KINDS]
    if kind is not None and kind not in kinds:
        raise click.BadParameter(f"{source} has the kinds {', '.join(kinds)}.", param_hint="--kind")
    value = prompt_secret()
    with database() as settings:
        name = tenants.add_secret(workspace, kind or kinds[0], value, settings.encryption_keys, name, source=source)
    click.echo(
        f"Added {name}. Web processes that have this ENCRYPTION_KEY use it at once; others refuse each delivery "
        f"that it signs.\n`doctor --workspace {workspace} --url <their URL>` sends one."
    )


@secret.command("list")
@_WORKSPACE
def list_secrets(workspace: str) -> None:
    """List the secrets, without their values: those of this environment, whose use is not recorded, and the stored."""
    table = Table("name", "source", "kind", "since", "last used", "retired")
    with database() as settings:
        stored = tenants.secrets(workspace)
    if workspace == settings.default_workspace:
        for source, found in settings.environment_secrets():
            table.add_row(found.name, source, found.kind, _ENVIRONMENT, "", "")
    for info in stored:
        times = map(minute, (info.created_at, info.last_used_at, info.retired_at))
        table.add_row(info.name, info.source, info.kind, *times)
    console().print(table)


@secret.command("retire")
@_WORKSPACE
@click.argument("name")
def retire_secret(workspace: str, name: str) -> None:
    """Retire the secret NAME: it verifies no signature any more."""
    with database():
        tenants.retire_secret(workspace, name)
    click.echo(f"Retired {name}.")


@secret.command("reencrypt")
def reencrypt_secrets() -> None:
    """Encrypt all secrets, of every workspace, with the first key in ENCRYPTION_KEY.

    Afterwards the other keys can be removed.
    """
    with database() as settings:
        number = tenants.reencrypt_secrets(settings.encryption_keys)
    click.echo(f"Encrypted {number} with the first key.")


@click.group()
def token() -> None:
    """Manage bearer tokens for the API. Each belongs to one workspace."""


@token.command("create")
@_WORKSPACE
@click.option("--scope", "scopes", type=click.Choice(["read", "write"]), multiple=True, default=["read"],
              show_default=True, help="write includes read.")  # fmt: skip
@click.option("--name", help="Name to revoke the token by; by default generated.")
def create_token(workspace: str, scopes: tuple[str, ...], name: str | None) -> None:
    """Create a token and print it, alone on the last line of standard output. It is shown only once."""
    name = name or f"token-{secrets.token_hex(3)}"
    with database():
        value = tenants.create_token(workspace, can_write="write" in scopes, name=name)
    click.echo(f"Created {name}:", err=True)
    click.echo(value)


@token.command("list")
@_WORKSPACE
def list_tokens(workspace: str) -> None:
    """List the tokens, without their values: that of this environment, whose use is not recorded, and the stored."""
    table = Table("name", "scope", "since", "last used", "revoked")
    with database() as settings:
        stored = tenants.tokens(workspace)
    if workspace == settings.default_workspace and settings.api_token:
        table.add_row("API_TOKEN", "write", _ENVIRONMENT, "", "")
    for info in stored:
        scope = "write" if info.can_write else "read"
        table.add_row(info.name, scope, *map(minute, (info.created_at, info.last_used_at, info.revoked_at)))
    console().print(table)


@token.command("revoke")
@_WORKSPACE
@click.argument("name")
def revoke_token(workspace: str, name: str) -> None:
    """Revoke the token NAME."""
    with database():
        tenants.revoke_token(workspace, name)
    click.echo(f"Revoked {name}.")


COMMANDS = (workspace, secret, token)
