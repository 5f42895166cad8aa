"""SignalCraft with a door as one would build it first: SET NX on the delivery key, then ``Queue.enqueue``.

Served by ``make chaos``, whose second run has to see deliveries get lost. Between the two steps the web process or
Redis can go away; the sender, who heard nothing or a 503, sends again, and is told that it is a duplicate.
"""

import os

from redis import Redis

from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.queues import enqueue, jobs, redis_clients
from signalcraft.queues.enqueue import TakenIn
from signalcraft.settings import Settings
from signalcraft.web.app import create_app


def take_in(redis: Redis, accepted: AcceptedDelivery, *, ttl_seconds: int) -> TakenIn:
    key = enqueue._delivery_key(accepted)
    with redis_clients.away_as_unavailable():
        if not redis.set(key, accepted.delivery_id, nx=True, ex=ttl_seconds):
            return TakenIn(fresh=False, delivery_id=str(redis.get(key)))
        jobs.queue(redis, jobs.ALERTS).enqueue(
            jobs.PROCESS_DELIVERY, accepted.as_job_argument(), job_id=accepted.delivery_id, result_ttl=0
        )
    return TakenIn(fresh=True, delivery_id=accepted.delivery_id)


enqueue.take_in = take_in
app = create_app(Settings.from_environ(os.environ))
