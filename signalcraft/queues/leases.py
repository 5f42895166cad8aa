"""A worker's hold on the jobs it took: claimed in one script, under a lease, finished or given back together.

Claimed jobs stand in RQ's own registry of started jobs, each scored with the end of the lease. Should the worker
die, any worker's maintenance puts them back when the lease is over; nothing of a claim lies anywhere else.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Self
from uuid import uuid4

from redis import Redis
from rq import Queue
from rq.job import Job
from rq.utils import utcformat

from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.queues.jobs import read_delivery

#: How long a claimed job is left alone before it is taken for abandoned, in seconds.
LEASE_SECONDS: Final = 12
#: The first of a claim has the last score. Maintenance puts abandoned jobs back by score, each in front of the one
#: before, so they come back in their order: a "resolved" must not overtake the alert that it is about.
_STEP: Final = 0.00001

#: KEYS: queue, intermediate list, started registry. ARGV: the job that RQ popped (empty: none), how many in all,
#: worker, now (as RQ writes it), end of the lease (epoch seconds), lease, prefix of job keys, what tells scores apart.
#: Returns id, data, id, … A job that was handed out before is claimed only if RQ popped it, and alone: if it was what
#: killed a worker, it must not take others with it.
_CLAIM: Final = """
local claimed = {}
local function claim(id)
    local key = ARGV[7] .. id
    local data = redis.call("HGET", key, "data")
    if not data then return end
    redis.call("HSET", key, "status", "started", "worker_name", ARGV[3],
               "started_at", ARGV[4], "last_heartbeat", ARGV[4])
    redis.call("ZADD", KEYS[3], ARGV[5] - #claimed * ARGV[8], id .. ":" .. ARGV[6])
    claimed[#claimed + 1] = id
    claimed[#claimed + 1] = data
end
local function tried_before(id)
    local started = redis.call("HGET", ARGV[7] .. id, "started_at")
    return started and started ~= ""
end
local popped, most = ARGV[1], tonumber(ARGV[2])
if popped ~= "" then
    local alone = tried_before(popped)
    redis.call("LREM", KEYS[2], 1, popped)
    claim(popped)
    if alone then return claimed end
    most = most - 1
end
for _ = 1, most do
    local id = redis.call("LINDEX", KEYS[1], 0)
    if not id or tried_before(id) then break end
    redis.call("LPOP", KEYS[1])
    claim(id)
end
return claimed
"""


#: KEYS: queue, started registry. ARGV: prefix of job keys, lease, ids, the last first.
_RELEASE: Final = """
for i = 3, #ARGV do
    if redis.call("ZREM", KEYS[2], ARGV[i] .. ":" .. ARGV[2]) == 1 then
        redis.call("HSET", ARGV[1] .. ARGV[i], "status", "queued", "started_at", "", "worker_name", "")
        redis.call("LPUSH", KEYS[1], ARGV[i])
    end
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedJob:
    """A job in hand: its id and RQ's ``data``, compressed."""

    job_id: str
    data: bytes

    @property
    def key(self) -> str:
        """Where Redis keeps the job."""
        return f"{Job.redis_job_namespace_prefix}{self.job_id}"

    def delivery(self) -> AcceptedDelivery:
        """What the job carries.

        Raises:
            ForbiddenJob: it is no job of ours.
        """
        return read_delivery(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Jobs of one queue that a worker has in hand, under one lease that ends at ``ends_at`` (epoch seconds)."""

    redis: Redis
    queue: Queue
    lease: str
    jobs: Sequence[LeasedJob]
    ends_at: float

    @classmethod
    def acquire(cls, popped: str, queue: Queue, *, worker_name: str, most: int) -> Self:
        """Claim the job that RQ has just moved to the intermediate list, and what waits, up to ``most`` in all."""
        return cls._take(popped, queue, worker_name, most, time.time() + LEASE_SECONDS)

    def acquire_next(self, *, worker_name: str, most: int) -> Self:
        """Claim what waits behind these jobs; should the worker die, it comes back behind them too."""
        return self._take("", self.queue, worker_name, most, self.ends_at - len(self.jobs) * _STEP)

    @classmethod
    def _take(cls, popped: str, queue: Queue, worker_name: str, most: int, ends_at: float) -> Self:
        lease = uuid4().hex
        answer: Any = queue.connection.register_script(_CLAIM)(
            keys=[queue.key, queue.intermediate_queue_key, queue.started_job_registry.key],
            args=[
                popped,
                most,
                worker_name,
                utcformat(datetime.now(UTC)),
                ends_at,
                lease,
                Job.redis_job_namespace_prefix,
                _STEP / 2,  # a job has two places in what is returned
            ],
        )
        pairs = zip(answer[::2], answer[1::2], strict=True)
        claimed = [LeasedJob(job_id=job_id.decode(), data=data) for job_id, data in pairs]
        return cls(redis=queue.connection, queue=queue, lease=lease, jobs=claimed, ends_at=ends_at)

    def of(self, jobs: Sequence[LeasedJob]) -> Self:
        """The claim on ``jobs``, some of its own, which are all still held."""
        return replace(self, jobs=jobs)

    def without(self, refused: Sequence[LeasedJob]) -> Self:
        """The claim without some of its jobs, which are let go."""
        if refused:
            self.redis.zrem(self._registry, *(self._entry(job) for job in refused))
        return replace(self, jobs=[job for job in self.jobs if job not in refused])

    def renewed(self, *, behind: Self | None = None) -> Self:
        """The claim under another lease from now on; should the worker die, its jobs come back ``behind`` others'."""
        ends_at = behind.ends_at - len(behind.jobs) * _STEP if behind else time.time() + LEASE_SECONDS
        scores = {self._entry(job): ends_at - position * _STEP for position, job in enumerate(self.jobs)}
        if scores:
            self.redis.zadd(self._registry, scores, xx=True)
        return replace(self, ends_at=ends_at)

    def finish(self, worker_key: str) -> None:
        """Leave nothing of the jobs behind but their number with the worker."""
        with self.redis.pipeline() as pipeline:
            pipeline.delete(*(job.key for job in self.jobs))
            pipeline.zrem(self._registry, *(self._entry(job) for job in self.jobs))
            pipeline.hincrby(worker_key, "successful_job_count", len(self.jobs))
            pipeline.execute()

    def release(self) -> None:
        """Put the jobs back where they were, at the front of the queue, as if never taken.

        Those whose lease was over may be in other hands, or done: they are left alone.
        """
        ids = [job.job_id for job in reversed(self.jobs)]
        keys = [self.queue.key, self._registry]
        self.redis.register_script(_RELEASE)(keys=keys, args=[Job.redis_job_namespace_prefix, self.lease, *ids])

    @property
    def _registry(self) -> str:
        return str(self.queue.started_job_registry.key)

    def _entry(self, job: LeasedJob) -> str:
        """How a claimed job stands in the registry: RQ's ``job id:execution id``."""
        return f"{job.job_id}:{self.lease}"
