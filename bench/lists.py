"""How fast pages of groups are, at a million groups and at ten thousand.

The million are spread over 20 workspaces, the ten thousand are one workspace's: so both fill the pages that are asked
for, and growth compares the same work. Times are the server's and the loopback's, of single requests, asked in turns.
"""

import contextlib
import json
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from http.client import HTTPConnection
from urllib.parse import urlencode

import psutil

from bench import draining
from bench.arena import TOKEN, Arena, BenchError, Lane
from bench.deliveries import Maker, enqueue
from bench.figures import Figure
from bench.load import Size, fill
from bench.pairs import Pairs, percentile, take_turns
from bench.serving import served

LARGE = Size(groups=1_000_000, events=2_000_000, workspaces=20)
SMALL = Size(groups=10_000, events=20_000)
EXPORTED = Size(groups=100_000, events=100_000)
_PAGE = 50

#: Each single filter, some together, and the text search, which may take longer.
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
    """The 99th percentile of each query, and its ratio to the same on the small table; changes; an export."""
    number = 30 if arena.quick else 200
    large = replace(LARGE, groups=200_000, events=400_000) if arena.quick else LARGE
    with arena.lane("large") as many, arena.lane("small") as few:
        seconds = fill(many.database_url, large)
        fill(few.database_url, SMALL)
        with served(many) as port, served(few) as small_port:
            asker, small_asker = Asker(port), Asker(small_port)
            queries = {name: (query, query) for name, query in QUERIES.items()}
            queries["tenth page"] = (asker.tenth_page(), small_asker.tenth_page())
            for name, (query, small_query) in queries.items():
                measured = take_turns(partial(asker.ask, query), partial(small_asker.ask, small_query), number)
                yield from _figures(name, measured)
            yield _patches(many, asker, 500 if arena.quick else 3_000)
    yield _export(arena)
    yield Figure(
        benchmark="lists",
        name=f"loading {large.groups:,} groups, {large.events:,} events",
        value=seconds,
        unit="s",
        at_most=300,
    )


def _figures(name: str, measured: Pairs) -> Iterator[Figure]:
    """How long a query takes, and how that grows with the table."""
    yield Figure(
        benchmark="lists",
        name=f"p99 of {name}",
        value=percentile(measured.ours, 99) * 1000,
        unit="ms",
        at_most=50 if name.startswith("q,") else 20,
        detail={"p50, ms": percentile(measured.ours, 50) * 1000},
    )
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
    """How much larger the web process becomes while it streams every group of a workspace."""
    size = replace(EXPORTED, groups=20_000, events=20_000) if arena.quick else EXPORTED
    with arena.lane("export") as lane:
        fill(lane.database_url, size)
        with served(lane) as port:
            asker = Asker(port)
            for _ in range(20):
                asker.ask({})
            before, lines, peak = _resident(port), 0, 0
            for piece in asker.export():
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
    """Bytes of memory of all processes that listen on ``port``."""
    listening = {one.pid for one in psutil.net_connections("tcp4") if one.laddr and one.laddr.port == port and one.pid}
    return sum(psutil.Process(pid).memory_info().rss for pid in listening)


def _patches(lane: Lane, asker: "Asker", number: int) -> Figure:
    """Changes of groups anywhere in the table, one after the other, for as long as a worker drains at full speed."""
    chance = random.Random(4)  # noqa: S311 - chance here is no secret
    times: list[float] = []
    with draining.ours(lane, first=10_000_000) as worker:
        for held in worker.workers:
            held.hold()
        enqueue(lane.redis_url, Maker(seed=9, first=10_000_000).accepted(10 * number))
        for held in worker.workers:
            held.let_go()
        while not worker.is_drained():
            group = 1 + LARGE.workspaces * chance.randrange(LARGE.groups // LARGE.workspaces // 5)
            times.append(asker.assign(group, f"bench:{len(times)}"))
    return Figure(
        benchmark="lists",
        name="p99 of PATCH while a worker drains",
        value=percentile(times, 99) * 1000,
        unit="ms",
        at_most=15,
        detail={"p50, ms": percentile(times, 50) * 1000, "changes": len(times), "deliveries": 10 * number},
    )


class Asker:
    """Asks for pages of groups over one connection."""

    def __init__(self, port: int) -> None:
        """``port`` is gunicorn's, on loopback."""
        self._port = port

    def ask(self, query: dict[str, str]) -> float:
        """Seconds until the page was there."""
        with contextlib.closing(HTTPConnection("127.0.0.1", self._port)) as connection:
            connection.connect()
            began = time.perf_counter()
            self._get(connection, query)
            return time.perf_counter() - began

    def assign(self, group_id: int, assignee: str) -> float:
        """Seconds until a group was given to somebody."""
        body = json.dumps({"assignee_user_id": assignee})
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        with contextlib.closing(HTTPConnection("127.0.0.1", self._port)) as connection:
            connection.connect()
            began = time.perf_counter()
            connection.request("PATCH", f"/api/v1/groups/{group_id}", body, headers)
            response = connection.getresponse()
            answer = response.read()
            seconds = time.perf_counter() - began
        if response.status != 200:
            raise BenchError(f"PATCH was answered with {response.status}: {answer[:300]!r}")
        return seconds

    def export(self) -> Iterator[bytes]:
        """Every group, as it comes."""
        with contextlib.closing(HTTPConnection("127.0.0.1", self._port)) as connection:
            connection.request("GET", "/api/v1/groups/export", headers={"Authorization": f"Bearer {TOKEN}"})
            response = connection.getresponse()
            while piece := response.read(1 << 20):
                yield piece

    def tenth_page(self) -> dict[str, str]:
        """What asks for the tenth page."""
        query: dict[str, str] = {}
        with contextlib.closing(HTTPConnection("127.0.0.1", self._port)) as connection:
            for _ in range(9):
                query = {"cursor": json.loads(self._get(connection, query))["next_cursor"]}
        return query

    @staticmethod
    def _get(connection: HTTPConnection, query: dict[str, str]) -> bytes:
        parameters = urlencode({"limit": _PAGE, **query})
        connection.request("GET", f"/api/v1/groups?{parameters}", headers={"Authorization": f"Bearer {TOKEN}"})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise BenchError(f"{parameters} was answered with {response.status}: {body[:300]!r}")
        return body
