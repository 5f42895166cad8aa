"""PostgreSQL compared with a plain Python model: alerts, redeliveries, a user and the clock, in any order."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count

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
from signalcraft.groups import episodes, source_updates
from signalcraft.groups.bursts import PendingEvent
from signalcraft.storage import retention
from signalcraft.storage.database import database, session
from signalcraft.storage.models import AlertGroup, GroupHour, Workspace
from tests.support.builders import NOON, change_group, end, episode, pending_event, record, work

WINDOW = timedelta(minutes=60)
POLICY = grouping.GroupingPolicy(window=WINDOW, spike_count=0)
ISSUES = ("1", "2")
#: Problems whose alerts are episodes.
LASTING = ("8", "9")
#: None: the alert cannot name one, as Sentry's ``issue.created``.
ENVIRONMENTS = ("prod", "staging", None)
PROJECTS = ("api", "renamed")
RETENTION = timedelta(hours=3)


_names = count()

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
    episodes: set[str] = field(default_factory=set)
    source_status_at: datetime | None = None
    #: Whether it was the ends of its episodes that resolved it.
    has_ended: bool = False
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
    #: The first end of each episode since it last began to last, and its latest one.
    ended: dict[str, datetime] = field(default_factory=dict)
    last_end: dict[str, datetime] = field(default_factory=dict)

    def group_of(self, name: str) -> Group | None:
        """Return the group of an episode, once its alert was received."""
        return next((group for group in self.groups if name in group.episodes), None)

    def fire(self, event: PendingEvent) -> None:
        """Receive an episode, the first time or again."""
        name, moment = event.alert.source_event_id, event.alert.received_at
        if name in self.ended and moment > self.last_end[name] + episodes.GRACE:
            del self.ended[name]
        group = self.group_of(name)
        if group is None:
            group = self.ingest(event)
            group.episodes.add(name)
        elif group.status != "resolved":
            group.last = max(group.last, min(moment, self.ended.get(name, moment)))
        self.settle(group)
        if group.status == "resolved" and group.has_ended and not group.episodes <= self.ended.keys():
            of_key = [each for each in self.groups if each.key == group.key]
            group.status, group.last, group.source_status_at = "open", moment, None
            group.current = group is of_key[-1]

    def end(self, name: str, moment: datetime) -> None:
        self.ended.setdefault(name, moment)
        self.last_end[name] = moment
        if group := self.group_of(name):
            self.settle(group)

    def settle(self, group: Group) -> None:
        """Resolve a group whose episodes are all over, once."""
        if group.status == "resolved" or not group.episodes <= self.ended.keys():
            return
        moment = max(self.ended[name] for name in group.episodes)
        if group.source_status_at is None or group.source_status_at < moment:
            group.status, group.until, group.current, group.has_ended = "resolved", None, False, True
            group.source_status_at = max(moment, group.last)

    def current(self, issue: str) -> Group | None:
        """Return the first current group of an issue: the one that a user changes."""
        return next((group for group in self.groups if group.issue == issue and group.current), None)

    def ingest(self, event: PendingEvent) -> Group:
        alert, moment, severity = event.alert, event.alert.received_at, event.alert.severity
        key, is_assumed = self.key_of(alert)
        of_key = [group for group in self.groups if group.key == key]
        group = next((group for group in of_key if group.current), None)
        if group is not None and group.accepts(moment):
            group.join(moment, severity)
            return group
        if group is not None:
            group.current = False
        previous = of_key[-1] if of_key else None
        self.groups.append(Group(*key, is_assumed, moment, moment, severity, previous=previous))
        return self.groups[-1]

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
    lasting = Bundle("lasting")

    @initialize()
    def begin(self) -> None:
        with session():
            database.execute_sql(
                "TRUNCATE alert_event, alert_group, last_word, purged_event, episode RESTART IDENTITY CASCADE"
            )
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

    @rule(target=lasting, issue=st.sampled_from(LASTING), severity=st.sampled_from(Severity))
    def name_episode(self, issue: str, severity: Severity) -> PendingEvent:
        """Name an episode whose alert was not received yet: its end may be received first."""
        return episode(f"episode-{next(_names)}", issue=issue, severity=severity)

    @rule(named=lasting)
    def fire(self, named: PendingEvent) -> None:
        """Receive an episode's alert, the first time or again."""
        self.now += timedelta(seconds=1)
        received = replace(named, alert=replace(named.alert, received_at=self.now, occurred_at=self.now))
        work(received, policy=POLICY)
        self.model.fire(received)

    @rule(named=lasting)
    def end(self, named: PendingEvent) -> None:
        self.now += timedelta(seconds=1)
        work(ends=[end(named.alert.source_event_id, self.minute, issue=str(named.alert.issue_id))])
        self.model.end(named.alert.source_event_id, self.now)

    @rule(issue=st.sampled_from((*ISSUES, *LASTING)))
    def ack(self, issue: str) -> None:
        if group := self.model.current(issue):
            group.status, group.until = "ack", None
            self.change(group, status="ack", snoozed_until=None)

    @rule(issue=st.sampled_from((*ISSUES, *LASTING)))
    def resolve(self, issue: str) -> None:
        if group := self.model.current(issue):
            self.now += timedelta(seconds=1)
            group.status, group.until, group.current, group.has_ended = "resolved", None, False, False
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

    @rule(issue=st.sampled_from((*ISSUES, *LASTING)), minutes=st.sampled_from((None, 10, 90, 300)))
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
