"""How many signed deliveries one gunicorn worker takes in, against a route that only reads them and answers."""

from collections.abc import Iterator
from dataclasses import replace
from statistics import median

from bench import http
from bench.arena import Arena, BenchError, Lane
from bench.deliveries import Maker
from bench.figures import Figure
from bench.http import Outcome, Target
from bench.pairs import Pairs, percentile, take_turns
from bench.serving import PATH, served

AGAINST = "a Flask route that reads the body and answers 202, same gunicorn configuration"
_SHARE = 0.7


def run(arena: Arena) -> Iterator[Figure]:
    """Top rate with connections kept and with one each, and the times at a steady 70 % of the top rate."""
    number, pairs, seconds = (1_500, 3, 4.0) if arena.quick else (3_000, 9, 15.0)
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
        rate = _SHARE * median(kept.ours)
        steady = http.open_loop(target, _requests(maker, int(rate * seconds), target), rate=rate, wanted=202)
        same = http.open_loop(baseline, _requests(maker, int(rate * seconds), target), rate=rate, wanted=202)
        lane.redis.flushdb()
    yield _steady(steady, same, rate)


def _rates(lane: Lane, ours: Target, baseline: Target, maker: Maker, number: int, pairs: int) -> Pairs:
    def top_rate(target: Target, many: int) -> float:
        outcome = http.closed_loop(target, _requests(maker, many, target), wanted=202)
        if outcome.wrong:
            raise BenchError(f"{outcome.wrong} of {many} requests were not answered with 202")
        return outcome.rate

    def our_rate() -> float:
        lane.redis.flushdb()
        return top_rate(ours, number)

    top_rate(baseline, number // 4)
    top_rate(ours, number // 4)
    return take_turns(our_rate, lambda: top_rate(baseline, 2 * number), pairs)


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
        at_least=0.35,
        detail=detail | {"requests a run": number, "connections": Target(port=0).connections},
    )


def _steady(steady: Outcome, same: Outcome, rate: float) -> Figure:
    return Figure(
        benchmark="intake",
        name="p99 at 70 % of the top rate",
        value=percentile(steady.times, 99) * 1000,
        unit="ms",
        against="absolute; the plain route at the same rate in detail",
        at_most=100,
        detail={
            "requests/s": round(rate),
            "p50, ms": percentile(steady.times, 50) * 1000,
            "longest, ms": max(steady.times) * 1000,
            "not 202": steady.wrong,
            "p99 plain, ms": percentile(same.times, 99) * 1000,
        },
    )
