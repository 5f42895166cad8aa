"""gunicorn as a deployment runs it, on a lane."""

import contextlib
from collections.abc import Iterator

from bench.arena import Lane, running, wait_until
from signalcraft import http_client
from signalcraft.dev import embedded_servers

#: The route that both applications have.
PATH = "/webhooks/sentry"


@contextlib.contextmanager
def served(lane: Lane, app: str = "app:app", **settings: str) -> Iterator[int]:
    """One gunicorn worker with our configuration file and ``app``; the port."""
    port = embedded_servers.free_port()
    with running(lane, f"web-{app.partition(':')[0]}", "-m", "gunicorn", app, PORT=str(port), **settings) as web:

        def is_up() -> bool:
            with contextlib.suppress(http_client.ServerUnreachable):
                return http_client.get(f"http://127.0.0.1:{port}/healthz").accepted
            return False

        wait_until(is_up, [web], seconds=30)
        yield port
