"""On an idle system: how long after its acknowledgement a delivery is stored, committed and to be seen.

gunicorn and worker are real processes. A trigger on the events' table notifies at commit, so nobody polls; it is
part of what is measured. The baseline is the time from ``enqueue`` to the answer of a job that only answers, on RQ's
own worker.
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
from bench.pairs import percentile, take_turns
from bench.serving import PATH, served

_PATIENCE_SECONDS = 5.0
_FUNCTION = """
    CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN PERFORM pg_notify('stored', ''); RETURN NULL; END$$"""
_TRIGGER = "CREATE TRIGGER tell AFTER INSERT ON alert_event FOR EACH STATEMENT EXECUTE FUNCTION tell()"


def run(arena: Arena) -> Iterator[Figure]:
    """Batches of one, a pause between them that is never the same."""
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

        def answer_one() -> float:
            time.sleep(0.02 + chance.random() / 20)
            return _until_answered(other.redis)

        take_turns(store_one, answer_one, 10)
        measured = take_turns(store_one, answer_one, number)
    for percent, most in ((50, 15), (99, 60)):
        yield Figure(
            benchmark="latency",
            name=f"p{percent} from acknowledged to stored, batches of 1",
            value=percentile(measured.ours, percent) * 1000,
            unit="ms",
            against="absolute; RQ SimpleWorker, enqueue to a job's first line, in detail",
            at_most=most,
            detail={
                "stock, ms": percentile(measured.baseline, percent) * 1000,
                "median of ratios": measured.ratio,
                "deliveries": number,
            },
        )


def _until_stored(maker: Maker, port: int, listener: Connection) -> float:
    """Seconds from the webhook's answer to the commit of its event; below 0 where that came first."""
    sample = maker.sample(maker.groups(1)[0])
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_SECONDS)) as connection:
        connection.request("POST", PATH, body=sample.body, headers=dict(sample.headers))
        if connection.getresponse().status != 202:
            raise BenchError("a delivery was not accepted")
        acknowledged = time.perf_counter()
        while not listener.notifies:
            if not select.select([listener], [], [], _PATIENCE_SECONDS)[0]:
                raise BenchError("a delivery was not stored")
            listener.poll()
    listener.notifies.clear()
    return time.perf_counter() - acknowledged


def _until_answered(redis: Redis) -> float:
    """Seconds from RQ's ``enqueue`` to what the job says."""
    key = f"bench:{uuid4().hex}"
    Queue(stock.QUEUE, connection=redis).enqueue(stock.answer, key)
    queued = time.perf_counter()
    if redis.blpop([key], timeout=_PATIENCE_SECONDS) is None:
        raise BenchError("a job was not run")
    return time.perf_counter() - queued
