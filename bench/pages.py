"""How fast the pages are, and how large, at a million groups and two million events.

One workspace has a twentieth of the groups. In it one group has 20,000 alerts, one problem came back 2,000 times, and
the groups that were seen last had alerts in each of the last 24 hours. Times include the server and the loopback.
"""

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from typing import Final
from urllib.parse import urlencode

from bench.arena import TOKEN, Arena, BenchError, Lane
from bench.figures import Figure
from bench.lists import LARGE
from bench.load import fill
from bench.pairs import percentile
from bench.serving import served

_MAX_MS: Final = 60
_MAX_REFRESH_MS: Final = 10
_MAX_KB: Final = 200

_PREPARE: Final = (
    """
    UPDATE alert_event SET alert_group_id = 1
    WHERE id IN (SELECT id FROM alert_event WHERE workspace_id = 1 AND alert_group_id > 1 ORDER BY id LIMIT 20000)""",
    """
    UPDATE alert_group SET group_key = 'v1:often' WHERE id IN (
        SELECT id FROM alert_group WHERE workspace_id = 1 AND status = 'resolved' ORDER BY id LIMIT 2000)""",
    """
    INSERT INTO group_hour (alert_group_id, hour, alerts)
    SELECT id, date_trunc('hour', now(), 'UTC') - n * interval '1 hour', 1 + (id + n) % 40
    FROM (SELECT id FROM alert_group WHERE workspace_id = 1 ORDER BY last_seen_at DESC LIMIT 200) AS newest,
         generate_series(0, 23) AS n
    ON CONFLICT DO NOTHING""",
    "VACUUM (ANALYZE) alert_group, alert_event, group_hour",
    "CHECKPOINT",
)
_OFTEN: Final = "SELECT max(id) FROM alert_group WHERE group_key = 'v1:often'"
_EVENT: Final = "SELECT max(id) FROM alert_event WHERE alert_group_id = 1"

_LISTS: Final = {
    "list, open": {},
    "list, acknowledged": {"status": "ack"},
    "list, snoozed": {"status": "snoozed"},
    "list, resolved": {"status": "resolved"},
    "list, all, most alerts first": {"status": "all", "sort": "-count"},
    "list, all, worst first": {"status": "all", "sort": "-severity"},
    "list, filtered": {"severity_min": "high", "environment": "prod", "project": "project-7"},
    "list, found titles": {"status": "all", "q": "request 9999"},
    "list, no title found": {"status": "all", "q": "no such words"},
}


def run(arena: Arena) -> Iterator[Figure]:
    """Measure p99 and size of each page, and of a refresh of the list without change."""
    with arena.lane("pages") as lane:
        fill(lane.database_url, LARGE.scaled(400_000) if arena.quick else LARGE)
        yield from of(lane, 30 if arena.quick else 200, "pages")


def of(lane: Lane, number: int, benchmark: str) -> Iterator[Figure]:
    """Measure the pages of a lane that is filled."""
    lane.run(*_PREPARE)
    with served(lane) as port:
        browser = _Browser(port)
        paths = {name: f"/alerts?{urlencode(query)}" for name, query in _LISTS.items()}
        paths["list, tenth page"] = browser.tenth_page()
        paths["group of 20,000 alerts"] = "/alerts/1"
        paths["group that came back 2,000 times"] = f"/alerts/{lane.number(_OFTEN)}"
        paths["event"] = f"/alerts/1/events/{lane.number(_EVENT)}"
        paths["system"] = "/system"
        sizes = {}
        for name, path in paths.items():
            answers = [browser.get(path) for _ in range(number)]
            sizes[name] = max(len(answer.body) for answer in answers) / 1000
            seconds = [answer.seconds for answer in answers]
            yield _figure(benchmark, f"page: {name}", seconds, _MAX_MS, {"kB": round(sizes[name], 1)})
        largest = max(sizes, key=lambda name: sizes[name])
        yield Figure(
            benchmark=benchmark,
            name="the largest page, uncompressed",
            value=sizes[largest],
            unit="kB",
            against="absolute",
            at_most=_MAX_KB,
            detail={"page": largest},
        )
        refreshes = _refreshes(browser, number)
        yield _figure(benchmark, "refresh of the list without change", refreshes, _MAX_REFRESH_MS, {})


def _refreshes(browser: "_Browser", number: int) -> list[float]:
    tag = browser.get("/alerts").tag
    answers = [browser.get("/alerts", tag=tag) for _ in range(number)]
    if {answer.status for answer in answers} != {304}:
        raise BenchError("a list that has not changed was sent again")
    return [answer.seconds for answer in answers]


def _figure(benchmark: str, name: str, seconds: list[float], at_most: float, detail: dict[str, float]) -> Figure:
    return Figure(
        benchmark=benchmark,
        name=f"p99 of {name}",
        value=percentile(seconds, 99) * 1000,
        unit="ms",
        against="absolute",
        at_most=at_most,
        detail={"p50, ms": percentile(seconds, 50) * 1000, **detail},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    seconds: float
    body: bytes
    tag: str


class _Browser:
    """Requests pages with a session, each on a new connection."""

    def __init__(self, port: int) -> None:
        """Sign in at gunicorn on ``port`` of the loopback interface."""
        self._port = port
        form = urlencode({"token": TOKEN})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        with self._connected() as connection:
            connection.request("POST", "/login", form, headers)
            response = connection.getresponse()
            self._cookie = (response.headers["Set-Cookie"] or "").partition(";")[0]
            if response.status != 303:
                raise BenchError(f"signing in got {response.status}")

    def get(self, path: str, *, tag: str = "") -> _Answer:
        """Return the answer for a page, and the seconds until it was received."""
        headers = {"Cookie": self._cookie} | ({"If-None-Match": tag} if tag else {})
        with self._connected() as connection:
            began = time.perf_counter()
            connection.request("GET", path, headers=headers)
            response: HTTPResponse = connection.getresponse()
            body = response.read()
            seconds = time.perf_counter() - began
        if response.status not in (200, 304):
            raise BenchError(f"{path} got {response.status}: {body[:300]!r}")
        return _Answer(status=response.status, seconds=seconds, body=body, tag=response.headers["ETag"] or "")

    def tenth_page(self) -> str:
        """Return the path of the tenth page of all groups."""
        path = "/alerts?status=all"
        for _ in range(9):
            found = re.search(rb'rel="next" href="([^"]+)"', self.get(path).body)
            if found is None:
                raise BenchError(f"{path} has no next page")
            path = found[1].decode().replace("&amp;", "&")
        return path

    @contextlib.contextmanager
    def _connected(self) -> Iterator[HTTPConnection]:
        with contextlib.closing(HTTPConnection("127.0.0.1", self._port, timeout=30)) as connection:
            connection.connect()
            yield connection
