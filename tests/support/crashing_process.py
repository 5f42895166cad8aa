"""Processes that die at a step: ``python -m tests.support.crashing_process``, for the crash sweep.

One line of standard input is a role and the step at which to die, by SIGKILL: before or after a Redis command, before
or after a statement of SQL (BEGIN and COMMIT too), before or after a step of taking in. The line that comes back says
how many steps there were, and whether the process lived. Each role runs in a fork of this process, which has
everything imported and never connects to anything.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from types import SimpleNamespace
from typing import Any, NoReturn

import psycopg2.extensions
from redis.connection import AbstractConnection

from signalcraft import logs, tasks
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.ingest import durable_enqueue, receive
from signalcraft.queues import enqueue, jobs, redis_clients
from signalcraft.settings import Settings
from signalcraft.storage.database import database, open_database
from signalcraft.web import app
from signalcraft.worker import processor
from signalcraft.worker.batch_worker import BatchWorker
from signalcraft.worker.inbox_consumer import InboxConsumer

#: The threads that do the work; others run beside it.
_COUNTED = ("MainThread", "storing", "patience")


class _Steps:
    """Counts the steps of the work, and ends everything at one of them."""

    def __init__(self, last: int) -> None:
        """``last`` is the step at which to die; 0 lives."""
        self.passed = 0
        self._last = last

    def step(self) -> None:
        if threading.current_thread().name not in _COUNTED:
            return
        self.passed += 1
        if self.passed == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, with a step before and one after it."""

        @wraps(function)
        def between(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - whatever it is
            self.step()
            try:
                return function(*arguments, **keywords)
            finally:
                self.step()

        return between


def _watch(steps: _Steps) -> None:
    """Count what goes to Redis and PostgreSQL."""
    AbstractConnection.send_packed_command = steps.around(AbstractConnection.send_packed_command)  # type: ignore[method-assign]
    AbstractConnection.read_response = steps.around(AbstractConnection.read_response)  # type: ignore[method-assign]

    class Cursor(psycopg2.extensions.cursor):
        execute = steps.around(psycopg2.extensions.cursor.execute)

    database.connect_params["cursor_factory"] = Cursor


def _work(settings: Settings, order: Mapping[str, Any]) -> None:
    """Everything that waits, as a worker with --burst does."""
    redis = redis_clients.for_worker(settings.redis_url)
    tasks.configure_worker(settings, redis_clients.for_web(settings.redis_url))

    stages = _stages(order.get("poison"))
    batch_size = order.get("batch_size", 200)
    BatchWorker(jobs.ALERTS, connection=redis, stages=stages, batch_size=batch_size).work(burst=True)


def _drain(settings: Settings, order: Mapping[str, Any]) -> None:
    """All that is on the shelf."""
    tasks.configure_worker(settings, redis_clients.for_web(settings.redis_url))
    drainer = InboxConsumer(_stages(order.get("poison")), batch_size=200)
    while drainer.drain():
        pass


def _stages(poison: str | None) -> Any:  # noqa: ANN401 - a namespace that stands for them
    """The worker's; ``poison`` is a delivery that kills whoever reads it."""

    def prepare(deliveries: Sequence[AcceptedDelivery]) -> processor.Batch:
        if poison in {delivery.delivery_id for delivery in deliveries}:
            os.kill(os.getpid(), signal.SIGKILL)
        return stages.prepare(deliveries)

    stages = tasks.processor()
    return SimpleNamespace(prepare=prepare, record=stages.record, reapply=stages.reapply, conclude=stages.conclude)


def _take_in(settings: Settings, order: Mapping[str, Any]) -> None:
    """One delivery over HTTP; the status goes out as the process would have sent it, or not."""
    client = app.create_app(settings).test_client()
    answer = client.post("/webhooks/sentry", data=order["body"], headers=order["headers"])
    sys.stdout.write(f"{json.dumps({'answer': answer.status_code})}\n")
    sys.stdout.flush()


_ROLES = {"worker": _work, "drainer": _drain, "web": _take_in}


def _play(order: Mapping[str, Any], environ: Mapping[str, str]) -> NoReturn:
    settings = Settings.from_environ(environ)
    steps = _Steps(order["step"])
    open_database(settings.database_url)
    if order["role"] == "web":
        receive.verify = steps.around(receive.verify)
        durable_enqueue.enqueue_durably = steps.around(durable_enqueue.enqueue_durably)
        enqueue.enqueue_once = steps.around(enqueue.enqueue_once)

        def open_and_watch(*arguments: Any, **keywords: Any) -> None:  # noqa: ANN401 - whatever it takes
            open_database(*arguments, **keywords)
            _watch(steps)

        app.open_database = open_and_watch
    else:
        _watch(steps)
    _ROLES[order["role"]](settings, order)
    sys.stdout.write(f"{json.dumps({'steps': steps.passed})}\n")
    sys.stdout.flush()
    os._exit(0)


def main() -> None:
    environ = dict(os.environ)
    logs.configure("ERROR", "json")
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            _play(order, environ | order.get("environ", {}))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{json.dumps({'killed': os.WIFSIGNALED(status)})}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
