"""How long deliveries wait under 100 requests a second of each other route, on the default configuration."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from bench import http
from bench.arena import TOKEN, Arena
from bench.deliveries import Maker
from bench.figures import Figure
from bench.http import Target
from bench.load import Size, fill
from bench.pairs import percentile
from bench.serving import PATH, served

_RATE = 100.0
_DELIVERIES_RATE = 40.0
_PASSWORD = "bench-password"
_BEARER = {"Authorization": f"Bearer {TOKEN}"}
_BASIC = {"Authorization": f"Basic {b64encode(f'x:{_PASSWORD}'.encode()).decode()}"}


@dataclass(frozen=True, slots=True)
class _Route:
    """Requests that compete with the deliveries."""

    name: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"
    body: bytes = b""


_ROUTES = (
    _Route("nothing else", ""),
    _Route("/docs", "/docs"),
    _Route("/openapi.json", "/openapi.json"),
    _Route("/healthz", "/healthz"),
    _Route("/readyz", "/readyz"),
    _Route("/metrics", "/metrics"),
    _Route("404", "/nowhere"),
    _Route("60,000 slashes", "/" * 60_000),
    _Route("401 of the API", "/api/v1/groups", {"Authorization": "Bearer wrong"}),
    _Route("401 of a webhook", PATH, {"Content-Type": "application/json"}, "POST", b"{}"),
    _Route("a query of 60 kB", f"{PATH}?{'a&' * 30_000}", {"Content-Type": "application/json"}, "POST", b"{}"),
    _Route("401 of /rq", "/rq/"),
    _Route("/rq", "/rq/0/data/queues.json", _BASIC),
    _Route("a list of 50 groups", "/api/v1/groups", _BEARER),
    _Route("a list of 200 groups", "/api/v1/groups?limit=200", _BEARER),
    _Route("statistics", "/api/v1/stats", _BEARER),
)


def run(arena: Arena) -> Iterator[Figure]:
    """Measure each route in turn, on one web process without a worker."""
    seconds = 3.0 if arena.quick else 10.0
    maker = Maker(seed=9)
    with arena.lane("contention", DASHBOARD_PASSWORD=_PASSWORD) as lane, served(lane) as port:
        fill(lane.database_url, Size(groups=2_000, events=10_000))
        for route in _ROUTES:
            lane.redis.flushdb()
            yield _beside(route, port, maker, seconds)


def _beside(route: _Route, port: int, maker: Maker, seconds: float) -> Figure:
    samples = [maker.sample(group) for group in maker.groups(int(_DELIVERIES_RATE * seconds))]
    deliveries = [http.request_of("POST", PATH, one.headers, one.body, keep_alive=False) for one in samples]
    other = http.request_of(route.method, route.path, route.headers, route.body, keep_alive=False)
    others = [other] * int(_RATE * seconds if route.path else 0)
    with ThreadPoolExecutor(1) as competitors:
        # as many connections as it takes for the rate not to fall with the server's speed
        flood = Target(port=port, keep_alive=False, connections=200)
        sent = competitors.submit(http.open_loop, flood, others, rate=_RATE, expected=200)
        measured = http.open_loop(Target(port=port, keep_alive=False), deliveries, rate=_DELIVERIES_RATE, expected=202)
        result = sent.result()
    return Figure(
        benchmark="contention",
        name=f"p99 of deliveries under {route.name}",
        value=percentile(measured.times, 99) * 1000,
        unit="ms",
        against=f"absolute: {_DELIVERIES_RATE:g} deliveries under {_RATE:g} requests a second",
        at_most=100,
        detail={
            "p50, ms": percentile(measured.times, 50) * 1000,
            "longest, ms": max(measured.times) * 1000,
            "not 202": measured.unexpected,
            "other p50, ms": percentile(result.times, 50) * 1000 if others else 0.0,
            "other not 200": result.unexpected,
        },
    )
