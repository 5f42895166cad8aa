"""Slow queries are logged with the calling function, never with their parameters."""

import io
import json
import sys
from collections.abc import Iterator

import pytest
import structlog
from peewee import PeeweeException

from signalcraft import logs
from signalcraft.storage import slow_queries
from signalcraft.storage.database import database, session
from tests.support.builders import pending_event, record
from tests.support.web_client import add_workspace


@pytest.fixture
def lines(clean_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:  # noqa: ARG001 - for that it is clean
    add_workspace()
    stream = io.StringIO()
    logs.configure("INFO", "json", stream=stream)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # configure() sets it
    monkeypatch.setattr(slow_queries, "log", structlog.get_logger("slow_queries"))  # a logger keeps its first stream
    yield stream
    database.query_hooks.clear()


def logged(stream: io.StringIO) -> list[dict[str, object]]:
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in found if line["event"] == "slow query"]


def test_a_slow_query_is_logged_with_its_calling_function_and_its_duration(lines: io.StringIO) -> None:
    slow_queries.watch(0)
    record(pending_event("secret event"))
    names = [line["query"] for line in logged(lines)]
    assert {
        "groups.environments._lock_workspaces",
        "groups.record._split_by_novelty",
        "groups.record._record",
    } <= set(names)
    assert all(float(str(line["duration_ms"])) >= 0 for line in logged(lines))
    assert "secret event" not in lines.getvalue()


def test_a_fast_query_is_not_logged(lines: io.StringIO) -> None:
    slow_queries.watch(60_000)
    record(pending_event())
    assert logged(lines) == []


def test_the_threshold_is_in_milliseconds(lines: io.StringIO) -> None:
    slow_queries.watch(100)
    with session():
        for _ in range(5):
            database.execute_sql("SELECT pg_sleep(0.02)")
        faster = len(logged(lines))
        database.execute_sql("SELECT pg_sleep(0.12)")
    assert faster < 5, "a busy machine may make some of them slow"
    assert [100 < float(str(line["duration_ms"])) < 60_000 for line in logged(lines)[faster:]] == [True]


def test_a_failing_query_is_logged_as_failed_and_still_raises(lines: io.StringIO) -> None:
    slow_queries.watch(0)
    with pytest.raises(PeeweeException), session():
        database.execute_sql("SELECT 1 / 0")
    assert [line["failed"] for line in logged(lines)] == [True]
