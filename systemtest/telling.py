"""A receiver of webhooks, and whether it was told of every group: by one message, however often that arrived."""

import json
import secrets
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Final

import psycopg2

_CONFIG: Final = """
storm = 0
[receivers.hook]
kind = "webhook"
url = "http://127.0.0.1:{port}/"
secret = "{secret}"
[[routes]]
name = "all"
to = ["hook"]
"""
_GROUPS: Final = "SELECT id FROM alert_group"


class Receiver(ThreadingHTTPServer):
    """Records the webhook-id, the type and the group of each message that it accepts; ``refuses``: it answers 503."""

    daemon_threads = True

    def __init__(self) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.accepted: list[tuple[str, str, int]] = []
        self.refuses = False
        self.secret = f"whsec_{b64encode(secrets.token_bytes(32)).decode()}"

    @property
    def notify(self) -> str:
        """The setting NOTIFY of a deployment that tells this receiver of every group by itself."""
        return _CONFIG.format(port=self.server_port, secret=self.secret)

    def refuse(self) -> None:
        """Answer 503 from now on."""
        self.refuses = True

    def accept(self) -> None:
        """Accept messages again."""
        self.refuses = False

    def handle_error(self, *_: object) -> None:
        """Write nothing: notifiers are killed while they wait for an answer."""


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.server.refuses and body["type"].startswith("group."):
            self.server.accepted.append((self.headers["webhook-id"], body["type"], body["data"]["group"]["id"]))
        self.send_response(503 if self.server.refuses else 202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver during the block."""
    with Receiver() as receiver:
        thread = Thread(target=receiver.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
            thread.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """Results. ``again`` are messages that came more often than once, ``doubled`` are those with an id of their own."""

    groups: int
    lost: int
    again: int
    doubled: int
    seconds: float

    @property
    def guarantees_hold(self) -> bool:
        """Return whether every group was told of, and nothing twice under two ids."""
        return not (self.lost or self.doubled)

    def lines(self) -> Iterator[str]:
        """Yield the results as text."""
        yield f"groups to tell of         {self.groups}, the last told {self.seconds:.1f} s after all was stored"
        yield f"groups not told of        {self.lost}"
        yield f"messages that came again  {self.again}, with another id {self.doubled}"


def check(receiver: Receiver, database_url: str, *, timeout_seconds: float) -> Telling:
    """Wait until the receiver was told of all groups, at most ``timeout_seconds``; then count."""
    began = time.monotonic()
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute(_GROUPS)
        groups = {group for (group,) in cursor.fetchall()}
    while True:
        missing = groups - {group for _, kind, group in receiver.accepted if kind == "group.opened"}
        waited = time.monotonic() - began
        if not missing or waited > timeout_seconds:
            break
        time.sleep(0.2)
    accepted = list(receiver.accepted)
    messages = Counter((kind, group) for _, kind, group in set(accepted) if kind == "group.opened")
    return Telling(
        groups=len(groups),
        lost=len(missing),
        again=len(accepted) - len(set(accepted)),
        doubled=sum(ids - 1 for ids in messages.values()),
        seconds=waited,
    )
