"""Jobs in Redis outlive a release: workers of the release before process ours during a rolling deploy, and ours theirs.

``tests/samples/jobs/`` keeps the fields of both kinds of job as release 2c630d8 wrote them; ``data`` is in base64.
"""

import base64
import json
import zlib
from typing import Any

import pytest
from redis import Redis
from rq.job import Job
from structlog.testing import capture_logs

import worker
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.queues import enqueue, jobs
from signalcraft.settings import Settings
from tests.support import ROOT
from tests.support.builders import groups
from tests.support.queues import work

Fields = dict[str, Any]


def kept(name: str) -> Fields:
    fields: Fields = json.loads((ROOT / "tests" / "samples" / "jobs" / f"{name}.json").read_text())
    return fields | {"data": base64.b64decode(fields["data"])}


def put(redis: Redis, queue: str, fields: Fields) -> None:
    redis.hset(Job.key_for("kept"), mapping=fields)
    redis.sadd("rq:queues", f"rq:queue:{queue}")
    redis.rpush(f"rq:queue:{queue}", "kept")


def comparable(fields: Fields) -> Fields:
    """The fields without the moment, the call in plain JSON."""
    named = {key.decode() if isinstance(key, bytes) else key: value for key, value in fields.items()}
    call = json.loads(zlib.decompress(named.pop("data")))
    named.pop("created_at")
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in named.items()} | {
        "call": call
    }


def written(redis: Redis) -> Fields:
    (key,) = redis.scan_iter("rq:job:*")
    return comparable(redis.hgetall(key))


def test_a_delivery_is_enqueued_as_the_release_before_did(clean_redis: Redis) -> None:
    _, _, (argument,), _ = comparable(kept("process_delivery"))["call"]
    enqueue.enqueue_once(clean_redis, AcceptedDelivery.from_job_argument(argument), ttl_seconds=60)
    assert written(clean_redis) == comparable(kept("process_delivery"))


def test_a_notification_is_enqueued_as_the_release_before_did(clean_redis: Redis) -> None:
    _, _, (notification,), _ = comparable(kept("notify"))["call"]
    enqueue.enqueue_notification(clean_redis, notification, description="notification of group 7")
    assert written(clean_redis) == comparable(kept("notify"))


def test_a_delivery_of_the_release_before_is_processed(redis: Redis) -> None:
    put(redis, jobs.ALERTS, kept("process_delivery"))
    work(redis)
    (group,) = groups()
    assert (group.count, group.issue_id, group.source) == (1, "6120094511", "sentry")


@pytest.mark.usefixtures("redis")
def test_a_notification_of_the_release_before_is_sent(clean_redis: Redis, settings: Settings) -> None:
    put(clean_redis, jobs.NOTIFICATIONS, kept("notify"))
    with capture_logs() as lines:
        worker._notification_worker(settings).work(burst=True)
    (line,) = [line for line in lines if line["event"] == "notification"]
    assert (line["reason"], line["group_id"], line["count"]) == ("new", 7, 3)
