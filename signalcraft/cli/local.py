"""Commands for this machine: the demo, the development stack, the dashboard."""

import os
import secrets
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import click
from werkzeug.serving import run_simple

from signalcraft.cli import sign_in
from signalcraft.cli.context import console
from signalcraft.dev import demo, embedded_servers
from signalcraft.dev.local_stack import ROOT, run_local_stack
from signalcraft.settings import Settings
from signalcraft.sources import DEFAULT_SOURCE
from signalcraft.storage.database import open_database, session
from signalcraft.web.dashboard import create_dashboard

_STARTING = "Starting Redis, PostgreSQL, web, worker, notifier and a fake Slack ..."
_SLACK = """\
  Slack      {url}channels/alerts (a fake one: what people would see; its buttons work)
"""
_UP = """
SignalCraft is running, for this machine alone. Ctrl-C stops it; data and logs stay in {stack.directory}.

  the pages  {link}
             (signs in once, within an hour; `make run` again, or `python -m signalcraft login`, prints another)
  webhooks   {webhooks}
{slack}  groups     curl -H "Authorization: Bearer {stack.token}" {stack.url}/api/v1/groups
  the API    {stack.url}/docs
  the queues {stack.url}/rq (sign in with any name and the password {password})
  metrics    {stack.url}/metrics
  settings   {environment} (the secrets there sign deliveries)

From another terminal, in the shell that `make shell` opens:

  python -m signalcraft send {sample} --title "It broke" --count 3
  python -m signalcraft dashboard # view the queues
"""


#: Who runs it, in histories.
_NAME = "dev"
_LINK_MINUTES = 60


@click.command("demo")
def run_demo() -> None:
    """Send sample alerts through real servers and processes, print the groups and messages, and delete everything."""
    terminal = console()
    with (
        tempfile.TemporaryDirectory(prefix="signalcraft-demo-") as directory,
        terminal.status(_STARTING) as status,
        run_local_stack(Path(directory), os.environ, port=embedded_servers.free_port(), durable=False) as stack,
    ):
        status.stop()
        demo.play(stack, terminal)
    click.echo("`make run` keeps all of this up, with a page of what Slack shows, whose buttons work: docs/slack.md")


@click.command()
@click.option("--port", envvar="PORT", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / ".signalcraft",
    show_default=".signalcraft/",
    help="Directory for data, logs, secret and token.",
)
def dev(port: int, data: Path) -> None:
    """Run everything on this machine until Ctrl-C, and keep the data. The first run adds sample alerts."""
    terminal, environment = console(), data / "environment"
    previous = dict(line.split("=", 1) for line in environment.read_text().splitlines()) if environment.exists() else {}
    password = os.environ.get("DASHBOARD_PASSWORD") or previous.get("DASHBOARD_PASSWORD") or secrets.token_urlsafe(16)
    with (
        suppress(KeyboardInterrupt),
        terminal.status(_STARTING) as status,
        run_local_stack(
            data,
            {**os.environ, "DASHBOARD_PASSWORD": password},
            port=port,
            secret=previous.get(DEFAULT_SOURCE.KINDS[0].variable, ""),
            token=previous.get("API_TOKEN", ""),
        ) as stack,
    ):
        status.stop()
        environment.touch(mode=0o600)
        known = {**stack.environ, "DASHBOARD_PASSWORD": password}
        environment.write_text("".join(f"{name}={value}\n" for name, value in known.items()))
        if not previous:
            demo.play(stack, terminal)
        # not through Rich, which would wrap the lines to copy
        slack = _SLACK.format(url=stack.slack_url) if stack.slack_url else ""
        click.echo(
            _UP.format(
                stack=stack,
                slack=slack,
                sample=DEFAULT_SOURCE.SAMPLES[0],
                webhooks=", ".join(stack.webhook_urls.values()),
                environment=os.path.relpath(environment),
                password=password,
                link=_sign_in_link({**os.environ, **stack.environ}),
            )
        )
        while True:
            stack.check()
            time.sleep(0.5)


def _sign_in_link(environ: Mapping[str, str]) -> str:
    """Return a link to the pages for who runs this; without pages, say so."""
    settings = Settings.from_environ(environ)
    if not settings.ui:
        return "are off (UI=off)"
    open_database(settings.database_url)
    with session():
        return sign_in.link(replace(settings, public_url=""), settings.default_workspace, _NAME, minutes=_LINK_MINUTES)


@click.command("dashboard")
@click.option("--port", default=9181, show_default=True, type=click.IntRange(1, 65535))
def dashboard(port: int) -> None:
    """Serve the queue dashboard of REDIS_URL on this machine. It asks for DASHBOARD_PASSWORD if that is set."""
    redis_url = os.environ.get("REDIS_URL", "")
    if not redis_url:
        raise click.ClickException("REDIS_URL is not set.")
    click.echo(f"http://127.0.0.1:{port}/ (Ctrl-C stops it)")
    app = create_dashboard(redis_url, os.environ.get("DASHBOARD_PASSWORD", ""))
    app.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost"]  # a page of another name may resolve to this machine
    run_simple("127.0.0.1", port, app, threaded=True)


COMMANDS = (run_demo, dev, dashboard)
