"""Embedded servers for another process, which takes them away and brings them back: ``python -m signalcraft.hosting``.

A failure test is to know SignalCraft from outside alone, so it starts this and talks to it: one line on standard
input is an order (``redis kill``), one line on standard output says that it is done. When standard input ends, also
because whoever gave the orders died, the servers stop.
"""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from signalcraft.dev import embedded_servers
from signalcraft.dev.embedded_servers import Server, Servers


def host(directory: Path, orders: Iterable[str], done: TextIO) -> None:
    """Run both servers on ``directory``, and do as told, until there are no more ``orders``.

    The first line to ``done`` is a JSON object with the servers' URLs.

    Raises:
        EmbeddingError: a server does not start.
        KeyError: there is no such order.
    """
    with embedded_servers.servers(directory, durable=False) as servers:
        _say(done, json.dumps({"redis": servers.redis_url, "postgres": servers.database_url}))
        known = _orders(servers)
        for order in orders:
            known[order.strip()]()
            _say(done, f"done: {order.strip()}")


def _orders(servers: Servers) -> dict[str, Callable[[], None]]:
    return {
        f"{server.name} {name}": action
        for server in (servers.redis, servers.postgres)
        for name, action in _actions(server).items()
    }


def _actions(server: Server) -> dict[str, Callable[[], None]]:
    return {"kill": server.kill, "start": server.start, "freeze": server.freeze, "thaw": server.thaw}


def _say(done: TextIO, line: str) -> None:
    done.write(f"{line}\n")
    done.flush()


if __name__ == "__main__":
    host(Path(sys.argv[1]), sys.stdin, sys.stdout)
