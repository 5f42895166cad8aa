"""How fast pages of groups are, at a million groups and at ten thousand.

The million are spread over 20 workspaces, the ten thousand are in one: so both fill the requested pages, and growth
compares the same work. Times include the server and the loopback, of single requests sent alternately.
"""

import contextlib
import json
import random
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from http.client import HTTPConnection
from urllib.parse import urlencode

from bench import draining
from bench.arena import TOKEN, Arena, BenchError, Lane
from bench.deliveries import Maker, enqueue
from bench.figures import Figure
from bench.load import Size, fill
from bench.pairs import Pairs, alternate, percentile
from bench.serving import processes, served

LARGE = Size(groups=1_000_000, events=2_000_000, workspaces=20)
SMALL = Size(groups=10_000, events=20_000)
EXPORTED = Size(groups=100_000, events=100_000)
_PAGE_SIZE = 50

#: Each filter, some combined, and the text search, which may take longer.
QUERIES = {
    "first page": {},
    "status=open": {"status": "open"},
    "status=snoozed": {"status": "snoozed"},
    "status=!open": {"status": "!open"},
    "severity=critical": {"severity": "critical"},
    "severity_min=high": {"severity_min": "high"},
    "environment=dev": {"environment": "dev"},
    "project=project-7": {"project": "project-7"},
    "source=sentry": {"source": "sentry"},
    "assignee=sentry:user:7": {"assignee": "sentry:user:7"},
    "since a week ago": {"since": (datetime.now(UTC) - timedelta(days=7)).isoformat()},
    "until two weeks ago": {"until": (datetime.now(UTC) - timedelta(days=14)).isoformat()},
    "current=false": {"current": "false"},
    "sort=count": {"sort": "-count"},
    "sort=severity": {"sort": "-severity"},
    "sort=first_seen": {"sort": "-first_seen"},
    "severity_min, environment, project": {"severity_min": "high", "environment": "prod", "project": "project-7"},
    "q, few match": {"q": "request 9999"},
    "q, none matches": {"q": "no such words"},
}


def run(arena: Arena) -> Iterator[Figure]:
    """Measure p99 of each query, its ratio to the small table, updates during load, and an export."""
    number = 30 if arena.quick else 200
    large = LARGE.scaled(400_000) if arena.quick else LARGE
    with arena.lane("large") as many, arena.lane("small") as few:
        seconds = fill(many.database_url, large)
        fill(few.database_url, SMALL)
        with served(many) as port, served(few) as small_port:
            client, small_client = ApiClient(port), ApiClient(small_port)
            queries = {name: (query, query) for name, query in QUERIES.items()}
            queries["tenth page"] = (client.tenth_page(), small_client.tenth_page())
            for name, (query, small_query) in queries.items():
                measured = alternate(
                    partial(client.get_page, query), partial(small_client.get_page, small_query), number
                )
                yield from _figures(name, measured)
            yield _patches(many, client, 500 if arena.quick else 3_000)
    yield _export(arena)
    yield Figure(
        benchmark="lists",
        name=f"loading {large.groups:,} groups, {large.events:,} events",
        value=seconds,
        unit="s",
        at_most=300,
    )


def of(lane: Lane, number: int, benchmark: str) -> Iterator[Figure]:
    """Yield the latency of each query on a lane that is filled."""
    with served(lane) as port:
        client = ApiClient(port)
        for name, query in (QUERIES | {"tenth page": client.tenth_page()}).items():
            yield _latency(name, [client.get_page(query) for _ in range(number)], benchmark)


def _latency(name: str, seconds: Sequence[float], benchmark: str) -> Figure:
    return Figure(
        benchmark=benchmark,
        name=f"p99 of {name}",
        value=percentile(seconds, 99) * 1000,
        unit="ms",
        at_most=50 if name.startswith("q,") else 20,
        detail={"p50, ms": percentile(seconds, 50) * 1000},
    )


def _figures(name: str, measured: Pairs) -> Iterator[Figure]:
    """Yield the latency of a query, and its growth with the table."""
    yield _latency(name, measured.ours, "lists")
    yield Figure(
        benchmark="lists",
        name=f"growth of {name}",
        value=percentile(measured.ours, 50) / percentile(measured.baseline, 50),
        unit="x",
        against=f"{SMALL.groups:,} groups, medians",
        at_most=1.5,
        detail={"p50, ms": percentile(measured.baseline, 50) * 1000},
    )


def _export(arena: Arena) -> Figure:
    """Measure the growth of the web process while it streams every group of a workspace."""
    size = EXPORTED.scaled(20_000) if arena.quick else EXPORTED
    with arena.lane("export") as lane:
        fill(lane.database_url, size)
        with served(lane) as port:
            client = ApiClient(port)
            for _ in range(20):
                client.get_page({})
            before, lines, peak = _resident(port), 0, 0
            for piece in client.export():
                lines += piece.count(b"\n")
                peak = max(peak, _resident(port))
            if lines != size.groups:
                raise BenchError(f"{lines} of {size.groups} groups were exported")
    return Figure(
        benchmark="lists",
        name=f"web process, larger while it exports {size.groups:,} groups by",
        value=(peak - before) / 1e6,
        unit="MB",
        against="itself before",
        at_most=20,
        detail={"before, MB": before / 1e6},
    )


def _resident(port: int) -> int:
    """Return the resident bytes of gunicorn's processes."""
    return sum(process.memory_info().rss for process in processes(port))


def _patches(lane: Lane, client: "ApiClient", number: int) -> Figure:
    """Update random groups one after the other while a worker processes a backlog at full speed."""
    chance = random.Random(4)  # noqa: S311 - chance here is no secret
    times: list[float] = []
    with draining.ours(lane, first=10_000_000) as worker:
        for process in worker.workers:
            process.pause()
        enqueue(lane.redis_url, Maker(seed=9, first=10_000_000).accepted(10 * number))
        for process in worker.workers:
            process.resume()
        while not worker.is_drained():
            group = 1 + LARGE.workspaces * chance.randrange(LARGE.groups // LARGE.workspaces // 5)
            times.append(client.assign(group, f"bench:{len(times)}"))
    return Figure(
        benchmark="lists",
        name="p99 of PATCH while a worker drains",
        value=percentile(times, 99) * 1000,
        unit="ms",
        at_most=15,
        detail={"p50, ms": percentile(times, 50) * 1000, "changes": len(times), "deliveries": 10 * number},
    )


class ApiClient:
    """Send requests to the API, each on a new connection."""

    def __init__(self, port: int) -> None:
        """Use gunicorn at ``port`` of the loopback interface."""
        self._port = port

    def get_page(self, query: dict[str, str]) -> float:
        """Return the seconds until the page was received."""
        with contextlib.closing(HTTPConnection("127.0.0.1", self._port)) as connection:
            connection.connect()
            began = time.perf_counter()
            self._get(connection, query)
            return time.perf_counter() - began

    def assign(self, group_id: int, assignee: str) -> float:
        """Assign a group; return the seconds until the response."""
        body = json.dumps({"assignee_user_id": assignee})
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        with contextlib.closing(HTTPConnection("127.0.0.1", self._port)) as connection:
            connection.connect()
            began = time.perf_counter()
            connection.request("PATCH", f"/api/v1/groups/{group_id}", body, headers)
            response = connection.getresponse()
            content = response.read()
            seconds = time.perf_counter() - began
        if response.status != 200:
            raise BenchError(f"PATCH got {response.status}: {content[:300]!r}")
        return seconds

    def export(self) -> Iterator[bytes]:
        """Yield the export of every group in pieces."""
        with contextlib.closing(HTTPConnection("127.0.0.1", self._port)) as connection:
            connection.request("GET", "/api/v1/groups/export", headers={"Authorization": f"Bearer {TOKEN}"})
            response = connection.getresponse()
            while piece := response.read(1 << 20):
                yield piece

    def tenth_page(self) -> dict[str, str]:
        """Return the query of the tenth page."""
        query: dict[str, str] = {}
        with contextlib.closing(HTTPConnection("127.0.0.1", self._port)) as connection:
            for _ in range(9):
                query = {"cursor": json.loads(self._get(connection, query))["next_cursor"]}
        return query

    @staticmethod
    def _get(connection: HTTPConnection, query: dict[str, str]) -> bytes:
        parameters = urlencode({"limit": _PAGE_SIZE, **query})
        connection.request("GET", f"/api/v1/groups?{parameters}", headers={"Authorization": f"Bearer {TOKEN}"})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise BenchError(f"{parameters} got {response.status}: {body[:300]!r}")
        return body
