"""PostgreSQL compared with a plain Python model: alerts, redeliveries, a user and the clock, in any order."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from signalcraft.domain import grouping
from signalcraft.domain.alerts import Change, NormalizedAlert, Severity, StatusChange
from signalcraft.groups import source_updates
from signalcraft.groups.bursts import PendingEvent
from signalcraft.storage import retention
from signalcraft.storage.database import database, session
from signalcraft.storage.models import AlertGroup, GroupHour, Workspace
from tests.support.builders import NOON, change_group, pending_event, record

WINDOW = timedelta(minutes=60)
POLICY = grouping.GroupingPolicy(window=WINDOW, spike_count=0)
ISSUES = ("1", "2")
#: None: the alert cannot name one, as Sentry's ``issue.created``.
ENVIRONMENTS = ("prod", "staging", None)
PROJECTS = ("api", "renamed")
RETENTION = timedelta(hours=3)


#: Issue, project and environment.
Key = tuple[str, str, str]


@dataclass(eq=False)
class Group:
    """The expected state of a group."""

    issue: str
    project: str
    environment: str
    is_assumed: bool
    first: datetime
    last: datetime
    severity: Severity
    count: int = 1
    status: str = "open"
    until: datetime | None = None
    current: bool = True
    previous: "Group | None" = None
    hours: Counter[datetime] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.hours[grouping.bucket_start(self.first, minutes=60)] += 1

    @property
    def key(self) -> Key:
        return self.issue, self.project, self.environment

    def accepts(self, moment: datetime) -> bool:
        snoozed = self.status == "snoozed" and (self.until is None or self.until > moment)
        return snoozed or moment <= self.last + WINDOW

    def join(self, moment: datetime, severity: Severity) -> None:
        self.last, self.count = moment, self.count + 1
        self.hours[grouping.bucket_start(moment, minutes=60)] += 1
        worse = severity.rank > self.severity.rank
        snooze_expired = self.status == "snoozed" and self.until is not None and self.until <= moment
        if worse or snooze_expired:
            self.status, self.until = "open", None
        if worse:
            self.severity = severity


@dataclass
class Model:
    """The expected groups, in the order in which they were opened."""

    groups: list[Group] = field(default_factory=list)

    def current(self, issue: str) -> Group | None:
        """Return the first current group of an issue: the one that a user changes."""
        return next((group for group in self.groups if group.issue == issue and group.current), None)

    def ingest(self, event: PendingEvent) -> None:
        alert, moment, severity = event.alert, event.alert.received_at, event.alert.severity
        key, is_assumed = self.key_of(alert)
        of_key = [group for group in self.groups if group.key == key]
        group = next((group for group in of_key if group.current), None)
        if group is not None and group.accepts(moment):
            group.join(moment, severity)
            return
        if group is not None:
            group.current = False
        previous = of_key[-1] if of_key else None
        self.groups.append(Group(*key, is_assumed, moment, moment, severity, previous=previous))

    def key_of(self, alert: NormalizedAlert) -> tuple[Key, bool]:
        """Return the key of an alert, and whether its environment is assumed; take over assumed groups."""
        issue, project, environment = str(alert.issue_id), alert.project, alert.environment
        of_issue = [group for group in self.groups if group.issue == issue]
        if not alert.names_environment:
            newest = max(of_issue, key=lambda group: group.last, default=None)
            return (newest.key, newest.is_assumed) if newest else ((issue, project, environment), True)
        for group in of_issue:
            if group.is_assumed:
                group.project, group.environment, group.is_assumed = project, environment, False
        return (issue, project, environment), False


alerts = st.lists(st.tuples(st.sampled_from(Severity), st.sampled_from(ENVIRONMENTS)), max_size=4)


class Machine(RuleBasedStateMachine):
    """Time only moves forward here; late alerts are tested in ``test_grouping_is_order_independent``."""

    sent = Bundle("sent")

    @initialize()
    def begin(self) -> None:
        with session():
            database.execute_sql("TRUNCATE alert_event, alert_group, last_word, purged_event RESTART IDENTITY CASCADE")
        self.model, self.now = Model(), NOON
        self.project = PROJECTS[0]

    @property
    def minute(self) -> float:
        return (self.now - NOON) / timedelta(minutes=1)

    @rule(minutes=st.sampled_from((0.5, 20, 59, 60, 60.5, 200)))
    def wait(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(project=st.sampled_from(PROJECTS))
    def rename(self, project: str) -> None:
        self.project = project

    @rule(target=sent, issue=st.sampled_from(ISSUES), alerts=alerts)
    def ingest(self, issue: str, alerts: list[tuple[Severity, str | None]]) -> object:
        """Record a batch of alerts, one second apart."""
        batch = []
        for severity, environment in alerts:
            self.now += timedelta(seconds=1)
            one = pending_event(
                minute=self.minute,
                issue=issue,
                severity=severity,
                project=self.project,
                environment=environment or "prod",
                names_environment=environment is not None,
            )
            batch.append(one)
        record(*batch, policy=POLICY)
        for one in batch:
            self.model.ingest(one)
        return multiple(*batch)

    @rule(again=sent)
    def redeliver(self, again: PendingEvent) -> None:
        record(again, policy=POLICY)

    @rule(issue=st.sampled_from(ISSUES))
    def ack(self, issue: str) -> None:
        if group := self.model.current(issue):
            group.status, group.until = "ack", None
            self.change(group, status="ack", snoozed_until=None)

    @rule(issue=st.sampled_from(ISSUES))
    def resolve(self, issue: str) -> None:
        if group := self.model.current(issue):
            self.now += timedelta(seconds=1)
            group.status, group.until, group.current = "resolved", None, False
            self.change(group, status="resolved", resolved_at=self.now, snoozed_until=None, is_current=False)

    @rule(issue=st.sampled_from(ISSUES))
    def resolve_at_source(self, issue: str) -> None:
        """Resolve all groups of the issue, whatever their project was called."""
        self.now += timedelta(seconds=1)
        change = StatusChange(
            source="sentry", change=Change.RESOLVED, fingerprint=f"issue:{issue}", received_at=self.now
        )
        with session():
            source_updates.apply_status_changes([(1, change)])
        for group in self.model.groups:
            if group.issue == issue:
                group.status, group.until, group.current = "resolved", None, False

    @rule(issue=st.sampled_from(ISSUES), minutes=st.sampled_from((None, 10, 90, 300)))
    def snooze(self, issue: str, minutes: int | None) -> None:
        if group := self.model.current(issue):
            group.status = "snoozed"
            group.until = None if minutes is None else self.now + timedelta(minutes=minutes)
            self.change(group, status="snoozed", snoozed_until=group.until)

    @rule()
    def purge(self) -> None:
        before = self.now - RETENTION
        with session():
            list(retention.delete_events(before))
            retention.purge_group_hours(before)
        for group in self.model.groups:
            for hour in [hour for hour in group.hours if hour + timedelta(hours=1) <= before]:
                del group.hours[hour]

    def change(self, group: Group, **columns: object) -> None:
        change_group(self.stored()[self.model.groups.index(group)].id, **columns)

    @staticmethod
    def stored() -> list[AlertGroup]:
        with session():
            return list(AlertGroup.select().order_by(AlertGroup.first_seen_at))

    @invariant()
    def the_tables_match_the_model(self) -> None:
        stored = self.stored()
        number = {group.id: position for position, group in enumerate(stored)}
        found = [
            (
                *(group.issue_id, group.project, group.environment, group.environment_is_assumed),
                *(group.first_seen_at, group.last_seen_at, group.severity, group.count, group.status),
                *(group.snoozed_until, group.is_current, number.get(group.previous_group_id)),
            )
            for group in stored
        ]
        expected = [
            (
                *(group.issue, group.project, group.environment, group.is_assumed),
                *(group.first, group.last, group.severity.value, group.count, group.status),
                *(group.until, group.current, group.previous and self.model.groups.index(group.previous)),
            )
            for group in self.model.groups
        ]
        assert found == expected
        with session():
            hours = list(GroupHour.select(GroupHour.alert_group_id, GroupHour.hour, GroupHour.alerts).tuples())
        assert sorted((number[group_id], hour, alerts) for group_id, hour, alerts in hours) == [
            (position, hour, alerts)
            for position, group in enumerate(self.model.groups)
            for hour, alerts in sorted(group.hours.items())
        ]


@pytest.fixture
def workspace(clean_database: str) -> None:  # noqa: ARG001 - for that it is clean
    with session():
        Workspace.create(slug="one")


def test_postgresql_behaves_like_the_model(workspace: None) -> None:  # noqa: ARG001 - for the rows
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
