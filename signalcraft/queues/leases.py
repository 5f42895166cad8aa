"""Lease on a batch of RQ jobs: one script claims them, and they are finished or released together.

Claimed jobs are in RQ's own registry of started jobs; the score of each is the end of the lease. If the worker
dies, maintenance of any worker requeues them after the lease ends. A lease has no other state in Redis.
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

#: A claimed job counts as abandoned after this time without renewal.
LEASE_SECONDS: Final = 12
#: Difference between the scores of a lease's jobs; the first job has the highest score. Maintenance requeues abandoned
#: jobs by ascending score, each at the front, which restores their order: a "resolved" must not overtake its alert.
_SCORE_STEP: Final = 0.00001

#: KEYS: queue, intermediate list, started registry. ARGV: the job that RQ popped (empty: none), maximum number,
#: worker, now (as RQ writes it), end of the lease (epoch seconds), lease id, prefix of job keys, score difference.
#: Returns id, data, id, … A job that was claimed before is claimed only if RQ popped it, and alone: if it killed a
#: worker, it must not affect others.
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
local popped, limit = ARGV[1], tonumber(ARGV[2])
if popped ~= "" then
    local alone = tried_before(popped)
    redis.call("LREM", KEYS[2], 1, popped)
    claim(popped)
    if alone then return claimed end
    limit = limit - 1
end
for _ = 1, limit do
    local id = redis.call("LINDEX", KEYS[1], 0)
    if not id or tried_before(id) then break end
    redis.call("LPOP", KEYS[1])
    claim(id)
end
return claimed
"""


#: KEYS: queue, started registry. ARGV: prefix of job keys, lease id, job ids in reverse order.
_RELEASE: Final = """
for i = 3, #ARGV do
    if redis.call("ZREM", KEYS[2], ARGV[i] .. ":" .. ARGV[2]) == 1 then
        redis.call("HSET", ARGV[1] .. ARGV[i], "status", "queued", "started_at", "", "worker_name", "")
        redis.call("LPUSH", KEYS[1], ARGV[i])
    end
end
"""


def once_per(redis: Redis, key: str, *, seconds: int) -> bool:
    """Return whether this process asked for ``key`` first.

    The first within ``seconds`` wins: an election without a term.

    Raises:
        redis.exceptions.RedisError: Redis is unavailable.
    """
    return bool(redis.set(key, "1", nx=True, ex=seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedJob:
    """A claimed job: its id and RQ's compressed ``data``."""

    job_id: str
    data: bytes

    @property
    def key(self) -> str:
        """Redis key of the job."""
        return f"{Job.redis_job_namespace_prefix}{self.job_id}"

    def delivery(self) -> AcceptedDelivery:
        """Return the delivery in the job.

        Raises:
            ForbiddenJob: the job is not ours.
        """
        return read_delivery(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Jobs of one queue that a worker claimed until ``ends_at`` (epoch seconds)."""

    redis: Redis
    queue: Queue
    lease: str
    jobs: Sequence[LeasedJob]
    ends_at: float

    @classmethod
    def acquire(cls, popped: str, queue: Queue, *, worker_name: str, limit: int) -> Self:
        """Claim the popped job and waiting ones.

        RQ moved the popped job to the intermediate list. Up to ``limit`` jobs are claimed in all.
        """
        return cls._claim(popped, queue, worker_name, limit, time.time() + LEASE_SECONDS)

    def acquire_next(self, *, worker_name: str, limit: int) -> Self:
        """Claim waiting jobs.

        If the worker dies, they are requeued behind the jobs of this lease.
        """
        return self._claim("", self.queue, worker_name, limit, self.ends_at - len(self.jobs) * _SCORE_STEP)

    @classmethod
    def _claim(cls, popped: str, queue: Queue, worker_name: str, limit: int, ends_at: float) -> Self:
        lease = uuid4().hex
        reply: Any = queue.connection.register_script(_CLAIM)(
            keys=[queue.key, queue.intermediate_queue_key, queue.started_job_registry.key],
            args=[
                popped,
                limit,
                worker_name,
                utcformat(datetime.now(UTC)),
                ends_at,
                lease,
                Job.redis_job_namespace_prefix,
                _SCORE_STEP / 2,  # the reply has two items for each job
            ],
        )
        pairs = zip(reply[::2], reply[1::2], strict=True)
        claimed = [LeasedJob(job_id=job_id.decode(), data=data) for job_id, data in pairs]
        return cls(redis=queue.connection, queue=queue, lease=lease, jobs=claimed, ends_at=ends_at)

    def of(self, jobs: Sequence[LeasedJob]) -> Self:
        """Return a lease on ``jobs`` only.

        The others stay claimed in Redis.
        """
        return replace(self, jobs=jobs)

    def without(self, refused: Sequence[LeasedJob]) -> Self:
        """Return the lease without ``refused``.

        Those are removed from the registry.
        """
        if refused:
            self.redis.zrem(self._registry, *(self._entry(job) for job in refused))
        return replace(self, jobs=[job for job in self.jobs if job not in refused])

    def renewed(self, *, behind: Self | None = None) -> Self:
        """Extend the lease.

        If the worker dies, its jobs are requeued ``behind`` those of another lease.
        """
        ends_at = behind.ends_at - len(behind.jobs) * _SCORE_STEP if behind else time.time() + LEASE_SECONDS
        scores = {self._entry(job): ends_at - position * _SCORE_STEP for position, job in enumerate(self.jobs)}
        if scores:
            self.redis.zadd(self._registry, scores, xx=True)
        return replace(self, ends_at=ends_at)

    def finish(self, worker_key: str) -> None:
        """Delete the jobs and count them for the worker."""
        with self.redis.pipeline() as pipeline:
            pipeline.delete(*(job.key for job in self.jobs))
            pipeline.zrem(self._registry, *(self._entry(job) for job in self.jobs))
            pipeline.hincrby(worker_key, "successful_job_count", len(self.jobs))
            pipeline.execute()

    def release(self) -> None:
        """Put the jobs back at the front of the queue.

        They keep their order, as if never claimed. Jobs whose lease ended may be claimed by another worker or done;
        they are skipped.
        """
        ids = [job.job_id for job in reversed(self.jobs)]
        keys = [self.queue.key, self._registry]
        self.redis.register_script(_RELEASE)(keys=keys, args=[Job.redis_job_namespace_prefix, self.lease, *ids])

    @property
    def _registry(self) -> str:
        return str(self.queue.started_job_registry.key)

    def _entry(self, job: LeasedJob) -> str:
        """Return the registry entry of a claimed job.

        It is RQ's ``job id:execution id``.
        """
        return f"{job.job_id}:{self.lease}"
