"""Start, kill and freeze embedded servers over stdin: ``python -m signalcraft.dev.server_control DIRECTORY``.

A failure test sees SignalCraft only from outside, so it runs this as a child process: a line on standard input is a
command (``redis kill``), a line on standard output confirms it. When standard input ends, also because the parent
process died, the servers stop.
"""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from signalcraft.dev import embedded_servers
from signalcraft.dev.embedded_servers import Servers
from signalcraft.dev.server_process import Server


def host(directory: Path, commands: Iterable[str], output: TextIO) -> None:
    """Run both servers, and execute commands until ``commands`` ends.

    ``directory`` holds the servers' data. The first line written to ``output`` is a JSON object with the servers' URLs.

    Raises:
        EmbeddingError: a server does not start.
        KeyError: a command is unknown.
    """
    with embedded_servers.servers(directory, durable=False) as servers:
        _write_line(output, json.dumps({"redis": servers.redis_url, "postgres": servers.database_url}))
        known = _commands(servers)
        for command in commands:
            known[command.strip()]()
            _write_line(output, f"done: {command.strip()}")


def _commands(servers: Servers) -> dict[str, Callable[[], None]]:
    return {
        f"{server.name} {name}": action
        for server in (servers.redis, servers.postgres)
        for name, action in _actions(server).items()
    }


def _actions(server: Server) -> dict[str, Callable[[], None]]:
    return {"kill": server.kill, "start": server.start, "freeze": server.freeze, "thaw": server.thaw}


def _write_line(output: TextIO, line: str) -> None:
    output.write(f"{line}\n")
    output.flush()


if __name__ == "__main__":
    host(Path(sys.argv[1]), sys.stdin, sys.stdout)
