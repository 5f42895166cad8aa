"""SignalCraft with a door as one would build it first: SET NX on the delivery key, then ``Queue.enqueue``.

Served by ``make chaos``, whose second run has to see deliveries get lost. Between the two steps the web process or
Redis can go away; the sender, who heard nothing or a 503, sends again, and is told that it is a duplicate.
"""

import os

from redis import Redis

from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.queues import enqueue as queues_enqueue
from signalcraft.queues import jobs, redis_clients
from signalcraft.queues.enqueue import EnqueueResult
from signalcraft.settings import Settings
from signalcraft.web.app import create_app


def take_in(redis: Redis, accepted: AcceptedDelivery, *, ttl_seconds: int) -> EnqueueResult:
    key = queues_enqueue._delivery_key(accepted)
    with redis_clients.redis_errors_as_unavailable():
        if not redis.set(key, accepted.delivery_id, nx=True, ex=ttl_seconds):
            return EnqueueResult(is_duplicate=True, delivery_id=str(redis.get(key)))
        jobs.queue(redis, jobs.ALERTS).enqueue(
            jobs.PROCESS_DELIVERY, accepted.as_job_argument(), job_id=accepted.delivery_id, result_ttl=0
        )
    return EnqueueResult(is_duplicate=False, delivery_id=accepted.delivery_id)


queues_enqueue.enqueue_once = take_in
app = create_app(Settings.from_environ(os.environ))
