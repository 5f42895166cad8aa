"""Whether the time of a refusal reveals which workspaces exist."""

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection

from bench.arena import Arena, BenchError
from bench.deliveries import Maker
from bench.figures import Figure
from bench.pairs import alternate, percentile
from bench.serving import PATH, served

_MAX_DIFFERENCE = 0.2


def run(arena: Arena) -> Iterator[Figure]:
    """Compare the medians of single requests, sent alternately, each on a new connection."""
    number = 300 if arena.quick else 2_000
    sample = Maker(seed=8).sample(1)
    headers = {**sample.headers, "Sentry-Hook-Signature": "0" * 64}
    with arena.lane("refusals", RATELIMIT_ADDRESS="1000000000/minute") as lane, served(lane) as port:
        refuse = partial(_refused, port, headers=headers, body=sample.body)
        for _ in range(50):
            refuse(f"{PATH}/default"), refuse(f"{PATH}/no-such-workspace")
        measured = alternate(lambda: refuse(f"{PATH}/default"), lambda: refuse(f"{PATH}/no-such-workspace"), number)
    known, unknown = percentile(measured.ours, 50), percentile(measured.baseline, 50)
    yield Figure(
        benchmark="refusals",
        name="medians of a bad signature and an unknown workspace, apart by",
        value=abs(known - unknown) / unknown,
        unit="of it",
        against="an unknown workspace",
        at_most=_MAX_DIFFERENCE,
        detail={"bad signature, ms": known * 1000, "unknown workspace, ms": unknown * 1000, "requests each": number},
    )


def _refused(port: int, path: str, *, headers: dict[str, str], body: bytes) -> float:
    """Return seconds until a delivery to ``path`` was refused with 401."""
    with contextlib.closing(HTTPConnection("127.0.0.1", port)) as connection:
        connection.connect()
        began = time.perf_counter()
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        response.read()
        seconds = time.perf_counter() - began
    if response.status != HTTPStatus.UNAUTHORIZED:
        raise BenchError(f"{path} got {response.status}")
    return seconds
