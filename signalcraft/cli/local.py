"""Commands for this machine: the demo, the development stack, the dashboard."""

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import click
from werkzeug.serving import run_simple

from signalcraft.cli.context import console
from signalcraft.dev import demo, embedded_servers
from signalcraft.dev.local_stack import ROOT, run_local_stack
from signalcraft.web.dashboard import create_dashboard

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


@click.command("demo")
def run_demo() -> None:
    """Play sample alerts through real servers and processes, print the groups, and leave nothing behind."""
    terminal = console()
    with (
        tempfile.TemporaryDirectory(prefix="signalcraft-demo-") as directory,
        terminal.status(_STARTING) as status,
        run_local_stack(Path(directory), os.environ, port=embedded_servers.free_port(), durable=False) as deployment,
    ):
        status.stop()
        demo.play(deployment, terminal)


@click.command()
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
    terminal, environment = console(), data / "environment"
    known = dict(line.split("=", 1) for line in environment.read_text().splitlines()) if environment.exists() else {}
    with (
        suppress(KeyboardInterrupt),
        terminal.status(_STARTING) as status,
        run_local_stack(
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
        demo.play(deployment, terminal)
        # unbroken, for it is there to be copied
        click.echo(_UP.format(deployment=deployment, environment=os.path.relpath(environment)))
        while True:
            deployment.check()
            time.sleep(0.5)


@click.command("dashboard")
@click.option("--port", default=9181, show_default=True, type=click.IntRange(1, 65535))
def dashboard(port: int) -> None:
    """Show the queues of REDIS_URL on this machine, to look at. DASHBOARD_PASSWORD is asked for if it is set."""
    redis_url = os.environ.get("REDIS_URL", "")
    if not redis_url:
        raise click.ClickException("REDIS_URL is not set.")
    click.echo(f"http://127.0.0.1:{port}/ (Ctrl-C ends it)")
    app = create_dashboard(redis_url, os.environ.get("DASHBOARD_PASSWORD", ""))
    run_simple("127.0.0.1", port, app, threaded=True)


COMMANDS = (run_demo, dev, dashboard)
