"""Command for Slack: the manifest from which Slack makes the app."""

import json
from urllib.parse import urlsplit

import click

_NAME = "SignalCraft"
#: The last one is for looking up a message whose outcome is unknown, so that it is not posted twice.
_SCOPES = ("chat:write", "chat:write.public", "channels:history")


@click.group("slack")
def slack() -> None:
    """Set up the Slack app. docs/slack.md has all steps."""


class _HttpsUrl(click.ParamType[str]):
    """The URL of a deployment that Slack can reach."""

    name = "URL"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        url = urlsplit(str(value))
        if url.scheme != "https" or not url.hostname or url.username or url.query or url.fragment:
            self.fail("must be https:// and a host: Slack sends pressed buttons there", param, ctx)
        return str(value).rstrip("/")


@slack.command("manifest")
@click.option(
    "--url",
    required=True,
    envvar="PUBLIC_URL",
    show_envvar=True,
    type=_HttpsUrl(),
    help="Where Slack reaches SignalCraft.",
)
def print_manifest(url: str) -> None:
    """Print the manifest of the Slack app as JSON, to be pasted at https://api.slack.com/apps."""
    click.echo(json.dumps(manifest(url), indent=2))


def manifest(url: str) -> dict[str, object]:
    """Return the manifest of an app whose buttons are sent to the deployment at ``url``."""
    return {
        "display_information": {
            "name": _NAME,
            "description": "Tells of groups of alerts, and lets you acknowledge, snooze and resolve them.",
            "background_color": "#1f2a44",
        },
        "features": {"bot_user": {"display_name": _NAME, "always_online": True}},
        "oauth_config": {"scopes": {"bot": list(_SCOPES)}},
        "settings": {
            "interactivity": {"is_enabled": True, "request_url": f"{url}/slack/actions"},
            "org_deploy_enabled": False,
            "socket_mode_enabled": False,
            "token_rotation_enabled": False,
        },
    }


COMMANDS = (slack,)
