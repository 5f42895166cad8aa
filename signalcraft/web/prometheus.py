"""Exposition of ``/metrics``: sums of all processes, from Redis, and gauges, read at each scrape."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from redis import Redis, RedisError

from signalcraft import metrics
from signalcraft.domain.errors import RecoverableError
from signalcraft.metrics import DECLARED, Declaration, Kind

#: The value of a gauge, or a value for each tuple of label values.
Reading = float | Mapping[tuple[str, ...], float]
Gauge = Callable[[], Reading]


def as_text(redis: Redis, gauges: Mapping[str, Gauge]) -> str:
    """Return all metrics in Prometheus's text format.

    A series that cannot be read is left out, since a zero would be false. While Redis is unavailable, all sums are
    left out.

    Raises:
        LookupError: a gauge is not declared.
    """
    families = list(_gauge_families(gauges))
    with contextlib.suppress(RedisError):
        families += _sum_families(metrics.read_sums(redis))
    collected = CollectorRegistry()
    collected.register(_Collector(families))
    return generate_latest(collected).decode()


@dataclass(frozen=True, slots=True, eq=False)
class _Collector:
    families: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


def _sum_families(sums: metrics.Sums) -> Iterator[Metric]:
    """Yield the families of counters and histograms.

    Series that only another release declares are skipped, and fields that are none of ours.
    """
    for declaration in DECLARED:
        samples = {
            values: sums_by_bound
            for values, sums_by_bound in sums.get(declaration.name, {}).items()
            if len(values) == len(declaration.labels)
        }
        if not declaration.labels:
            samples = {(): {}} | samples
        if declaration.kind is Kind.COUNTER:
            yield _as_counter(declaration, samples)
        elif declaration.kind is Kind.HISTOGRAM:
            yield _as_histogram(declaration, samples)


def _as_counter(declaration: Declaration, series: Mapping[tuple[str, ...], Mapping[str, float]]) -> Metric:
    family = CounterMetricFamily(declaration.name, declaration.help, labels=declaration.labels)
    for values, sums_by_bound in sorted(series.items()):
        family.add_metric(values, sums_by_bound.get("", 0.0))
    return family


def _as_histogram(declaration: Declaration, series: Mapping[tuple[str, ...], Mapping[str, float]]) -> Metric:
    family = HistogramMetricFamily(declaration.name, declaration.help, labels=declaration.labels)
    for values, sums_by_bound in sorted(series.items()):
        cumulative, total = [], 0.0
        for bound in (*map(str, declaration.buckets), "+Inf"):
            total += sums_by_bound.get(bound, 0.0)
            cumulative.append((bound, total))
        family.add_metric(values, buckets=cumulative, sum_value=sums_by_bound.get("sum", 0.0))
    return family


def _gauge_families(gauges: Mapping[str, Gauge]) -> Iterator[Metric]:
    declared = {declaration.name: declaration for declaration in DECLARED}
    for name, read in gauges.items():
        declaration = declared.get(name)
        if declaration is None or declaration.kind is not Kind.GAUGE:
            raise LookupError(f"{name} is not a declared gauge")
        family = GaugeMetricFamily(name, declaration.help, labels=declaration.labels)
        # the last two: what is in Redis is none of ours
        with contextlib.suppress(RedisError, RecoverableError, ValueError, TypeError):
            reading = read()
            values = reading if isinstance(reading, Mapping) else {(): reading}
            for labels, value in sorted(values.items()):
                family.add_metric(labels, value)
        yield family
