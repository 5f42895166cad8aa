"""Lease on a batch of RQ jobs: one script claims them, and they are finished or released together.

Claimed jobs are in RQ's own registry of started jobs; the score of each is the end of the lease. If the worker
dies, maintenance of any worker requeues them after the lease ends. A lease has no other state in Redis.
"""

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
#: worker, now (as RQ writes it), seconds of the lease, end of the lease instead (or empty), lease id, prefix of job
#: keys, score difference. Returns the end of the lease, id, data, id, … A job that was claimed before is claimed only
#: if RQ popped it, and alone: if it killed a worker, it must not affect others. What is no job goes to the intermediate
#: list, as if RQ had popped it; an id whose job is gone is dropped.
_CLAIM: Final = """
local time = redis.call("TIME")
local ends = tonumber(ARGV[6]) or time[1] + time[2] / 1000000 + ARGV[5]
local reply = {string.format("%.6f", ends)}
local function claim(id)
    local key = ARGV[8] .. id
    local data = redis.pcall("HGET", key, "data")
    if type(data) == "table" or not string.match(id, "^[%w_-]+$") then return redis.call("RPUSH", KEYS[2], id) end
    if not data then return end
    redis.call("ZADD", KEYS[3], ends - (#reply - 1) * ARGV[9], id .. ":" .. ARGV[7])
    redis.call("HSET", key, "status", "started", "worker_name", ARGV[3],
               "started_at", ARGV[4], "last_heartbeat", ARGV[4])
    reply[#reply + 1] = id
    reply[#reply + 1] = data
end
local function tried_before(id)
    local started = redis.pcall("HGET", ARGV[8] .. id, "started_at")
    return type(started) == "string" and started ~= ""
end
local popped, limit = ARGV[1], tonumber(ARGV[2])
if popped ~= "" then
    local alone = tried_before(popped)
    claim(popped)
    redis.call("LREM", KEYS[2], 1, popped)
    if alone then return reply end
    limit = limit - 1
end
for _ = 1, limit do
    local id = redis.call("LINDEX", KEYS[1], 0)
    if not id or tried_before(id) then break end
    claim(id)
    redis.call("LPOP", KEYS[1])
end
return reply
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


#: KEYS: the key. ARGV: seconds. A key without an end, or with a later one, is not ours: it would elect nobody for ever.
_ONCE_PER: Final = """
local left = redis.call("PTTL", KEYS[1])
if left >= 0 and left <= ARGV[1] * 1000 then return 0 end
redis.call("SET", KEYS[1], "1", "EX", ARGV[1])
return 1
"""


def once_per(redis: Redis, key: str, *, seconds: int) -> bool:
    """Return whether this process asked for ``key`` first.

    The first within ``seconds`` wins: an election without a term.

    Raises:
        redis.exceptions.RedisError: Redis is unavailable.
    """
    return bool(redis.register_script(_ONCE_PER)(keys=[key], args=[seconds]))


def renew(
    redis: Redis, registry: str, entries: Sequence[str], *, seconds: float, ends_at: float | None = None
) -> float:
    """Move the end of a lease to ``seconds`` from now, by Redis's clock, or to ``ends_at``.

    Returns the end in epoch seconds. The first entry has the highest score.

    Raises:
        redis.exceptions.RedisError: Redis is unavailable.
    """
    if ends_at is None:
        now, microseconds = redis.time()
        ends_at = now + microseconds / 1_000_000 + seconds
    scores = {entry: ends_at - position * _SCORE_STEP for position, entry in enumerate(entries)}
    redis.zadd(registry, scores, xx=True)
    return ends_at


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
    """Jobs of one queue that a worker claimed until ``ends_at`` (epoch seconds, of Redis's clock)."""

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
        return cls._claim(popped, queue, worker_name, limit, ends_at=None)

    def acquire_next(self, *, worker_name: str, limit: int) -> Self:
        """Claim waiting jobs.

        If the worker dies, they are requeued behind the jobs of this lease.
        """
        return self._claim("", self.queue, worker_name, limit, ends_at=self._end_behind())

    @classmethod
    def _claim(cls, popped: str, queue: Queue, worker_name: str, limit: int, *, ends_at: float | None) -> Self:
        lease = uuid4().hex
        reply: Any = queue.connection.register_script(_CLAIM)(
            keys=[queue.key, queue.intermediate_queue_key, queue.started_job_registry.key],
            args=[
                popped,
                limit,
                worker_name,
                utcformat(datetime.now(UTC)),
                LEASE_SECONDS,
                "" if ends_at is None else ends_at,
                lease,
                Job.redis_job_namespace_prefix,
                _SCORE_STEP / 2,  # the reply has two items for each job
            ],
        )
        end, *claimed = reply
        pairs = zip(claimed[::2], claimed[1::2], strict=True)
        jobs = [LeasedJob(job_id=job_id.decode(), data=data) for job_id, data in pairs]
        return cls(redis=queue.connection, queue=queue, lease=lease, jobs=jobs, ends_at=float(end))

    def _end_behind(self) -> float:
        """Return the end of a lease whose jobs are requeued behind these."""
        return self.ends_at - len(self.jobs) * _SCORE_STEP

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
        if not self.jobs:
            return self
        entries = [self._entry(job) for job in self.jobs]
        ends_at = behind._end_behind() if behind else None  # noqa: SLF001 - of its own class
        return replace(self, ends_at=renew(self.redis, self._registry, entries, seconds=LEASE_SECONDS, ends_at=ends_at))

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
