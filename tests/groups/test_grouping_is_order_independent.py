"""Grouping is independent of order: the same alerts within one window make the same groups, in any order."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signalcraft.domain import grouping
from signalcraft.domain.alerts import Severity
from signalcraft.groups import record
from signalcraft.groups.bursts import PendingEvent
from signalcraft.storage.database import database, session
from signalcraft.storage.models import AlertEvent, AlertGroup, Workspace
from tests.support.builders import pending_event
from tests.support.tables import miscounted_hours

POLICY = grouping.GroupingPolicy(spike_count=4, spike_minutes=5)
#: Only row ids may differ.
COLUMNS = [column for column in AlertGroup._meta.sorted_fields if column.name not in {"id", "previous_group"}]

alerts = st.builds(
    pending_event,
    event_id=st.integers(0, 30).map("event-{:02}".format),
    minute=st.integers(0, 600).map(lambda tenths: tenths / 10),
    issue=st.sampled_from("12"),
    workspace_id=st.sampled_from((1, 2)),
    severity=st.sampled_from(Severity),
    environment=st.sampled_from(("prod", "staging")),
    project=st.sampled_from(("api", "renamed")),
    has_title=st.booleans(),
    link=st.sampled_from((None, "https://sentry.io/1", "https://sentry.io/2")),
    rule=st.sampled_from(("", "a", "b")),
)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[PendingEvent], list[list[PendingEvent]]]:
    """Draw distinct alerts, and the same alerts with duplicates, shuffled and cut into batches."""
    distinct = draw(st.lists(alerts, min_size=1, max_size=25, unique_by=lambda event: event.identity))
    duplicates = draw(st.lists(st.sampled_from(distinct), max_size=15))
    rules = st.sampled_from((("a",), ("b",), ()))
    mixed = draw(st.permutations(distinct + [replace(alert, rules=draw(rules)) for alert in duplicates]))
    cuts = sorted(draw(st.lists(st.integers(0, len(mixed)), max_size=5)))
    return distinct, [mixed[i:j] for i, j in zip([0, *cuts], [*cuts, len(mixed)], strict=True)]


def clear_tables() -> None:
    with session():
        database.execute_sql("TRUNCATE alert_event, alert_group RESTART IDENTITY CASCADE")


def store_batch(batch: Sequence[PendingEvent]) -> None:
    with session():
        record.record(batch, POLICY)


def rows() -> list[tuple[object, ...]]:
    """Return the groups without their ids, each with its event ids."""
    with session():
        found = AlertGroup.select(*COLUMNS, AlertGroup.id).order_by(AlertGroup.workspace_id, AlertGroup.group_key)
        return [(*row[:-1], *sorted(_event_ids(row[-1]))) for row in found.tuples()]


def _event_ids(group_id: int) -> list[str]:
    events = AlertEvent.select(AlertEvent.source_event_id).where(AlertEvent.alert_group_id == group_id)
    return [event_id for (event_id,) in events.tuples()]


@pytest.fixture
def workspaces(clean_database: str) -> None:  # noqa: ARG001 - for that it is clean
    with session():
        for slug in ("one", "two"):
            Workspace.create(slug=slug)


relaxed = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@relaxed
@given(deliveries())
def test_any_order_any_duplication_and_any_batches_make_the_same_groups(
    workspaces: None,  # noqa: ARG001 - for the rows
    pending: tuple[list[PendingEvent], list[list[PendingEvent]]],
) -> None:
    distinct, batches = pending
    clear_tables()
    for event in sorted(distinct, key=lambda event: event.alert.received_at):
        store_batch([event])
    expected = rows()
    assert len(distinct) == sum(count_of(row) for row in expected)
    clear_tables()
    for batch in batches:
        store_batch(batch)
    assert rows() == expected
    assert miscounted_hours() == []


@settings(relaxed, max_examples=40)
@given(deliveries())
def test_concurrent_workers_make_the_same_groups(
    workspaces: None,  # noqa: ARG001 - for the rows
    pending: tuple[list[PendingEvent], list[list[PendingEvent]]],
) -> None:
    distinct, batches = pending
    clear_tables()
    store_batch(distinct)
    expected = rows()
    clear_tables()
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(store_batch, batches))
    assert rows() == expected
    assert miscounted_hours() == []


def count_of(row: tuple[object, ...]) -> int:
    count = row[[column.name for column in COLUMNS].index("count")]
    assert isinstance(count, int)
    return count
