"""How many signed deliveries one gunicorn worker receives, against a route that only reads the body."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from bench import http
from bench.arena import Arena, BenchError, Lane
from bench.deliveries import Maker
from bench.figures import Figure
from bench.http import LoadResult, Target
from bench.pairs import Pairs, alternate, percentile
from bench.serving import PATH, served

AGAINST = "a Flask route that reads the body and answers 202, same gunicorn configuration"
_SHARE = 0.7
#: The speed of a shared machine varies from minute to minute: each try measures its top rate just before.
_TRIES = 5


def run(arena: Arena) -> Iterator[Figure]:
    """Measure the top rate with and without keep-alive, and latency at a steady 70 % of it."""
    number, pairs, seconds = (1_500, 3, 2.0) if arena.quick else (3_000, 9, 6.0)
    maker = Maker()
    with (
        arena.lane("intake") as lane,
        arena.lane("plain") as other,
        served(lane) as port,
        served(other, "bench.plain:app") as plain_port,
    ):
        target, baseline = Target(port=port), Target(port=plain_port)
        kept = _rates(lane, target, baseline, maker, number, pairs)
        yield _ratio("requests/s, connections kept", kept, number)
        single = [replace(one, keep_alive=False) for one in (target, baseline)]
        each = _rates(lane, single[0], single[1], maker, number, pairs)
        yield _ratio("requests/s, a connection for each", each, number)
        yield _steady([_try(lane, target, baseline, maker, number, seconds) for _ in range(_TRIES)])


def _rates(lane: Lane, ours: Target, baseline: Target, maker: Maker, number: int, pairs: int) -> Pairs:
    def our_rate() -> float:
        lane.redis.flushdb()
        return _top_rate(ours, maker, number)

    _top_rate(baseline, maker, number // 4)
    _top_rate(ours, maker, number // 4)
    return alternate(our_rate, lambda: _top_rate(baseline, maker, 2 * number), pairs)


def _top_rate(target: Target, maker: Maker, number: int) -> float:
    result = http.closed_loop(target, _requests(maker, number, target), expected=202)
    if result.unexpected:
        raise BenchError(f"{result.unexpected} of {number} requests did not get a 202")
    return result.rate


@dataclass(frozen=True, slots=True)
class _Try:
    """Both routes at one steady rate, in requests a second."""

    rate: float
    ours: LoadResult
    plain: LoadResult


def _try(lane: Lane, ours: Target, baseline: Target, maker: Maker, number: int, seconds: float) -> _Try:
    lane.redis.flushdb()
    rate = _SHARE * _top_rate(ours, maker, number)
    both = [
        http.open_loop(one, _requests(maker, int(rate * seconds), one), rate=rate, expected=202)
        for one in (ours, baseline)
    ]
    return _Try(rate, *both)


def _requests(maker: Maker, number: int, target: Target) -> list[bytes]:
    made = (maker.sample(group) for group in maker.groups(number))
    return [http.request_of("POST", PATH, sample.headers, sample.body, keep_alive=target.keep_alive) for sample in made]


def _ratio(name: str, measured: Pairs, number: int) -> Figure:
    detail = measured.detail("requests/s", "requests/s, plain")
    return Figure(
        benchmark="intake",
        name=name,
        value=measured.ratio,
        unit="x",
        against=AGAINST,
        at_least=0.45,
        detail=detail | {"requests a run": number, "connections": Target(port=0).connections},
    )


def _steady(tries: Sequence[_Try]) -> Figure:
    p99s = [percentile(one.ours.times, 99) * 1000 for one in tries]
    return Figure(
        benchmark="intake",
        name="p99 at 70 % of the top rate",
        value=median(p99s),
        unit="ms",
        against="absolute, median of the tries; the plain route at the same rate in detail",
        at_most=100,
        detail={
            "tries": len(tries),
            "highest p99, ms": max(p99s),
            "requests/s": round(median(one.rate for one in tries)),
            "p50, ms": median(percentile(one.ours.times, 50) for one in tries) * 1000,
            "longest, ms": max(max(one.ours.times) for one in tries) * 1000,
            "not 202": sum(one.ours.unexpected for one in tries),
            "p99 plain, ms": median(percentile(one.plain.times, 99) for one in tries) * 1000,
        },
    )
