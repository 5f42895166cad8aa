from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import permutations

import pytest

from signalcraft.domain import grouping
from signalcraft.domain.alerts import MAX_EVENT_RULES, Decision, GroupStatus, Severity
from signalcraft.domain.errors import NotStorable
from signalcraft.groups import record as groups_record
from signalcraft.groups.assignment import Assignments
from signalcraft.groups.bursts import PendingEvent
from signalcraft.storage.database import database, session
from signalcraft.storage.models import AlertEvent, AlertGroup, Workspace
from tests.support.builders import at, change_group, groups, pending_event, record
from tests.support.tables import miscounted_hours

pytestmark = pytest.mark.usefixtures("workspaces")


@pytest.fixture
def workspaces(clean_database: str) -> None:  # noqa: ARG001 - for that it is clean
    with session():
        for slug in ("one", "two"):
            Workspace.create(slug=slug)


def decisions(recorded: groups_record.RecordResult) -> dict[str, Decision]:
    return {stored.pending.alert.source_event_id: stored.decision for stored in recorded.events}


def events() -> list[AlertEvent]:
    with session():
        return list(AlertEvent.select().order_by(AlertEvent.source_event_id))


def written(table: str) -> list[tuple[str]]:
    """Return which transactions wrote the rows."""
    with session():
        rows: list[tuple[str]] = database.execute_sql(f"SELECT xmin::text FROM {table}").fetchall()  # noqa: S608 - our own
    return rows


class TestCounting:
    def test_a_new_alert_opens_a_group(self) -> None:
        recorded = record(pending_event("a", 0))
        (group,) = groups()
        assert decisions(recorded) == {"a": Decision.NEW}
        assert (group.count, group.status, group.severity, group.title) == (1, "open", "high", "title of a")
        assert (group.first_seen_at, group.last_seen_at, group.is_current) == (at(0), at(0), True)
        assert (recorded.created, recorded.updated, recorded.duplicates) == (1, 0, 0)

    def test_a_second_alert_of_the_same_key_joins_it(self) -> None:
        record(pending_event("a", 0))
        recorded = record(pending_event("b", 10))
        (group,) = groups()
        assert decisions(recorded) == {"b": Decision.JOINED}
        assert (group.count, group.first_seen_at, group.last_seen_at) == (2, at(0), at(10))
        assert (recorded.created, recorded.updated) == (0, 1)

    def test_a_duplicate_is_never_counted_however_late(self) -> None:
        record(pending_event("a", 0))
        for minute in (0, 1, 10_000):
            recorded = record(pending_event("a", minute))
            assert (len(recorded.events), recorded.duplicates, recorded.group_ids) == (0, 1, frozenset())
        assert [group.count for group in groups()] == [1]

    def test_duplicates_within_one_batch_count_once(self) -> None:
        recorded = record(pending_event("a", 1), pending_event("a", 0), pending_event("b", 2), pending_event("a", 2))
        assert [group.count for group in groups()] == [2]
        assert recorded.duplicates == 2

    def test_an_alert_that_another_transaction_stores_meanwhile_counts_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = groups_record.assign_events

        def overtaken(events: Iterable[PendingEvent], window: timedelta) -> Assignments:
            monkeypatch.undo()
            with ThreadPoolExecutor(1) as other:
                other.submit(record, pending_event("a", 0, rule="other")).result()
            return original(events, window)

        monkeypatch.setattr(groups_record, "assign_events", overtaken)
        recorded = record(pending_event("a", 0, rule="ours"), pending_event("b", 0))
        (group,) = groups()
        assert (group.count, recorded.duplicates) == (2, 1)
        assert [event.triggered_rules for event in events()] == [["other", "ours"], []]
        assert miscounted_hours() == []

    def test_workspaces_are_separate(self) -> None:
        recorded = record(pending_event("a", 0), pending_event("a", 0, workspace_id=2))
        assert [(group.workspace_id, group.count) for group in groups()] == [(1, 1), (2, 1)]
        assert recorded.created == 2

    def test_another_environment_or_fingerprint_is_another_group(self) -> None:
        record(pending_event("a"), pending_event("b", environment="staging"), pending_event("c", issue="2"))
        assert [group.count for group in groups()] == [1, 1, 1]

    def test_an_event_collects_the_rules_that_fired(self) -> None:
        record(pending_event("a", rule="b rule"))
        record(pending_event("a", rule="a rule"))
        record(pending_event("a", rule="a rule"), pending_event("a"))
        (event,) = events()
        assert event.triggered_rules == ["a rule", "b rule"]
        assert event.delivery_id == "delivery-of-a"

    @pytest.mark.parametrize("batched", [False, True])
    def test_an_event_names_a_bounded_number_of_rules_and_keeps_those_that_it_has(self, *, batched: bool) -> None:
        copies = [pending_event("a", rule=f"rule {number:04}") for number in range(2 * MAX_EVENT_RULES)]
        record(copies[-1])
        for batch in [copies] if batched else [[copy] for copy in copies]:
            record(*batch)
        (event,) = events()
        assert event.triggered_rules == [f"rule {number:04}" for number in (*range(MAX_EVENT_RULES - 1), 199)]

    def test_a_copy_does_not_write_an_event_that_has_all_its_rules(self) -> None:
        for number in range(MAX_EVENT_RULES):
            record(pending_event("a", rule=f"rule {number}"))
        before = written("alert_event")
        record(pending_event("a", rule="one more"))
        assert written("alert_event") == before

    def test_every_event_references_its_group(self) -> None:
        record(*(pending_event(f"{number}", number, issue=str(number % 3)) for number in range(30)))
        with session():
            for group in AlertGroup.select():
                assert AlertEvent.select().where(AlertEvent.alert_group == group).count() == group.count == 10

    def test_nothing_is_stored_if_one_alert_of_a_batch_is_refused(self) -> None:
        with pytest.raises(NotStorable, match="workspace does not exist"):
            record(pending_event("a"), pending_event("b", workspace_id=99))
        assert groups() == events() == []

    def test_title_and_link_come_from_the_latest_alert_in_any_order(self) -> None:
        record(pending_event("b", 5))
        record(pending_event("a", 9))
        record(pending_event("c", 2))
        (group,) = groups()
        assert group.title == "title of a"
        assert group.link.endswith("=a")

    @pytest.mark.parametrize("batched", [False, True])
    @pytest.mark.parametrize("order", list(permutations(range(3))))
    def test_a_later_alert_without_a_title_or_link_does_not_erase_the_groups(
        self, order: tuple[int, ...], *, batched: bool
    ) -> None:
        alerts = [
            pending_event("full", 1, title="the title", link="https://sentry.io/1"),
            pending_event("linked", 2, title="culprit", has_title=False, link="https://sentry.io/2"),
            pending_event("poor", 3, title="untitled", has_title=False, link=None),
        ]
        ordered = [alerts[position] for position in order]
        for batch in [ordered] if batched else [[alert] for alert in ordered]:
            record(*batch)
        (group,) = groups()
        assert (group.title, group.link, group.count) == ("the title", "https://sentry.io/2", 3)

    def test_of_made_titles_the_latest_is_shown_until_an_own_one_comes(self) -> None:
        for event_id, minute, has_title in (("b", 5, False), ("a", 1, False), ("d", 0, True), ("c", 9, False)):
            record(pending_event(event_id, minute, title=event_id, has_title=has_title, link=None))
        (group,) = groups()
        assert (group.title, group.link) == ("d", None)

    def test_a_later_alert_without_a_count_does_not_erase_the_groups(self) -> None:
        for event_id, count in (("a", 5), ("b", None), ("c", 3)):
            record(pending_event(event_id, source_count=count))
        assert groups()[0].source_count == 5


class TestWindow:
    @pytest.mark.parametrize(("minute", "decision"), [(60, Decision.JOINED), (60.01, Decision.WINDOW_EXPIRED)])
    def test_the_window_slides_with_the_last_alert(self, minute: float, decision: Decision) -> None:
        record(pending_event("a", -50), pending_event("b", 0))
        assert decisions(record(pending_event("c", minute))) == {"c": decision}

    def test_a_group_with_an_expired_window_is_unchanged_and_linked_from_the_next(self) -> None:
        record(pending_event("a", 0))
        record(pending_event("b", 100))
        old, new = groups()
        assert (old.count, old.status, old.is_current) == (1, "open", False)
        assert (new.count, new.is_current, new.previous_group_id) == (1, True, old.id)

    def test_a_batch_with_gaps_makes_the_same_groups_as_single_alerts(self) -> None:
        recorded = record(
            pending_event("c", 130), pending_event("a", 0), pending_event("d", 500), pending_event("b", 60)
        )
        assert [(group.count, group.is_current) for group in groups()] == [(2, False), (1, False), (1, True)]
        assert decisions(recorded)["d"] is Decision.WINDOW_EXPIRED

    def test_a_replay_joins_the_group_whose_span_covers_it(self) -> None:
        record(pending_event("a", 0), pending_event("b", 500))
        record(pending_event("c", 30))
        assert [group.count for group in groups()] == [2, 1]

    def test_a_replay_that_no_group_covers_opens_one_that_is_not_current(self) -> None:
        record(pending_event("a", 500))
        record(pending_event("b", 0), pending_event("c", 10))
        present, past = groups()
        assert (present.count, present.is_current) == (1, True)
        assert (past.count, past.is_current, past.last_seen_at) == (2, False, at(10))

    def test_the_window_is_configurable(self) -> None:
        policy = grouping.GroupingPolicy(window=timedelta(minutes=5))
        record(pending_event("a", 0), pending_event("b", 5), pending_event("c", 11), policy=policy)
        assert [group.count for group in groups()] == [2, 1]


class TestStatuses:
    def test_an_alert_after_a_resolution_opens_a_new_group(self) -> None:
        record(pending_event("a", 0))
        change_group(1, status="resolved", resolved_at=at(5), is_current=False)
        assert decisions(record(pending_event("b", 6))) == {"b": Decision.AFTER_RESOLVED}
        old, new = groups()
        assert (old.status, old.count) == ("resolved", 1)
        assert (new.status, new.count, new.previous_group_id, new.began_after) == ("open", 1, old.id, at(5))

    def test_an_alert_received_before_the_resolution_joins_the_resolved_group(self) -> None:
        record(pending_event("a", 0))
        change_group(1, status="resolved", resolved_at=at(5), is_current=False)
        record(pending_event("b", 4))
        record(pending_event("c", 6))
        record(pending_event("d", 4.5), pending_event("e", 7))
        assert [(group.status, group.count) for group in groups()] == [("resolved", 3), ("open", 2)]

    def test_an_ack_holds_for_the_same_severity_and_breaks_on_a_higher_one(self) -> None:
        record(pending_event("a", 0, severity=Severity.MED))
        change_group(1, status="ack")
        record(pending_event("b", 1, severity=Severity.MED), pending_event("c", 2, severity=Severity.LOW))
        assert groups()[0].status == "ack"
        recorded = record(pending_event("d", 3, severity=Severity.HIGH))
        assert groups()[0].status == "open"
        assert 1 in recorded.escalated
        assert groups()[0].status == GroupStatus.OPEN

    def test_a_snooze_without_an_end_outlasts_the_window_and_alerts_still_count(self) -> None:
        record(pending_event("a", 0))
        change_group(1, status="snoozed")
        assert decisions(record(pending_event("b", 5_000))) == {"b": Decision.JOINED}
        (group,) = groups()
        assert (group.status, group.count) == ("snoozed", 2)

    def test_an_alert_after_the_end_of_a_snooze_reopens_the_group(self) -> None:
        record(pending_event("a", 0))
        change_group(1, status="snoozed", snoozed_until=at(10))
        record(pending_event("b", 9))
        assert groups()[0].status == "snoozed"
        record(pending_event("c", 11))
        (group,) = groups()
        assert (group.status, group.snoozed_until, group.count) == ("open", None, 3)

    def test_after_a_snooze_and_the_window_a_new_group_has_decision_snooze_ended(self) -> None:
        record(pending_event("a", 0))
        change_group(1, status="snoozed", snoozed_until=at(100))
        assert decisions(record(pending_event("b", 200))) == {"b": Decision.SNOOZE_ENDED}
        assert len(groups()) == 2

    def test_a_snooze_breaks_on_a_higher_severity(self) -> None:
        record(pending_event("a", 0, severity=Severity.LOW))
        change_group(1, status="snoozed", snoozed_until=at(10_000))
        record(pending_event("b", 5, severity=Severity.CRITICAL))
        (group,) = groups()
        assert (group.status, group.snoozed_until, group.severity) == ("open", None, "critical")


class TestSeverity:
    def test_a_group_has_the_highest_severity_of_its_alerts_and_never_a_lower_one(self) -> None:
        record(pending_event("a", severity=Severity.LOW))
        record(pending_event("b", severity=Severity.CRITICAL), pending_event("c", severity=Severity.MED))
        recorded = record(pending_event("d", severity=Severity.INFO))
        assert groups()[0].severity == groups()[0].alert_severity == "critical"
        assert 1 not in recorded.escalated

    def test_a_group_opened_by_the_same_batch_has_not_escalated(self) -> None:
        assert not record(pending_event("a"), pending_event("b", 1, severity=Severity.CRITICAL)).escalated


class TestSpikes:
    POLICY = grouping.GroupingPolicy(spike_count=10, spike_minutes=5)

    def test_a_spike_in_one_bucket_raises_the_severity_by_one_step(self) -> None:
        record(*(pending_event(f"{number}", number / 10) for number in range(9)), policy=self.POLICY)
        assert not groups()[0].spiked
        recorded = record(pending_event("last", 4), policy=self.POLICY)
        (group,) = groups()
        assert (group.spiked, group.severity, group.alert_severity) == (True, "critical", "high")
        assert 1 in recorded.escalated

    def test_the_same_number_over_two_buckets_is_no_spike(self) -> None:
        record(*(pending_event(f"{number}", number) for number in range(10)), policy=self.POLICY)
        assert not groups()[0].spiked

    def test_a_bucket_filled_out_of_order_over_several_batches_is_a_spike(self) -> None:
        for number in range(10):
            record(
                pending_event(f"{number}", number / 10),
                pending_event(f"later {number}", 7 * number + 5),
                policy=self.POLICY,
            )
        assert groups()[0].spiked

    def test_a_spike_stays_one_step_above_the_highest_severity_up_to_critical(self) -> None:
        record(*(pending_event(f"{n}", n / 10, severity=Severity.LOW) for n in range(10)), policy=self.POLICY)
        assert groups()[0].severity == "med"
        record(pending_event("worse", 2, severity=Severity.HIGH), policy=self.POLICY)
        assert (groups()[0].severity, groups()[0].alert_severity) == ("critical", "high")
        record(pending_event("worst", 3, severity=Severity.CRITICAL), policy=self.POLICY)
        assert groups()[0].severity == "critical"

    def test_spike_detection_can_be_disabled(self) -> None:
        record(*(pending_event(f"{number}", 0) for number in range(50)), policy=grouping.GroupingPolicy(spike_count=0))
        assert not groups()[0].spiked


def test_alerts_refused_by_the_current_group_are_assigned_in_a_batch_as_one_by_one() -> None:
    """12:15 joins the group resolved at 12:20; 12:50 joins the current one, which then covers 13:40."""

    def set_up() -> None:
        record(pending_event("before", 10, issue="1"), pending_event("before-2", 10, issue="2"))
        for group_id in (1, 2):
            change_group(group_id, status="resolved", resolved_at=at(20), is_current=False)
        record(pending_event("after", 30, issue="1"), pending_event("after-2", 30, issue="2"))

    set_up()
    record(*(pending_event(f"batch-{minute}", minute, issue="1") for minute in (15, 50, 100)))
    for minute in (15, 50, 100):
        record(pending_event(f"single-{minute}", minute, issue="2"))
    by_issue = {
        issue: [(group.count, group.first_seen_at, group.last_seen_at) for group in groups() if group.issue_id == issue]
        for issue in ("1", "2")
    }
    assert by_issue["1"] == by_issue["2"] == [(2, at(10), at(15)), (3, at(30), at(100))]


def test_old_alerts_in_one_batch_open_the_same_linked_groups_as_one_by_one() -> None:
    for issue in ("1", "2"):
        record(pending_event(f"now-{issue}", 5000, issue=issue))
        change_group(len(groups()), began_after=at(4000))
    minutes = (0, 40, 200, 230, 4500)
    record(*(pending_event(f"batch-{minute}", minute, issue="1") for minute in minutes))
    for minute in minutes:
        record(pending_event(f"single-{minute}", minute, issue="2"))
    shapes = {}
    for issue in ("1", "2"):
        of_issue = [group for group in groups() if group.issue_id == issue]
        position_of = {
            group.id: position for position, group in enumerate(sorted(of_issue, key=lambda one: one.first_seen_at))
        }
        shapes[issue] = sorted(
            (position_of[group.id], group.count, group.is_current, position_of.get(group.previous_group_id))
            for group in of_issue
        )
    assert shapes["1"] == shapes["2"]
    assert len(shapes["1"]) == 4
