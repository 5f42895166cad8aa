"""SignalCraft with the naive way to enqueue: SET NX on the delivery key, then ``Queue.enqueue``.

``make chaos`` serves it in its second run, which must detect lost deliveries. Between the two steps the web process
or Redis can fail; the sender receives no response or a 503, sends again, and the response is "duplicate".
"""

import os

from redis import Redis

from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.queues import enqueue as queues_enqueue
from signalcraft.queues import jobs, redis_clients
from signalcraft.queues.enqueue import EnqueueResult
from signalcraft.settings import Settings
from signalcraft.web.app import create_app


def enqueue_in_two_steps(redis: Redis, accepted: AcceptedDelivery, *, ttl_seconds: int) -> EnqueueResult:
    key = queues_enqueue._delivery_key(accepted)
    with redis_clients.redis_errors_as_unavailable():
        if not redis.set(key, accepted.delivery_id, nx=True, ex=ttl_seconds):
            return EnqueueResult(is_duplicate=True, delivery_id=str(redis.get(key)))
        jobs.queue(redis, jobs.ALERTS).enqueue(
            jobs.PROCESS_DELIVERY, accepted.as_job_argument(), job_id=accepted.delivery_id, result_ttl=0
        )
    return EnqueueResult(is_duplicate=False, delivery_id=accepted.delivery_id)


queues_enqueue.enqueue_once = enqueue_in_two_steps
app = create_app(Settings.from_environ(os.environ))
