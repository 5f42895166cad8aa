"""Real servers fail under a notifier: people are told nevertheless, or afterwards, and only what is so."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from signalcraft.dev import embedded_servers, server_process
from signalcraft.domain.notifications import default_rule
from signalcraft.notify.config import NotifyConfig
from signalcraft.notify.contract import Message, Outcome
from signalcraft.notify.delivery import Timing
from signalcraft.notify.notifier import Notifier
from signalcraft.notify.routes import Route
from tests.notify.test_notifier import alert, resolve
from tests.support import ROOT
from tests.support.builders import record
from tests.support.receivers import RecordingReceiver
from tests.support.waiting import wait_until
from tests.support.webhook_server import webhook_server

pytestmark = [
    pytest.mark.usefixtures("redis"),
    pytest.mark.skipif(bool(os.environ.get("TEST_DATABASE_URL")), reason="kills the embedded PostgreSQL"),
]

CONFIG = """
[receivers.hook]
kind = "webhook"
url = "{url}"
secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
[[routes]]
name = "all"
to = ["hook"]
"""


def test_people_are_told_within_three_seconds_while_redis_is_away(environ: dict[str, str]) -> None:
    with webhook_server() as server:
        settings = {"NOTIFY": CONFIG.format(url=server.url), "REDIS_URL": "redis://127.0.0.1:1/0"}
        command = [sys.executable, "worker.py", "notifications"]
        with subprocess.Popen(command, cwd=ROOT, env=os.environ | environ | settings) as notifier:
            try:
                record(alert(issue="first"))
                wait_until(lambda: len(server.posts) == 1)
                for number in range(3):
                    record(alert(issue=str(number)))
                    wait_until(lambda: len(server.posts) == number + 2, seconds=3)  # noqa: B023 - called at once
            finally:
                notifier.kill()


class KillingReceiver(RecordingReceiver):
    """Kills PostgreSQL when the first message has arrived."""

    kill: Callable[[], None] | None = None

    def send(self, message: Message) -> Outcome:
        outcome = super().send(message)
        kill, self.kill = self.kill, None
        if kill is not None:
            kill()
        return outcome


@pytest.fixture
def postgres(servers: embedded_servers.Servers) -> Iterator[server_process.Server]:
    yield servers.postgres
    try:
        servers.postgres.thaw()
    except server_process.EmbeddingError:  # a failed test did not restart it
        servers.postgres.start()


def test_while_postgresql_is_away_nothing_is_sent_and_afterwards_what_is_so(postgres: server_process.Server) -> None:
    """The message that arrived, and could not be recorded, comes again with its id; and nothing else is told twice."""
    ops = KillingReceiver()
    ops.kill = postgres.kill
    record(alert(issue="1"), alert(issue="2"))
    config = NotifyConfig(receivers={"ops": ops}, routes=(Route(name="all", to=("ops",)),))
    stop = Notifier(config, [default_rule], timing=Timing(lease=timedelta(seconds=1))).start()
    try:
        wait_until(lambda: bool(ops.messages))
        time.sleep(2)
        assert len(ops.attempts) == 1

        postgres.start()
        wait_until(lambda: len(ops.messages) == 3)
        resolve("1")
        wait_until(lambda: len(ops.messages) == 4)
    finally:
        stop(5)
    told = [(message.notification_id, message.reason) for message in ops.messages]
    assert told[0] in told[1:3]
    assert [reason for _, reason in told] == ["opened", "opened", "opened", "resolved"]
    assert len(set(told)) == 3
