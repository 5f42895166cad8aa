"""What is counted: declared here by name, buffered in the process, summed in Redis.

There are many processes and the router picks one, so no process knows the sums; Redis does. ``count`` and
``observe`` cost about a microsecond and touch no network: a thread hands their sums to Redis once a second and at
exit. While Redis is away they wait in the process; what a killed process had not handed over is lost. No caller
ever notices either.
"""

import atexit
import json
import os
import secrets
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import structlog
from redis import Redis, RedisError

from signalcraft.resilience import every
from signalcraft.sources import SOURCES

log = structlog.get_logger(__name__)

#: The hash in Redis with the sums of all processes: a JSON array of metric, label values and part -> sum.
SUMS = "signalcraft:metrics"
_FLUSHED = "signalcraft:metrics:flushed:"
_FLUSHED_SECONDS = 3600
#: Past this many, new series are dropped: a label that is not from a closed set must not eat the memory.
_MAX_SERIES = 5_000
_MAX_LOGGED_BYTES = 100
_reported: set[str] = set()


class Kind(StrEnum):
    """How a metric behaves."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A metric that may be used.

    ``closed`` has, for labels whose values come from outside, the values that are kept; all others are ``other``.
    ``buckets`` are upper bounds, ascending, without infinity.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    closed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()


#: ``canary``: our own, separate so that silence of a source stays visible. ``unknown``: nothing of it was verified.
_RESOURCES = frozenset({"canary", "unknown"}).union(*(source.RESOURCES for source in SOURCES.values()))
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: Some senders give up after one second, so that is where it matters.
_ACK_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.5, 2.5)
#: A message is told in seconds, or after the pauses between attempts, or when a route says so.
_TOLD_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0)
_BYTES = (1_000.0, 4_000.0, 16_000.0, 64_000.0, 256_000.0, 1_000_000.0, 4_000_000.0)
_SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0)


def _counter(name: str, help_text: str, *labels: str, **closed: frozenset[str]) -> Declaration:
    return Declaration(name=name, kind=Kind.COUNTER, help=help_text, labels=labels, closed=closed)


def _histogram(name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Declaration:
    return Declaration(name=name, kind=Kind.HISTOGRAM, help=help_text, labels=labels, buckets=buckets)


def _gauge(name: str, help_text: str, *labels: str) -> Declaration:
    return Declaration(name=name, kind=Kind.GAUGE, help=help_text, labels=labels)


DECLARED = (
    # Taking in
    _counter(
        "signalcraft_webhooks_total",
        "Deliveries, refused ones too.",
        *("source", "resource", "answer"),
        source=frozenset(SOURCES),
        resource=_RESOURCES,
    ),
    _histogram("signalcraft_webhook_bytes", "Size of a delivery's body.", _BYTES),
    _histogram(
        "signalcraft_ack_seconds", "From a delivery's arrival to its answer; some senders wait 1 s.", _ACK_SECONDS
    ),
    _counter("signalcraft_rejected_total", "Requests that were refused.", "code"),
    _counter("signalcraft_rate_limited_total", "Requests over a rate limit.", "limit"),
    _counter("signalcraft_secret_matches_total", "Deliveries that a secret verified.", "workspace", "secret", "kind"),
    _gauge("signalcraft_undecryptable_secrets", "Live secrets that the web process that answers cannot decrypt."),
    _counter("signalcraft_shelved_total", "Deliveries put into the inbox because Redis was unavailable."),
    # Processing
    _histogram("signalcraft_stage_seconds", "Time in a stage; in the worker, of a whole batch.", _SECONDS, "stage"),
    _histogram("signalcraft_batch_size", "Jobs in a batch.", _SIZES),
    _counter("signalcraft_alerts_total", "Alerts stored."),
    _counter("signalcraft_duplicates_total", "Alerts that were stored already: same source event id."),
    _counter("signalcraft_decisions_total", "What grouping did with an alert.", "decision"),
    _counter("signalcraft_groups_created_total", "Groups opened."),
    _counter("signalcraft_groups_updated_total", "Groups that took further alerts."),
    _counter("signalcraft_status_changes_total", "Groups whose status a source changed."),
    _counter("signalcraft_errors_total", "Failures of work; kind is recoverable or permanent.", "stage", "kind"),
    _counter("signalcraft_log_lines_dropped_total", "Log lines that nobody read, or that could not be written."),
    # Notifications
    _counter("signalcraft_notifications_total", "Attempts to send a notification.", "receiver", "outcome"),
    _histogram(
        "signalcraft_notification_seconds", "From what happened to a group to a message about it.", _TOLD_SECONDS
    ),
    _gauge("signalcraft_notifications_waiting", "Notifications that are due, or whose last attempt failed."),
    _gauge("signalcraft_notifications_given_up", "Notifications that were given up, and not retried."),
    _gauge(
        "signalcraft_receiver_broken",
        "1 for a receiver that is broken: its messages wait.",
        "receiver",
    ),
    _counter("signalcraft_slack_actions_total", "Buttons pressed in Slack, and what came of it.", "action", "outcome"),
    # Canaries
    _counter("signalcraft_canaries_total", "Canary deliveries; outcome is came_through or lost.", "outcome"),
    _histogram("signalcraft_canary_seconds", "From a canary's sending to its being stored.", _SECONDS),
    # What waits
    _gauge("signalcraft_queue_depth", "Jobs that wait.", "queue"),
    _gauge("signalcraft_queue_oldest_seconds", "Age of the oldest job that waits; 0 for none.", "queue"),
    _gauge("signalcraft_worker_heartbeat_seconds", "Since a worker last went to the queue for work.", "queue"),
    _gauge("signalcraft_unreadable_entries", "Entries of Redis that are no job ids, and are skipped.", "queue"),
    _counter("signalcraft_quarantined_total", "Keys of another type that a worker moved to quarantine."),
    _gauge("signalcraft_inbox_depth", "Deliveries that wait in the inbox."),
    _gauge("signalcraft_inbox_oldest_seconds", "Age of the oldest of those; 0 for none."),
    _gauge("signalcraft_failed_deliveries", "Dead letters that were not replayed."),
    # PostgreSQL
    _gauge("signalcraft_database_connections", "Of the web process that answers; state: in_use, idle, most.", "state"),
    _gauge("signalcraft_table_rows", "Rows, as PostgreSQL's planner thinks; 0 before its first look.", "table"),
    _gauge("signalcraft_table_bytes", "Size on disk with indexes and large values.", "table"),
)


@dataclass(frozen=True, slots=True)
class _Series:
    """One metric under one set of label values; ``parts`` are its field names in Redis."""

    buckets: tuple[float, ...]
    parts: tuple[str, ...]


class Registry:
    """Declared metrics and what this process has counted of them since the last flush."""

    def __init__(self, declared: Iterable[Declaration]) -> None:
        """Know ``declared`` and refuse everything else."""
        self.declared: Mapping[str, Declaration] = {declaration.name: declaration for declaration in declared}
        self._series: dict[tuple[object, ...], _Series] = {}
        self.forget()

    def forget(self) -> None:
        """Reset, as a forked process must.

        What was buffered is for its parent to flush.
        """
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._unsent: dict[str, float] = {}
        self._process = secrets.token_hex(8)
        self._flushes = 0

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter.

        Raises:
            LookupError: no counter of that name and those labels is declared.
        """
        series = self._series.get((name, *labels.items())) or self._introduce(name, labels, Kind.COUNTER)
        if series and amount:
            with self._lock:
                self._sums[series.parts[0]] += amount

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Put a value into a histogram; times are in seconds.

        Raises:
            LookupError: no histogram of that name and those labels is declared.
        """
        series = self._series.get((name, *labels.items())) or self._introduce(name, labels, Kind.HISTOGRAM)
        if series:
            part = series.parts[bisect_left(series.buckets, value)]
            with self._lock:
                self._sums[part] += 1
                self._sums[series.parts[-1]] += value

    def timed(self, name: str, **labels: str) -> "_Timer":
        """Observe how long the block takes, also one that raises."""
        return _Timer(self, name, labels)

    def flush(self, redis: Redis) -> bool:
        """Hand what is buffered to Redis; return whether that worked.

        What did not go waits for the next time. A script takes a batch only once, whatever became of the answer: sums
        stay true through lost connections.
        """
        with self._flushing:
            if not self._unsent:
                with self._lock:
                    self._unsent, self._sums = self._sums, defaultdict(float)
                self._flushes += 1
            if self._unsent:
                fields = [part for item in self._unsent.items() for part in item]
                try:
                    replaced: Any = redis.register_script(_ADD_ONCE)(
                        keys=[SUMS, _FLUSHED + self._process],
                        args=[self._flushes, _FLUSHED_SECONDS, *fields],
                    )
                except RedisError:
                    return False
                for field_name, amount in zip(replaced[::2], replaced[1::2], strict=True):
                    _report_unreadable("unreadable sum replaced", field_name, amount)
            self._unsent = {}
            return True

    def _introduce(self, name: str, labels: Mapping[str, str], kind: Kind) -> _Series | None:
        """Return a new series.

        None if there are too many already.
        """
        declaration = self.declared.get(name)
        if declaration is None or declaration.kind is not kind or set(labels) != set(declaration.labels):
            raise LookupError(f"{name} with labels {sorted(labels)} is not a declared {kind}")
        values = [_bounded_label_value(labels[label], declaration.closed.get(label)) for label in declaration.labels]
        bounds = ("",) if kind is Kind.COUNTER else (*map(str, declaration.buckets), "+Inf", "sum")
        series = _Series(declaration.buckets, tuple(json.dumps([name, *values, bound]) for bound in bounds))
        # Only what is spelled out is remembered: values from outside must not fill the memory.
        if values == [labels[label] for label in declaration.labels]:
            if len(self._series) >= _MAX_SERIES:
                return None
            self._series[name, *labels.items()] = series
        return series


class _Timer:
    """Observes how long a block takes; a generator would take three times as long itself."""

    __slots__ = ("_began", "_labels", "_name", "_registry")

    def __init__(self, registry: Registry, name: str, labels: Mapping[str, str]) -> None:
        self._registry, self._name, self._labels = registry, name, labels

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._registry.observe(self._name, time.perf_counter() - self._began, **self._labels)


#: KEYS: sums, the last flush of this process. ARGV: number of this flush, seconds to remember it, field, amount, …
#: A field that is no number is not ours: its error would lose all that come behind it. Returns such fields and values.
_ADD_ONCE = """
if tonumber(redis.call('GET', KEYS[2]) or '0') >= tonumber(ARGV[1]) then return {} end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
local replaced = {}
for i = 3, #ARGV, 2 do
    local reply = redis.pcall('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1])
    if type(reply) == 'table' then
        replaced[#replaced + 1] = ARGV[i]
        replaced[#replaced + 1] = redis.call('HGET', KEYS[1], ARGV[i])
        redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    end
end
return replaced
"""


def _bounded_label_value(value: str, closed: frozenset[str] | None) -> str:
    return value if closed is None or value in closed else "other"


_registry = Registry(DECLARED)
os.register_at_fork(after_in_child=_registry.forget)

count = _registry.count
observe = _registry.observe
timed = _registry.timed
flush = _registry.flush


Sums = Mapping[str, Mapping[tuple[str, ...], Mapping[str, float]]]


def read_sums(redis: Redis) -> Sums:
    """Return the sums of all processes: metric, label values, part.

    What we did not write is left out and logged, once: one such field must not hide all others.

    Raises:
        RedisError: Redis is unavailable.
    """
    read: defaultdict[str, dict[tuple[str, ...], dict[str, float]]] = defaultdict(dict)
    fields: Any = redis.hgetall(SUMS)
    for field_name, amount in fields.items():
        try:
            name, *values, part = _parsed(field_name)
            value = float(amount)
        except (ValueError, RecursionError):
            _report_unreadable("unreadable field skipped", field_name)
        else:
            read[name].setdefault(tuple(values), {})[part] = value
    return read


def _parsed(field_name: bytes) -> list[str]:
    """Return the texts in the name of a field.

    Raises:
        ValueError: it is not one of ours.
    """
    texts = json.loads(field_name)
    if not isinstance(texts, list) or len(texts) < len(("name", "part")):
        raise ValueError("no list of texts")
    for text in texts:
        if not isinstance(text, str):
            raise ValueError("no text")  # noqa: TRY004 - one type for all that is not ours
        text.encode()  # half of a surrogate pair could not be sent
    return texts


def _report_unreadable(event: str, field_name: bytes, amount: bytes = b"") -> None:
    shown = repr(field_name[:_MAX_LOGGED_BYTES])[2:-1]
    if shown not in _reported and len(_reported) < _MAX_SERIES:
        _reported.add(shown)
        log.error(event, stage="metrics", key=SUMS, entry=shown, value=repr(amount[:_MAX_LOGGED_BYTES])[2:-1])


def start_flushing(
    redis: Redis, interval: float = 1.0, *, dropped_log_lines: Callable[[], int] = int
) -> Callable[[], None]:
    """Flush every ``interval`` seconds and at exit.

    What is returned stops it, with a last flush. Call it after a fork. ``dropped_log_lines`` returns their number since
    its last call: logging itself touches no metric.
    """

    def flush_all() -> bool:
        count("signalcraft_log_lines_dropped_total", dropped_log_lines())
        return flush(redis)

    stop_loop = every(interval, flush_all, name="metrics")

    def stop() -> None:
        atexit.unregister(stop)
        stop_loop()  # it may give up on a flush in progress; the next one waits for that
        if flush_all():  # perhaps only what an earlier flush could not write
            flush(redis)

    atexit.register(stop)
    return stop
