from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from signalcraft.domain.alerts import GroupStatus
from signalcraft.domain.errors import IllegalTransition
from signalcraft.domain.lifecycle import TRANSITIONS, Trigger, snooze_holds, status_at, transition

OPEN, ACK, RESOLVED, SNOOZED = GroupStatus.OPEN, GroupStatus.ACK, GroupStatus.RESOLVED, GroupStatus.SNOOZED
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
REFUSED = None

#: The whole table again, written by hand: trigger, then the status after open, ack, snoozed, resolved.
EXPECTED = {
    Trigger.ALERT: (OPEN, ACK, SNOOZED, RESOLVED),
    Trigger.WORSE_ALERT: (OPEN, OPEN, OPEN, RESOLVED),
    Trigger.SOURCE_RESOLVED: (RESOLVED, RESOLVED, RESOLVED, RESOLVED),
    Trigger.SOURCE_ARCHIVED: (SNOOZED, SNOOZED, SNOOZED, RESOLVED),
    Trigger.SOURCE_UNRESOLVED: (OPEN, ACK, OPEN, OPEN),
    Trigger.USER_ACK: (ACK, ACK, ACK, REFUSED),
    Trigger.USER_SNOOZE: (SNOOZED, SNOOZED, SNOOZED, REFUSED),
    Trigger.USER_RESOLVE: (RESOLVED, RESOLVED, RESOLVED, RESOLVED),
    Trigger.USER_REOPEN: (OPEN, OPEN, OPEN, OPEN),
    Trigger.SNOOZE_END: (REFUSED, REFUSED, OPEN, REFUSED),
    Trigger.INACTIVITY: (RESOLVED, RESOLVED, REFUSED, REFUSED),
}
CELLS = [
    (trigger, before, after)
    for trigger, row in EXPECTED.items()
    for before, after in zip((OPEN, ACK, SNOOZED, RESOLVED), row, strict=True)
]


@pytest.mark.parametrize(("trigger", "before", "after"), CELLS)
def test_every_cell_of_the_table_is_as_expected(
    trigger: Trigger,
    before: GroupStatus,
    after: GroupStatus | None,
) -> None:
    if after is REFUSED:
        with pytest.raises(IllegalTransition, match=before.value):
            transition(before, trigger)
    else:
        assert transition(before, trigger) is after


def test_every_trigger_and_every_status_is_covered() -> None:
    assert {(trigger, before) for trigger, before, _ in CELLS} == set(product(Trigger, GroupStatus))
    assert set(TRANSITIONS) == set(Trigger)


def test_an_alert_never_reopens_a_resolved_group() -> None:
    assert transition(RESOLVED, Trigger.ALERT) is RESOLVED
    assert transition(RESOLVED, Trigger.WORSE_ALERT) is RESOLVED


@pytest.mark.parametrize(
    ("until", "reads_as"),
    [
        (None, SNOOZED),
        (NOON + timedelta(microseconds=1), SNOOZED),
        (NOON, OPEN),
        (NOON - timedelta(days=1), OPEN),
    ],
)
def test_a_snooze_reads_as_open_from_its_end_on(until: datetime | None, reads_as: GroupStatus) -> None:
    assert status_at(SNOOZED, until, NOON) is reads_as
    assert snooze_holds(SNOOZED, until, NOON) is (reads_as is SNOOZED)


@pytest.mark.parametrize("status", [OPEN, ACK, RESOLVED])
def test_other_statuses_read_as_they_are(status: GroupStatus) -> None:
    assert status_at(status, None, NOON) is status
    assert not snooze_holds(status, None, NOON)
