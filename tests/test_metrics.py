"""Metrics: only declared ones, summed over processes through a real Redis, correct during its outages."""

import os
import threading
from collections.abc import Iterator

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from signalcraft import metrics
from signalcraft.dev import embedded_servers
from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.metrics import Declaration, Kind, Registry
from signalcraft.web import prometheus
from tests.support.waiting import wait_until

UNREACHABLE = "redis://127.0.0.1:1"


@pytest.fixture
def registry() -> Registry:
    return Registry(metrics.DECLARED)


def _scrape(client: "redis.Redis", **gauges: prometheus.Gauge) -> dict[tuple[str, ...], float]:
    text = prometheus.as_text(client, gauges)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_an_undeclared_name_is_refused(registry: Registry) -> None:
    with pytest.raises(LookupError, match="signalcraft_typo_total"):
        registry.count("signalcraft_typo_total")


def test_labels_other_than_the_declared_ones_are_refused(registry: Registry) -> None:
    with pytest.raises(LookupError, match="answer"):
        registry.count("signalcraft_webhooks_total", answer="accepted")


def test_a_histogram_cannot_be_counted_nor_a_counter_observed(registry: Registry) -> None:
    with pytest.raises(LookupError):
        registry.count("signalcraft_ack_seconds")
    with pytest.raises(LookupError):
        registry.observe("signalcraft_alerts_total", 1)


def test_every_declaration_is_valid_for_prometheus() -> None:
    names = [declaration.name for declaration in metrics.DECLARED]
    assert len(names) == len(set(names))
    for declaration in metrics.DECLARED:
        assert declaration.name.startswith("signalcraft_")
        assert declaration.help.endswith(".")
        assert declaration.name.endswith("_total") == (declaration.kind is Kind.COUNTER)
        assert list(declaration.buckets) == sorted(declaration.buckets)
        assert bool(declaration.buckets) == (declaration.kind is Kind.HISTOGRAM)
        assert set(declaration.closed) <= set(declaration.labels)


def test_counts_of_several_processes_are_summed(clean_redis: "redis.Redis") -> None:
    for _ in range(3):
        process = Registry(metrics.DECLARED)
        process.count("signalcraft_webhooks_total", source="sentry", resource="issue", answer="accepted")
        process.count("signalcraft_webhooks_total", 2, answer="accepted", resource="issue", source="sentry")
        assert process.flush(clean_redis)
    assert _scrape(clean_redis)["signalcraft_webhooks_total", "accepted", "issue", "sentry"] == 9


def test_a_made_up_resource_is_counted_as_other(registry: Registry, clean_redis: "redis.Redis") -> None:
    for number in range(20_000):
        registry.count("signalcraft_webhooks_total", source="sentry", resource=f"made-up-{number}", answer="refused")
    registry.flush(clean_redis)
    assert _scrape(clean_redis)["signalcraft_webhooks_total", "refused", "other", "sentry"] == 20_000
    assert len(registry._series) == 0


def test_the_number_of_series_in_memory_is_bounded(registry: Registry) -> None:
    for number in range(metrics._MAX_SERIES + 100):
        registry.count("signalcraft_rejected_total", code=f"code-{number}")
    assert len(registry._sums) == metrics._MAX_SERIES


def test_a_histogram_is_cumulative_with_sum_and_count(registry: Registry, clean_redis: "redis.Redis") -> None:
    for seconds in (0.001, 0.9, 0.95, 30.0):
        registry.observe("signalcraft_ack_seconds", seconds)
    registry.flush(clean_redis)
    samples = _scrape(clean_redis)
    bucket = {key[1]: value for key, value in samples.items() if key[0] == "signalcraft_ack_seconds_bucket"}
    assert (bucket["0.001"], bucket["0.75"], bucket["0.9"], bucket["1.0"], bucket["+Inf"]) == (1, 1, 2, 3, 4)
    assert samples["signalcraft_ack_seconds_count",] == 4
    assert samples["signalcraft_ack_seconds_sum",] == pytest.approx(31.851)


def test_a_stage_is_timed_even_if_it_fails(registry: Registry, clean_redis: "redis.Redis") -> None:
    with pytest.raises(ZeroDivisionError), registry.timed("signalcraft_stage_seconds", stage="store"):
        _ = 1 / 0
    registry.flush(clean_redis)
    assert _scrape(clean_redis)["signalcraft_stage_seconds_count", "store"] == 1


def test_a_metric_without_labels_is_zero_before_its_first_count(clean_redis: "redis.Redis") -> None:
    samples = _scrape(clean_redis)
    assert samples["signalcraft_groups_created_total",] == 0
    assert samples["signalcraft_ack_seconds_count",] == 0


def test_gauges_are_read_at_the_scrape_with_and_without_labels(clean_redis: "redis.Redis") -> None:
    samples = _scrape(
        clean_redis,
        signalcraft_inbox_depth=lambda: 3,
        signalcraft_queue_depth=lambda: {("deliveries",): 7, ("notifications",): 0},
    )
    assert samples["signalcraft_inbox_depth",] == 3
    assert samples["signalcraft_queue_depth", "deliveries"] == 7


def test_a_gauge_with_an_unavailable_source_is_absent_and_the_others_are_present(clean_redis: "redis.Redis") -> None:
    def unavailable() -> float:
        raise DatabaseUnavailable

    samples = _scrape(clean_redis, signalcraft_inbox_depth=unavailable, signalcraft_failed_deliveries=lambda: 1)
    assert ("signalcraft_inbox_depth",) not in samples
    assert samples["signalcraft_failed_deliveries",] == 1


def test_an_undeclared_gauge_is_refused(clean_redis: "redis.Redis") -> None:
    with pytest.raises(LookupError):
        prometheus.as_text(clean_redis, {"signalcraft_alerts_total": lambda: 1})


def test_sums_of_another_release_are_skipped(clean_redis: "redis.Redis") -> None:
    older = Registry(
        [
            Declaration(name="signalcraft_gone_total", kind=Kind.COUNTER, help="Gone."),
            Declaration(name="signalcraft_alerts_total", kind=Kind.COUNTER, help="Had a label.", labels=("old",)),
        ]
    )
    older.count("signalcraft_gone_total")
    older.count("signalcraft_alerts_total", old="x")
    older.flush(clean_redis)
    assert _scrape(clean_redis)["signalcraft_alerts_total",] == 0
    assert "gone" not in prometheus.as_text(clean_redis, {})


@pytest.mark.parametrize(
    ("field", "amount"),
    [
        (b"\xff", b"1"),
        (b"not json", b"1"),
        (b"7", b"1"),
        (b"[]", b"1"),
        (b'{"a": 1}', b"1"),
        (b'[["signalcraft_alerts_total"], ""]', b"1"),
        (b'["signalcraft_alerts_total", 7]', b"1"),
        (b'["signalcraft_rejected_total", "\\ud800", ""]', b"1"),
        (b'["signalcraft_rejected_total", null, ""]', b"1"),
        (b"[" * 100_000, b"1"),
        (b'["signalcraft_alerts_total", "more", ""]', b"x"),
        (b'["signalcraft_groups_created_total", ""]', b"\xff"),
    ],
)
def test_a_field_that_is_none_of_ours_costs_no_scrape_and_no_other_count(
    registry: Registry, clean_redis: "redis.Redis", field: bytes, amount: bytes
) -> None:
    clean_redis.hset(metrics.SUMS, field, amount)
    registry.count("signalcraft_groups_created_total")
    registry.count("signalcraft_alerts_total", 3)
    assert registry.flush(clean_redis)
    assert _scrape(clean_redis)["signalcraft_alerts_total",] == 3


def test_a_heartbeat_that_is_none_costs_its_own_gauge(clean_redis: "redis.Redis") -> None:
    def poisoned() -> float:
        raise ValueError("Invalid isoformat string")

    samples = _scrape(clean_redis, signalcraft_inbox_depth=poisoned, signalcraft_failed_deliveries=lambda: 1)
    assert ("signalcraft_inbox_depth",) not in samples
    assert samples["signalcraft_failed_deliveries",] == 1


def test_counts_wait_in_memory_while_redis_is_unavailable(registry: Registry, clean_redis: "redis.Redis") -> None:
    with redis.Redis.from_url(UNREACHABLE, socket_timeout=0.1) as unavailable:
        for _ in range(5):
            registry.count("signalcraft_alerts_total")
            assert not registry.flush(unavailable)
        assert prometheus.as_text(unavailable, {}) == ""
    while registry._unsent or registry._sums:
        assert registry.flush(clean_redis)
    assert _scrape(clean_redis)["signalcraft_alerts_total",] == 5


def test_a_flush_whose_response_was_lost_is_not_added_twice(
    registry: Registry, servers: embedded_servers.Servers
) -> None:
    """Freeze Redis, flush into it, thaw it: the client saw a failure, the server did the work."""
    registry.count("signalcraft_alerts_total", 3)
    with (
        redis.Redis.from_url(servers.redis_url) as client,
        redis.Redis.from_url(servers.redis_url, socket_timeout=0.3) as impatient,
    ):
        client.flushdb()
        wait_until(lambda: registry.flush(impatient))  # it is connected
        registry.count("signalcraft_alerts_total", 4)
        servers.redis.freeze()
        try:
            assert not registry.flush(impatient)
        finally:
            servers.redis.thaw()
        assert registry.flush(client)
        assert _scrape(client)["signalcraft_alerts_total",] == 7


@pytest.fixture
def flusher(clean_redis: "redis.Redis") -> Iterator[None]:
    metrics._registry.forget()
    stop = metrics.start_flushing(clean_redis, interval=0.02)
    yield
    stop()


@pytest.mark.usefixtures("flusher")
def test_the_flusher_writes_the_counts_of_all_threads(clean_redis: "redis.Redis") -> None:
    def work() -> None:
        for _ in range(5_000):
            metrics.count("signalcraft_alerts_total")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while metrics._registry._sums:
        threading.Event().wait(0.01)
    metrics.flush(clean_redis)
    assert _scrape(clean_redis)["signalcraft_alerts_total",] == 20_000


def test_stopping_the_flusher_writes_the_remaining_counts(clean_redis: "redis.Redis") -> None:
    metrics._registry.forget()
    stop = metrics.start_flushing(clean_redis, interval=60)
    metrics.count("signalcraft_alerts_total", 2)
    stop()
    assert _scrape(clean_redis)["signalcraft_alerts_total",] == 2


def test_a_forked_process_does_not_write_the_counts_of_its_parent() -> None:
    metrics._registry.forget()
    metrics.count("signalcraft_alerts_total")
    before = metrics._registry._process
    child = os.fork()
    if not child:
        os._exit(0 if not metrics._registry._sums and metrics._registry._process != before else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert metrics._registry._sums
