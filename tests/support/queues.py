"""Fill the queue and the inbox, and process them, in this process."""

from redis import Redis

from signalcraft import tasks
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.queues import enqueue, inbox, jobs
from signalcraft.storage.database import session
from signalcraft.worker.batch_worker import BatchWorker


def enqueue_deliveries(redis: Redis, *deliveries: AcceptedDelivery) -> None:
    """Enqueue deliveries, none of which was enqueued before."""
    for delivery in deliveries:
        assert not enqueue.enqueue_once(redis, delivery, ttl_seconds=60).is_duplicate


def work(redis: Redis, *, batch_size: int = 200, stages: object = None) -> None:
    """Process the queue."""
    BatchWorker(
        jobs.ALERTS,
        connection=redis,
        stages=stages or tasks.processor(),  # type: ignore[arg-type]
        batch_size=batch_size,
    ).work(burst=True)


def work_after_a_crash(redis: Redis) -> None:
    """Process the queue and the jobs of dead workers; a job that was claimed before is claimed alone."""
    for _ in range(20):
        let_time_pass(redis)
        work(redis)
        if not redis.exists("rq:queue:alerts", "rq:queue:alerts:intermediate", "rq:wip:alerts"):
            return
    raise AssertionError("jobs are left")


def waits_for_jobs(redis: Redis) -> bool:
    """Return whether a worker waits for a job: by then it handles signals, which it does not yet when it registers."""
    return any(client["cmd"] == "blmove" for client in redis.client_list())


def let_time_pass(redis: Redis) -> None:
    """Expire the leases of dead workers."""
    for entry, score in redis.zrange("rq:wip:alerts", 0, -1, withscores=True):
        redis.zadd("rq:wip:alerts", {entry: score - 3600})
    for job_id in redis.lrange("rq:queue:alerts:intermediate", 0, -1):
        redis.set(f"rq:queue:alerts:intermediate:first_seen:{job_id.decode()}", 1)


def add_to_inbox(*deliveries: AcceptedDelivery) -> None:
    """Add deliveries to the inbox."""
    with session():
        for delivery in deliveries:
            inbox.add(delivery)


def depth() -> int:
    """Return how many deliveries wait in the inbox."""
    with session():
        return inbox.depth()
