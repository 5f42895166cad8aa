"""Rate limits: flask-limiter with counters in memory, synchronized with Redis in the background.

A request counts in memory; a background thread adds the hits to Redis and reads the total of all processes. So the
limit is exact within a process, and across processes it lags by ``SYNC_INTERVAL_SECONDS``. Leasing hits in blocks would
refuse too early (hits leased and not used) and still cost one request in each block a round trip to Redis. While Redis
is unavailable, each process counts alone.
"""

import threading
import time
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Network, ip_address
from itertools import islice
from typing import Any, Final, NoReturn, cast

import structlog
from flask import g
from flask_limiter import Limiter
from limits import RateLimitItem, parse
from limits.storage import Storage
from redis import Redis
from redis.exceptions import RedisError

from signalcraft import metrics
from signalcraft.domain.errors import TooManyRequests
from signalcraft.resilience import start_thread

log = structlog.get_logger(__name__)

SYNC_INTERVAL_SECONDS: Final = 0.05
#: Pause after a failed synchronization.
PAUSE_SECONDS: Final = 2.0
#: Windows in memory, and windows in one synchronization: a client with many addresses must fill neither our memory nor
#: Redis. Above the maximum the oldest windows are dropped, and their hits no longer count.
MAX_COUNTERS: Final = 20_000
MAX_SYNCED: Final = 1_000

#: KEYS: the counter. ARGV: hits, seconds. Returns the hits of all processes and the milliseconds left. A value that is
#: no number is not ours: its error would fail the synchronization, and the other hits would be added again and again.
_SYNC = """
local total = redis.pcall("INCRBY", KEYS[1], ARGV[1])
if type(total) == "table" then
  redis.call("SET", KEYS[1], ARGV[1])
  total = tonumber(ARGV[1])
end
local left = redis.call("PTTL", KEYS[1])
if left < 0 or left > ARGV[2] * 1000 then
  redis.call("PEXPIRE", KEYS[1], ARGV[2] * 1000)
  left = ARGV[2] * 1000
end
return {total, tonumber(left)}
"""


@dataclass(slots=True)
class _Counter:
    """One fixed window: its end, the total in Redis at the last synchronization, and the hits since."""

    ends_at: float
    seconds: int
    synced: int = 0
    unsynced: int = 0

    def is_live(self, now: float) -> bool:
        """Return whether the window is open.

        A window that ends later than ``seconds`` from now dates from before the clock was set back. It would last
        longer by the difference, and refuse a sender who is well under the limit.
        """
        return now < self.ends_at <= now + self.seconds + 1


class SharedCounters(Storage):
    """Fixed windows in memory, synchronized with Redis by a thread: a storage of :mod:`limits`."""

    STORAGE_SCHEME = ("signalcraft",)  # type: ignore[assignment]  # limits' own classes have a list that is never changed

    def __init__(self, _uri: str, *, redis: Any, **_: Any) -> None:  # noqa: ANN401 - limits hands options through
        """``redis`` is a client with a short timeout."""
        super().__init__()
        self._redis: Redis = redis
        self._counters: dict[str, _Counter] = {}
        self._lock = threading.Lock()
        self._has_hits = threading.Event()
        self._sync_thread: threading.Thread | None = None

    @property
    def base_exceptions(self) -> type[Exception]:
        """Return the exceptions that this storage may raise.

        It has none of its own.
        """
        return RedisError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count ``amount`` hits; return the hits in this window."""
        hits, _ = self.hit(key, expiry, amount)
        return hits

    def hit(self, key: str, expiry: float, amount: int = 1) -> tuple[int, float]:
        """Count ``amount`` hits; return the hits in this window, and its end as a Unix time."""
        with self._lock:
            counter = self._live(key)
            if counter is None:
                self._counters.pop(key, None)  # an ended window: reinserted last, since the oldest are dropped first
                counter = self._counters[key] = _Counter(ends_at=time.time() + expiry, seconds=int(expiry))
                if len(self._counters) > MAX_COUNTERS:
                    self._counters = dict(islice(self._counters.items(), MAX_COUNTERS // 10, None))
            counter.unsynced += amount
            hits, ends_at = counter.synced + counter.unsynced, counter.ends_at
            if self._sync_thread is None:  # started at the first hit: threads do not survive a fork
                self._sync_thread = start_thread(self._sync_forever, name="rates")
        if not self._has_hits.is_set():
            self._has_hits.set()
        return hits, ends_at

    def get(self, key: str) -> int:
        """Return the hits in this window."""
        with self._lock:
            counter = self._live(key)
            return counter.synced + counter.unsynced if counter else 0

    def get_expiry(self, key: str) -> float:
        """Return the end of the window as a Unix time."""
        with self._lock:
            counter = self._live(key)
            return counter.ends_at if counter else time.time()

    def check(self) -> bool:
        """Return whether hits can be counted: always."""
        return True

    def reset(self) -> int:
        """Drop all windows; return how many there were."""
        with self._lock:
            forgotten = len(self._counters)
            self._counters.clear()
        return forgotten

    def clear(self, key: str) -> None:
        """Drop one window."""
        with self._lock:
            self._counters.pop(key, None)

    def _live(self, key: str) -> _Counter | None:
        counter = self._counters.get(key)
        return counter if counter and counter.is_live(time.time()) else None

    def _sync_forever(self) -> None:
        while True:
            self._has_hits.wait()
            self._has_hits.clear()
            try:
                self._sync()
            # All but RedisError: the client was closed during a read. That must not end this thread.
            except (RedisError, OSError, ValueError, AttributeError):
                time.sleep(PAUSE_SECONDS)
                self._has_hits.set()
            time.sleep(SYNC_INTERVAL_SECONDS)

    def _sync(self) -> None:
        with self._lock:
            now = time.time()
            self._counters = {key: counter for key, counter in self._counters.items() if counter.is_live(now)}
            unsynced = ((key, counter, counter.unsynced) for key, counter in self._counters.items() if counter.unsynced)
            batch = list(islice(unsynced, MAX_SYNCED))
            if len(batch) == MAX_SYNCED:
                self._has_hits.set()
        pipeline = self._redis.pipeline(transaction=False)
        for key, counter, hits in batch:
            pipeline.eval(_SYNC, 1, f"signalcraft:rate:{key}", hits, counter.seconds)
        results = pipeline.execute()
        with self._lock:
            for (_, counter, hits), (total, left_ms) in zip(batch, results, strict=True):
                counter.synced, counter.unsynced = total, counter.unsynced - hits
                counter.ends_at = time.time() + left_ms / 1000


class Rate:
    """One rate limit, counted per key. Response headers carry the remaining hits."""

    def __init__(self, limiter: Limiter, name: str, rate: str) -> None:
        """``rate`` has the format of :mod:`limits`: ``6000/minute``."""
        self._counters = cast("SharedCounters", limiter.storage)
        self._name = name
        self._item: RateLimitItem = parse(rate)
        self._window_of = lru_cache(maxsize=1_024)(partial(self._item.key_for, name))
        self._logged_at = 0.0

    def hit(self, key: str) -> None:
        """Count a hit of ``key``.

        Raises:
            TooManyRequests: ``key`` is over the limit; with ``Retry-After``.
        """
        hits, ends_at = self._counters.hit(self._window_of(key), self._item.get_expiry())
        g.rate_headers = {
            "X-RateLimit-Limit": str(self._item.amount),
            "X-RateLimit-Remaining": str(max(0, self._item.amount - hits)),
            "X-RateLimit-Reset": str(int(ends_at) + 1),
        }
        if hits > self._item.amount:
            self._refuse(key, ends_at)

    def check(self, key: str) -> None:
        """Check without counting whether ``key`` has a hit left.

        Raises:
            TooManyRequests: ``key`` has none; with ``Retry-After``.
        """
        window = self._window_of(key)
        if self._counters.get(window) >= self._item.amount:
            self._refuse(key, self._counters.get_expiry(window))

    def _refuse(self, key: str, ends_at: float) -> NoReturn:
        self._report(key)
        raise TooManyRequests(headers={"Retry-After": str(max(1, round(ends_at - time.time())))})

    def _report(self, key: str) -> None:
        """Count each request over the limit.

        One a second is logged: a flood must not fill the disk.
        """
        metrics.count("signalcraft_rate_limited_total", limit=self._name)
        now = time.monotonic()
        if now - self._logged_at >= 1:
            self._logged_at = now
            log.warning("rate limit exceeded", limit=self._name, who=key, rate=str(self._item))


def network_of(address: str | None) -> str:
    """Return the key that an unverified request counts against.

    It is an IPv4 address or an IPv6 /64. An IPv6 host usually has all addresses of a /64.
    """
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return address or "unknown"
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or IPv6Network((int(parsed) >> 64 << 64, 64)))
