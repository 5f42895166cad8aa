import random
from dataclasses import replace
from datetime import datetime

import pytest
from peewee import SQL

from signalcraft.domain.errors import DatabaseUnavailable, NotStorable
from signalcraft.groups import validation
from signalcraft.groups.bursts import PendingEvent
from signalcraft.storage.database import database, session, translate_constraint_errors
from signalcraft.storage.models import AlertGroup, Workspace
from tests.support.builders import pending_event, record


def with_field(**fields: object) -> PendingEvent:
    event = pending_event()
    return replace(event, alert=replace(event.alert, **fields))  # type: ignore[arg-type]


def test_a_valid_alert_passes() -> None:
    validation.validate(pending_event())
    validation.validate(with_field(title="Größe 🐘", tags=[("ключ", "значение")]))


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("source_event_id", "", "is empty"),
        ("title", "", "is empty"),
        ("environment", "", "is empty"),
        ("title", "x" * 501, "is longer than 500 characters"),
        ("source_event_id", "x" * 501, "is longer than 500 characters"),
        ("fingerprint", "x" * 601, "is longer than 600 characters"),
        ("title", "a\0b", "holds U+0000"),
        ("description", "a\0b", "holds U+0000"),
        ("tags", [("a", "b\0")], "holds U+0000"),
        ("title", "\ud800", "holds half of a surrogate pair"),
        ("link", "https://example.com/\udfff", "holds half of a surrogate pair"),
        ("received_at", datetime(2026, 1, 1), "has no time zone"),  # noqa: DTZ001 - that it is naive is the point
        ("occurred_at", datetime(2026, 1, 1), "has no time zone"),  # noqa: DTZ001 - likewise
    ],
)
def test_a_field_that_cannot_be_stored_is_refused_by_name(field: str, value: object, problem: str) -> None:
    with pytest.raises(NotStorable) as refused:
        validation.validate(with_field(**{field: value}))
    assert refused.value.field == field
    assert str(refused.value) == f"{field}: {problem}"


def test_a_constraint_violation_has_a_readable_message(clean_database: str) -> None:  # noqa: ARG001 - for that it is clean
    with pytest.raises(NotStorable, match="the workspace does not exist"):
        record(pending_event(workspace_id=7))


def test_a_constraint_without_a_message_is_named(clean_database: str) -> None:  # noqa: ARG001 - likewise
    with session():
        Workspace.create(slug="one")
    record(pending_event())
    with (
        session(),
        pytest.raises(NotStorable, match="refused by alert_group_count_check"),
        translate_constraint_errors(),
    ):
        AlertGroup.update(count=0).execute()


def test_a_value_out_of_range_is_not_storable(database_url: str) -> None:  # noqa: ARG001 - for that it is open
    with session(), pytest.raises(NotStorable), translate_constraint_errors():
        database.execute_sql("SELECT 10::bigint ^ 400::numeric::bigint * 1e400::float8")


def wide(length: int) -> str:
    """Return incompressible text of four-byte characters."""
    chance = random.Random(length)
    return "".join(chr(chance.randrange(0x10000, 0x30000)) for _ in range(length))


def test_the_longest_valid_values_fit_into_every_index(clean_database: str) -> None:  # noqa: ARG001 - for that it is clean
    with session():
        Workspace.create(slug="one")
    longest = with_field(**{field: wide(length) for field, length in validation.MAX_LENGTHS.items()})
    validation.validate(longest)
    record(longest)


def test_a_value_too_large_for_an_index_is_not_storable(clean_database: str) -> None:  # noqa: ARG001 - likewise
    """The driver raises the same error as for a lost connection, so a worker would retry for ever."""
    with session():
        Workspace.create(slug="one")
    with pytest.raises(NotStorable, match="too large"):
        record(with_field(fingerprint=wide(1_000)))


def test_the_second_of_two_conflicting_transactions_must_retry(clean_database: str) -> None:  # noqa: ARG001 - for that it is clean
    with session():
        Workspace.create(slug="one")
    record(pending_event(minute=0), pending_event(minute=500))
    with session(), pytest.raises(DatabaseUnavailable, match="alert_group_current_key"), translate_constraint_errors():
        AlertGroup.update(is_current=SQL("true")).execute()
