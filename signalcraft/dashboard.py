"""The command ``dashboard``."""

import os

import click
from werkzeug.serving import run_simple

from signalcraft.web.dashboard import create_dashboard


@click.command("dashboard")
@click.option("--port", default=9181, show_default=True, type=click.IntRange(1, 65535))
def serve(port: int) -> None:
    """Show the queues of REDIS_URL on this machine, to look at. DASHBOARD_PASSWORD is asked for if it is set."""
    redis_url = os.environ.get("REDIS_URL", "")
    if not redis_url:
        raise click.ClickException("REDIS_URL is not set.")
    click.echo(f"http://127.0.0.1:{port}/ (Ctrl-C ends it)")
    app = create_dashboard(redis_url, os.environ.get("DASHBOARD_PASSWORD", ""))
    run_simple("127.0.0.1", port, app, threaded=True)
