"""gunicorn as in production, in a lane."""

import contextlib
from collections.abc import Iterator, Sequence

import psutil

from bench.arena import Lane, running, wait_until
from signalcraft import http_client
from signalcraft.dev import embedded_servers

#: The route of both applications.
PATH = "/webhooks/sentry"


@contextlib.contextmanager
def served(lane: Lane, app: str = "app:app", **settings: str) -> Iterator[int]:
    """Run one gunicorn worker with gunicorn.conf.py and ``app``; yield its port."""
    port = embedded_servers.free_port()
    with running(lane, f"web-{app.partition(':')[0]}", "-m", "gunicorn", app, PORT=str(port), **settings) as web:

        def is_up() -> bool:
            with contextlib.suppress(http_client.ServerUnreachable):
                return http_client.get(f"http://127.0.0.1:{port}/healthz").accepted
            return False

        wait_until(is_up, [web], timeout_seconds=30)
        yield port


def processes(port: int) -> Sequence[psutil.Process]:
    """Return gunicorn's processes: all that listen on ``port`` of the loopback interface."""
    listening = {one.pid for one in psutil.net_connections("tcp4") if one.laddr and one.laddr.port == port and one.pid}
    return [psutil.Process(pid) for pid in listening]
