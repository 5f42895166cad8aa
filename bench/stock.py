"""The baseline of the worker: RQ's ``SimpleWorker`` with default settings, on a job that does nothing.

``python -m bench.stock`` works on the queue ``stock`` of REDIS_URL until it gets a signal.
"""

import os

from redis import Redis
from rq import Queue, SimpleWorker

QUEUE = "stock"
_clients: list[Redis] = []


def no_op() -> None:
    """Do nothing."""


def reply(key: str) -> None:
    """Push to the list ``key``, which the benchmark waits for."""
    if not _clients:
        _clients.append(Redis.from_url(os.environ["REDIS_URL"]))
    _clients[0].rpush(key, 1)


def enqueue(redis: Redis, number: int) -> None:
    """Enqueue ``number`` jobs that do nothing."""
    queue = Queue(QUEUE, connection=redis)
    for _ in range(number):
        queue.enqueue(no_op)


if __name__ == "__main__":
    connection = Redis.from_url(os.environ["REDIS_URL"])
    SimpleWorker([QUEUE], connection=connection).work()
