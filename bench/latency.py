"""Latency of an idle system: from the acknowledgement of a delivery to the commit of its event.

gunicorn and worker are real processes. A trigger on the events' table notifies at commit, so that nothing polls; its
cost is included. The baseline is the time from ``enqueue`` to the reply of a job that only replies, on RQ's own
worker.
"""

import contextlib
import random
import select
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from uuid import uuid4

from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class
from redis import Redis
from rq import Queue

from bench import draining, stock
from bench.arena import Arena, BenchError
from bench.deliveries import Maker
from bench.figures import Figure
from bench.pairs import alternate, percentile
from bench.serving import PATH, served

_TIMEOUT_SECONDS = 5.0
_FUNCTION = """
    CREATE FUNCTION notify_stored() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN PERFORM pg_notify('stored', ''); RETURN NULL; END$$"""
_TRIGGER = (
    "CREATE TRIGGER notify_stored AFTER INSERT ON alert_event FOR EACH STATEMENT EXECUTE FUNCTION notify_stored()"
)


def run(arena: Arena) -> Iterator[Figure]:
    """Measure batches of one, with a random pause between them."""
    number = 100 if arena.quick else 600
    maker = Maker(tail=0)
    chance = random.Random(3)  # noqa: S311 - chance here is no secret
    with (
        arena.lane("latency") as lane,
        arena.lane("stock") as other,
        served(lane) as port,
        draining.ours(lane),
        draining.stock_worker(other),
        contextlib.closing(lane.connect()) as listener,
    ):
        lane.run(_FUNCTION, _TRIGGER)
        with listener.cursor() as cursor:
            cursor.execute("LISTEN stored")

        def store_one() -> float:
            time.sleep(0.02 + chance.random() / 20)
            return _until_stored(maker, port, listener)

        def reply_one() -> float:
            time.sleep(0.02 + chance.random() / 20)
            return _until_replied(other.redis)

        alternate(store_one, reply_one, 10)
        measured = alternate(store_one, reply_one, number)
    for percent, max_ms in ((50, 10), (99, 40)):
        yield Figure(
            benchmark="latency",
            name=f"p{percent} from acknowledged to stored, batches of 1",
            value=percentile(measured.ours, percent) * 1000,
            unit="ms",
            against="absolute; RQ SimpleWorker, enqueue to a job's first line, in detail",
            at_most=max_ms,
            detail={
                "stock, ms": percentile(measured.baseline, percent) * 1000,
                "median of ratios": measured.ratio,
                "deliveries": number,
            },
        )


def _until_stored(maker: Maker, port: int, listener: Connection) -> float:
    """Return seconds from the webhook's response to the commit of its event; negative if the commit came first."""
    sample = maker.sample(maker.groups(1)[0])
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)) as connection:
        connection.request("POST", PATH, body=sample.body, headers=dict(sample.headers))
        if connection.getresponse().status != 202:
            raise BenchError("a delivery was not accepted")
        acknowledged = time.perf_counter()
        while not listener.notifies:
            if not select.select([listener], [], [], _TIMEOUT_SECONDS)[0]:
                raise BenchError("a delivery was not stored")
            listener.poll()
    listener.notifies.clear()
    return time.perf_counter() - acknowledged


def _until_replied(redis: Redis) -> float:
    """Return seconds from RQ's ``enqueue`` to the reply of the job."""
    key = f"bench:{uuid4().hex}"
    Queue(stock.QUEUE, connection=redis).enqueue(stock.reply, key)
    queued = time.perf_counter()
    if redis.blpop([key], timeout=_TIMEOUT_SECONDS) is None:
        raise BenchError("a job was not run")
    return time.perf_counter() - queued
