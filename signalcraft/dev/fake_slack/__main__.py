"""Serve the fake Slack: ``python -m signalcraft.dev.fake_slack --port 8090``."""

import time
from collections.abc import Sequence
from contextlib import suppress

import click

from signalcraft.dev.fake_slack.server import serving
from signalcraft.dev.fake_slack.workspace import BOT_TOKEN, SIGNING_SECRET, FakeSlack


@click.command()
@click.option("--port", default=8090, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--token", default=BOT_TOKEN, envvar="SLACK_BOT_TOKEN", show_default=True, show_envvar=True, help="The bot token."
)
@click.option(
    "--signing-secret",
    default=SIGNING_SECRET,
    envvar="SLACK_SIGNING_SECRET",
    show_default=True,
    show_envvar=True,
    help="Signs presses of buttons.",
)
@click.option(
    "--request-url",
    default="http://127.0.0.1:8000/slack/actions",
    show_default=True,
    help="Where presses of buttons are sent.",
)
@click.option("--channel", "channels", multiple=True, default=("alerts", "payments"), show_default=True)
def main(port: int, token: str, signing_secret: str, request_url: str, channels: Sequence[str]) -> None:
    """Serve a fake Slack on this machine until Ctrl-C: its Web API, and a page that shows its channels."""
    slack = FakeSlack(channels, token=token, signing_secret=signing_secret, request_url=request_url)
    with suppress(KeyboardInterrupt), serving(slack, port):
        click.echo(f"channels       {slack.page}")
        click.echo(f"SLACK_API_URL  {slack.url}")
        for channel in slack.channels.values():
            click.echo(f"#{channel.name:13} {channel.id}")
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
