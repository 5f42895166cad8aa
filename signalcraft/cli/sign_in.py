"""The command that prints a link to sign in to the pages."""

from urllib.parse import urlencode

import click

from signalcraft.cli.context import database, workspace_option
from signalcraft.groups.reading.request_fields import is_name
from signalcraft.settings import Settings
from signalcraft.storage import tenants
from signalcraft.ui.session import MAX_LINK_MINUTES, Sessions

_MINUTES = 10


@click.command("login")
@workspace_option(required=True)
@click.option("--as", "name", required=True, metavar="NAME", help="Who it is for: shown in histories.")
@click.option(
    "--minutes",
    default=_MINUTES,
    show_default=True,
    type=click.IntRange(1, MAX_LINK_MINUTES),
    help="How long the link is good for.",
)
def login(workspace: str, name: str, minutes: int) -> None:
    """Print a link that signs in to the pages once, alone on the last line of standard output.

    It signs in with the token NAME of the workspace, which is created with the scope write if there is none: `token
    revoke NAME` ends the sessions of that name.
    """
    with database() as settings:
        url = link(settings, workspace, name, minutes=minutes)
    click.echo(f"Signs in as {name}, once, within {minutes} minutes:", err=True)
    click.echo(url)


def link(settings: Settings, workspace: str, name: str, *, minutes: int = _MINUTES) -> str:
    """Return a URL that signs in once. Call it inside ``database.session()``.

    Raises:
        ClickException: the pages are off, or the name is none.
        TenancyError: no such workspace, or the token was revoked.
    """
    if not settings.ui:
        raise click.ClickException("the pages are off: set UI=on.")
    if not is_name(name):
        raise click.ClickException("NAME must be 1 to 200 characters, none of them a control character.")
    text = Sessions.from_secret(settings.database_url).write_link(
        tenants.token_to_sign_in(workspace, name), minutes=minutes
    )
    base = settings.public_url or f"http://127.0.0.1:{settings.port}"
    return f"{base}/login?{urlencode({'link': text})}"


COMMANDS = (login,)
