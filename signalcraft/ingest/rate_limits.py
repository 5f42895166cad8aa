"""How much is let in: flask-limiter with its counters kept where counting costs a request nothing.

A request counts in memory; a thread beside the requests tells Redis, and learns what the other processes counted.
So the limit is exact within a process, and over all of them late by ``TELL_SECONDS``. A lease of hits in blocks would
be exact too early (hits leased and not used) and still be a trip to Redis for one request in so many. While Redis is
away, each process counts alone.
"""

import threading
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Network, ip_address
from itertools import islice
from typing import Any, Final

import structlog
from flask import g
from flask_limiter import Limiter
from limits import RateLimitItem, parse
from limits.storage import Storage
from redis import Redis
from redis.exceptions import RedisError

from signalcraft import metrics
from signalcraft.domain.errors import TooManyRequests

log = structlog.get_logger(__name__)

SYNC_INTERVAL_SECONDS: Final = 0.05
#: How long Redis is left alone after a failure.
PAUSE_SECONDS: Final = 2.0
#: The most windows that are kept, and the most of them that Redis is told of at once: whoever has many addresses must
#: fill neither our memory nor Redis. Past it the oldest are forgotten, and who was counted in them is let off.
MAX_COUNTERS: Final = 20_000
MAX_SYNCED: Final = 1_000

#: KEYS: the counter. ARGV: hits, seconds. Answers with the hits of all processes and the seconds that are left.
_SYNC = """
local total = redis.call("INCRBY", KEYS[1], ARGV[1])
local left = redis.call("PTTL", KEYS[1])
if left < 0 or left > ARGV[2] * 1000 then
  redis.call("PEXPIRE", KEYS[1], ARGV[2] * 1000)
  left = ARGV[2] * 1000
end
return {total, tonumber(left)}
"""


@dataclass(slots=True)
class _Counter:
    """One fixed window: hits known to Redis when it was last told, hits since, and the window's end."""

    ends_at: float
    seconds: int
    told: int = 0
    untold: int = 0

    def is_live(self, now: float) -> bool:
        """Whether the window lasts. One that ends later than it could have begun is from before a clock was set back.

        It would go on for as much longer, and refuse a sender who is well under the limit.
        """
        return now < self.ends_at <= now + self.seconds + 1


class SharedCounters(Storage):
    """Fixed windows in memory, which a thread reconciles with Redis. For :mod:`limits`' fixed-window strategy."""

    STORAGE_SCHEME = ("signalcraft",)  # type: ignore[assignment]  # limits' own classes have a list that nobody changes

    def __init__(self, _uri: str, *, redis: Any, **_: Any) -> None:  # noqa: ANN401 - limits hands options through
        """``redis`` is a client that fails soon."""
        super().__init__()
        self._redis: Redis = redis
        self._counters: dict[str, _Counter] = {}
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._teller: threading.Thread | None = None

    @property
    def base_exceptions(self) -> type[Exception]:
        """What this storage may raise: nothing of its own."""
        return RedisError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count ``amount`` hits; how many there are now in this window."""
        with self._lock:
            counter = self._live(key)
            if counter is None:
                self._counters.pop(key, None)  # an ended one: the new one is the youngest
                counter = self._counters[key] = _Counter(ends_at=time.time() + expiry, seconds=int(expiry))
                if len(self._counters) > MAX_COUNTERS:
                    self._counters = dict(islice(self._counters.items(), MAX_COUNTERS // 10, None))
            counter.untold += amount
            hits = counter.told + counter.untold
            if self._teller is None:  # at the first hit, so in the process that counts: threads do not survive a fork
                self._teller = threading.Thread(target=self._tell_for_ever, name="rates", daemon=True)
                self._teller.start()
        self._awake.set()
        return hits

    def get(self, key: str) -> int:
        """How many hits there are in this window."""
        with self._lock:
            counter = self._live(key)
            return counter.told + counter.untold if counter else 0

    def get_expiry(self, key: str) -> float:
        """When the window ends, as a Unix time."""
        with self._lock:
            counter = self._live(key)
            return counter.ends_at if counter else time.time()

    def check(self) -> bool:
        """Whether hits can be counted: always."""
        return True

    def reset(self) -> int:
        """Forget everything counted here; how many windows that were."""
        with self._lock:
            forgotten = len(self._counters)
            self._counters.clear()
        return forgotten

    def clear(self, key: str) -> None:
        """Forget one window."""
        with self._lock:
            self._counters.pop(key, None)

    def _live(self, key: str) -> _Counter | None:
        counter = self._counters.get(key)
        return counter if counter and counter.is_live(time.time()) else None

    def _tell_for_ever(self) -> None:
        while True:
            self._awake.wait()
            self._awake.clear()
            try:
                self._tell()
            # All but the first: the client was closed while this read from it. This thread must not end of that.
            except (RedisError, OSError, ValueError, AttributeError):
                time.sleep(PAUSE_SECONDS)
                self._awake.set()
            time.sleep(SYNC_INTERVAL_SECONDS)

    def _tell(self) -> None:
        with self._lock:
            now = time.time()
            self._counters = {key: counter for key, counter in self._counters.items() if counter.is_live(now)}
            untold = ((key, counter, counter.untold) for key, counter in self._counters.items() if counter.untold)
            news = list(islice(untold, MAX_SYNCED))
            if len(news) == MAX_SYNCED:
                self._awake.set()
        pipeline = self._redis.pipeline(transaction=False)
        for key, counter, hits in news:
            pipeline.eval(_SYNC, 1, f"signalcraft:rate:{key}", hits, counter.seconds)
        answers = pipeline.execute()
        with self._lock:
            for (_, counter, hits), (total, left_ms) in zip(news, answers, strict=True):
                counter.told, counter.untold = total, counter.untold - hits
                counter.ends_at = time.time() + left_ms / 1000


class Rate:
    """One limit, by whatever it is counted per. A hit over it is refused; what is left is told in headers."""

    def __init__(self, limiter: Limiter, name: str, rate: str) -> None:
        """``rate`` is as :mod:`limits` reads it: ``6000/minute``."""
        self._limiter = limiter
        self._name = name
        self._item: RateLimitItem = parse(rate)
        self._logged_at = 0.0

    def hit(self, who: str) -> None:
        """Count a hit of ``who``.

        Raises:
            TooManyRequests: with ``Retry-After``.
        """
        strategy = self._limiter.limiter
        allowed = strategy.hit(self._item, self._name, who)
        window = strategy.get_window_stats(self._item, self._name, who)
        left = max(1, round(window.reset_time - time.time()))
        g.rate_headers = {
            "X-RateLimit-Limit": str(self._item.amount),
            "X-RateLimit-Remaining": str(window.remaining),
            "X-RateLimit-Reset": str(int(window.reset_time) + 1),
        }
        if not allowed:
            self._report(who)
            raise TooManyRequests(headers={"Retry-After": str(left)})

    def check(self, who: str) -> None:
        """Count nothing, and see whether ``who`` has any hit left.

        Raises:
            TooManyRequests: with ``Retry-After``.
        """
        strategy = self._limiter.limiter
        if not strategy.test(self._item, self._name, who):
            window = strategy.get_window_stats(self._item, self._name, who)
            self._report(who)
            raise TooManyRequests(headers={"Retry-After": str(max(1, round(window.reset_time - time.time())))})

    def _report(self, who: str) -> None:
        """Count each request over the limit, and log one of them a second: a flood must not fill the disk as well."""
        metrics.count("signalcraft_rate_limited_total", limit=self._name)
        now = time.monotonic()
        if now - self._logged_at >= 1:
            self._logged_at = now
            log.warning("rate limit exceeded", limit=self._name, who=who, rate=str(self._item))


def network_of(address: str | None) -> str:
    """Whom a request is counted for that nobody vouches for: an IPv4 address, or all of an IPv6 host's /64."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return address or "unknown"
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or IPv6Network((int(parsed) >> 64 << 64, 64)))
