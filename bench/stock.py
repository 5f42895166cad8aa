"""The baseline of the worker: RQ's ``SimpleWorker`` with everything as RQ has it, on a job that does nothing.

``python -m bench.stock`` works on the queue ``stock`` of REDIS_URL until it is told to stop.
"""

import os

from redis import Redis
from rq import Queue, SimpleWorker

QUEUE = "stock"
_answers: list[Redis] = []


def no_op() -> None:
    """Do nothing."""


def answer(key: str) -> None:
    """Tell who waits at ``key`` that the job runs."""
    if not _answers:
        _answers.append(Redis.from_url(os.environ["REDIS_URL"]))
    _answers[0].rpush(key, 1)


def enqueue(redis: Redis, number: int) -> None:
    """Queue ``number`` jobs that do nothing."""
    queue = Queue(QUEUE, connection=redis)
    for _ in range(number):
        queue.enqueue(no_op)


if __name__ == "__main__":
    connection = Redis.from_url(os.environ["REDIS_URL"])
    SimpleWorker([QUEUE], connection=connection).work()
