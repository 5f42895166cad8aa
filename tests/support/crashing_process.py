"""Processes that are killed at a step: ``python -m tests.support.crashing_process``, for the crash sweep.

One line of standard input names a role and the step at which it is killed by SIGKILL: before or after a Redis command,
before or after a statement of SQL (BEGIN and COMMIT too), before or after a step of receiving or sending. The output
reports how many steps there were, and whether the process was killed. Each role runs in a fork of this process, which
has everything imported and never connects to any server.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any, NoReturn

import psycopg2.extensions
import pytest
from redis.connection import AbstractConnection

from signalcraft import logs, tasks
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.ingest import context, durable_enqueue, receive
from signalcraft.notify import config as notify_config
from signalcraft.notify import extensions
from signalcraft.notify.notifier import Notifier
from signalcraft.notify.receivers.http import HttpClient
from signalcraft.notify.receivers.slack.client import SlackCalls
from signalcraft.queues import enqueue, jobs, redis_clients
from signalcraft.settings import Settings
from signalcraft.storage.database import database, open_database
from signalcraft.web import app
from signalcraft.worker import processor
from signalcraft.worker.batch_worker import BatchWorker
from signalcraft.worker.inbox_consumer import InboxConsumer
from signalcraft.worker.queue_worker import QueueWorker
from tests.support import timeouts
from tests.support.loop_thread import loop_thread

#: The threads whose steps count; background threads do not.
_COUNTED = ("MainThread", "loop", "storing", "bounded-call")


class _Steps:
    """Counts the steps of the process, and kills it at one of them."""

    def __init__(self, last: int) -> None:
        """Kill the process at the step ``last``; 0: never."""
        self.passed = 0
        self._last = last

    def step(self) -> None:
        if threading.current_thread().name not in _COUNTED:
            return
        self.passed += 1
        if self.passed == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function`` with a step before and a step after it."""

        @wraps(function)
        def between(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - of any type
            self.step()
            try:
                return function(*arguments, **keywords)
            finally:
                self.step()

        return between


def _count_commands(steps: _Steps) -> None:
    """Count commands to Redis and PostgreSQL as steps."""
    AbstractConnection.send_packed_command = steps.around(AbstractConnection.send_packed_command)  # type: ignore[method-assign]
    AbstractConnection.read_response = steps.around(AbstractConnection.read_response)  # type: ignore[method-assign]

    class Cursor(psycopg2.extensions.cursor):
        execute = steps.around(psycopg2.extensions.cursor.execute)
        copy_expert = steps.around(psycopg2.extensions.cursor.copy_expert)

    database.connect_params["cursor_factory"] = Cursor


def _work(settings: Settings, order: Mapping[str, Any]) -> None:
    """Process everything in the queue, like a worker with --burst."""
    redis = redis_clients.for_worker(settings.redis_url)
    tasks.configure_worker(settings, redis_clients.for_web(settings.redis_url))

    stages = _stages(order.get("poison"))
    batch_size = order.get("batch_size", 200)
    BatchWorker(jobs.ALERTS, connection=redis, stages=stages, batch_size=batch_size).work(burst=True)


def _consume_inbox(settings: Settings, order: Mapping[str, Any]) -> None:
    """Process everything in the inbox."""
    tasks.configure_worker(settings, redis_clients.for_web(settings.redis_url))
    consumer = InboxConsumer(_stages(order.get("poison")), batch_size=200)
    while consumer.consume_batch():
        pass


def _stages(poison: str | None) -> Any:  # noqa: ANN401 - a namespace with their methods
    """Return the worker's stages; ``poison`` is the id of a delivery that kills its process."""

    def prepare(deliveries: Sequence[AcceptedDelivery]) -> processor.Batch:
        if poison in {delivery.delivery_id for delivery in deliveries}:
            os.kill(os.getpid(), signal.SIGKILL)
        return stages.prepare(deliveries)

    stages = tasks.processor()
    return SimpleNamespace(prepare=prepare, record=stages.record, reapply=stages.reapply, conclude=stages.conclude)


def _notify(settings: Settings, order: Mapping[str, Any]) -> None:
    """Run the job that wakes the notifier, and in it route and send whatever is due."""
    config = notify_config.load(settings.notify, order["environ"])
    for receiver in config.receivers.values():
        receiver.pace = 0.0
    notifier = Notifier(config, extensions.rules(settings))
    tasks.configure_notifier(notifier.run_until_idle)
    redis = redis_clients.for_worker(settings.redis_url)
    QueueWorker(jobs.NOTIFICATIONS, connection=redis, lease_seconds=60).work(burst=True)


def _receive(settings: Settings, order: Mapping[str, Any]) -> None:
    """Receive one delivery over HTTP; report the status unless the process is killed before it responds.

    It is served in a loop, and goes over the connection that the loop's requests share.
    """
    client = app.create_app(settings).test_client()
    with loop_thread() as running:
        running.share(context.of(client.application).redis)
        post = partial(client.post, "/webhooks/sentry", data=order["body"], headers=order["headers"])
        (response,) = (served.result() for served in running.serve(post))
    sys.stdout.write(f"{json.dumps({'status': response.status_code})}\n")
    sys.stdout.flush()


def _press(settings: Settings, order: Mapping[str, Any]) -> None:
    """Get one pressed button of Slack over HTTP; report the status unless the process is killed before it responds."""
    client = app.create_app(settings).test_client()
    response = client.post("/slack/actions", data=order["body"], headers=order["headers"])
    sys.stdout.write(f"{json.dumps({'status': response.status_code})}\n")
    sys.stdout.flush()


_ROLES = {"worker": _work, "inbox_consumer": _consume_inbox, "web": _receive, "notifier": _notify, "press": _press}


def _run(order: Mapping[str, Any], environ: Mapping[str, str]) -> NoReturn:
    settings = Settings.from_environ(environ)
    steps = _Steps(order["step"])
    open_database(settings.database_url)
    if order["role"] in ("web", "press"):
        receive.verify = steps.around(receive.verify)
        durable_enqueue.enqueue_durably = steps.around(durable_enqueue.enqueue_durably)
        enqueue.enqueue_once = steps.around(enqueue.enqueue_once)

        def open_and_count(*arguments: Any, **keywords: Any) -> None:  # noqa: ANN401 - as open_database takes them
            open_database(*arguments, **keywords)
            _count_commands(steps)

        app.open_database = open_and_count
    else:
        _count_commands(steps)
        HttpClient.post = steps.around(HttpClient.post)  # type: ignore[method-assign]
        SlackCalls.call = steps.around(SlackCalls.call)  # type: ignore[method-assign]
    _ROLES[order["role"]](settings, order)
    sys.stdout.write(f"{json.dumps({'steps': steps.passed})}\n")
    sys.stdout.flush()
    os._exit(0)


def main() -> None:
    environ = dict(os.environ)
    logs.configure("ERROR", "json")
    timeouts.lengthen(pytest.MonkeyPatch())  # another way through the code has other steps
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            _run(order, environ | order.get("environ", {}))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{json.dumps({'killed': os.WIFSIGNALED(status)})}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
