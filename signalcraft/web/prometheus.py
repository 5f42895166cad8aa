"""What ``/metrics`` says: the sums of all processes, which are in Redis, and gauges, which are read on the spot."""

import contextlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from redis import Redis, RedisError

from signalcraft.domain.errors import RecoverableError
from signalcraft.metrics import DECLARED, SUMS, Declaration, Kind

#: A gauge's value, or one for each tuple of its labels' values.
Reading = float | Mapping[tuple[str, ...], float]
Gauge = Callable[[], Reading]


def as_text(redis: Redis, gauges: Mapping[str, Gauge]) -> str:
    """All metrics in Prometheus's text format: the sums in Redis, and each gauge read now.

    What cannot be read is left out: absent is true, zero would not be. While Redis is away that is all sums.

    Raises:
        LookupError: a gauge is not declared.
    """
    families = list(_read(gauges))
    with contextlib.suppress(RedisError):
        families += _summed(cast("dict[bytes, bytes]", redis.hgetall(SUMS)))
    collected = CollectorRegistry()
    collected.register(_Collected(families))
    return generate_latest(collected).decode()


@dataclass(frozen=True, slots=True, eq=False)
class _Collected:
    families: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


def _summed(sums: Mapping[bytes, bytes]) -> Iterator[Metric]:
    """Families of counters and histograms. What an older release declared and this one does not is passed over."""
    series: dict[str, dict[tuple[str, ...], dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for part, amount in sums.items():
        name, *values, bound = json.loads(part)
        series[name][tuple(values)][bound] = float(amount)
    for declaration in DECLARED:
        known = {
            values: parts
            for values, parts in series[declaration.name].items()
            if len(values) == len(declaration.labels)
        }
        if not declaration.labels:
            known = {(): {}} | known
        if declaration.kind is Kind.COUNTER:
            yield _as_counter(declaration, known)
        elif declaration.kind is Kind.HISTOGRAM:
            yield _as_histogram(declaration, known)


def _as_counter(declaration: Declaration, series: Mapping[tuple[str, ...], Mapping[str, float]]) -> Metric:
    family = CounterMetricFamily(declaration.name, declaration.help, labels=declaration.labels)
    for values, parts in sorted(series.items()):
        family.add_metric(values, parts.get("", 0.0))
    return family


def _as_histogram(declaration: Declaration, series: Mapping[tuple[str, ...], Mapping[str, float]]) -> Metric:
    family = HistogramMetricFamily(declaration.name, declaration.help, labels=declaration.labels)
    for values, parts in sorted(series.items()):
        cumulative, so_far = [], 0.0
        for bound in (*map(str, declaration.buckets), "+Inf"):
            so_far += parts.get(bound, 0.0)
            cumulative.append((bound, so_far))
        family.add_metric(values, buckets=cumulative, sum_value=parts.get("sum", 0.0))
    return family


def _read(gauges: Mapping[str, Gauge]) -> Iterator[Metric]:
    declared = {declaration.name: declaration for declaration in DECLARED}
    for name, read in gauges.items():
        declaration = declared.get(name)
        if declaration is None or declaration.kind is not Kind.GAUGE:
            raise LookupError(f"{name} is not a declared gauge")
        family = GaugeMetricFamily(name, declaration.help, labels=declaration.labels)
        with contextlib.suppress(RedisError, RecoverableError):
            reading = read()
            values = reading if isinstance(reading, Mapping) else {(): reading}
            for labels, value in sorted(values.items()):
                family.add_metric(labels, value)
        yield family
