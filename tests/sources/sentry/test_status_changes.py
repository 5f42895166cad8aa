"""Sentry's status changes of an issue or a metric alert."""

from datetime import UTC, datetime, timedelta

import pytest

from signalcraft.domain.alerts import Change, StatusChange
from signalcraft.sources import sentry
from tests.support.sentry_bodies import (
    ABSENT,
    RECEIVED_AT,
    alert,
    body_of,
    carrying,
    change,
    damaged,
    deliver,
    outcomes,
    warned,
)

ISSUE = "6120094511"


@pytest.mark.parametrize(
    ("name", "meant", "substatus"),
    [
        ("issue.resolved", Change.RESOLVED, ""),
        ("issue.archived", Change.ARCHIVED, "archived_until_escalating"),
        ("issue.ignored", Change.ARCHIVED, "archived_until_escalating"),
        ("issue.unresolved", Change.UNRESOLVED, "regressed"),
        ("activity_alert.triggered", Change.RESOLVED, ""),
    ],
)
def test_a_change_of_an_issue_applies_to_its_groups(name: str, meant: Change, substatus: str) -> None:
    assert change(deliver(name)) == StatusChange(
        source="sentry",
        change=meant,
        fingerprint=f"issue:{ISSUE}",
        received_at=RECEIVED_AT,
        substatus=substatus,
        source_count=41,
    )
    assert warned(deliver(name)) == []


def test_a_change_has_the_fingerprint_of_the_issues_alerts() -> None:
    for opened, changed in (
        ("event_alert.triggered", "issue.resolved"),
        ("metric_alert.open", "metric_alert.resolved"),
    ):
        one, other = alert(deliver(opened)), change(deliver(changed))
        assert (one.source, one.fingerprint) == (other.source, other.fingerprint)


def test_ignored_is_the_former_name_of_archived() -> None:
    assert change(deliver("issue.ignored")) == change(deliver("issue.archived"))


@pytest.mark.parametrize("substatus", ["new", "ongoing", "escalating", "regressed"])
def test_every_substatus_of_unresolved_is_kept(substatus: str) -> None:
    assert change(deliver("issue.unresolved", substatus=substatus)).substatus == substatus


@pytest.mark.parametrize(
    "substatus",
    ["archived_until_escalating", "archived_until_condition_met", "archived_forever"],
)
def test_every_substatus_of_archived_is_kept(substatus: str) -> None:
    assert change(deliver("issue.archived", substatus=substatus)).substatus == substatus


@pytest.mark.parametrize(
    ("name", "substatus"),
    [
        ("issue.unresolved", "archived_forever"),
        ("issue.archived", "regressed"),
        ("issue.unresolved", "brand_new_word"),
        ("issue.unresolved", 7),
        ("issue.archived", ["archived_forever"]),
        ("issue.archived", None),
        ("issue.archived", ABSENT),
    ],
)
def test_the_action_has_priority_over_a_later_state(name: str, substatus: object) -> None:
    delivery = damaged(name, "data.issue.substatus", substatus)
    assert change(delivery).substatus == ""
    assert warned(delivery) == ["data.issue.substatus"]


def test_a_late_resolved_resolves_whatever_the_status_is_by_now() -> None:
    delivery = damaged("issue.resolved", "data.issue.status", "unresolved")
    assert change(delivery).change is Change.RESOLVED


@pytest.mark.parametrize(
    ("kind", "meant", "substatus"),
    [
        ("status_resolved", Change.RESOLVED, ""),
        ("status_resolved_in_release", Change.RESOLVED, ""),
        ("status_resolved_by_age", Change.RESOLVED, ""),
        ("status_resolved_in_commit", Change.RESOLVED, ""),
        ("status_unresolved", Change.UNRESOLVED, ""),
        ("status_regression", Change.UNRESOLVED, "regressed"),
        ("status_escalating", Change.UNRESOLVED, "escalating"),
        ("status_ignored", Change.ARCHIVED, "archived_forever"),
    ],
)
def test_an_activity_about_the_status_is_a_change(kind: str, meant: Change, substatus: str) -> None:
    delivery = deliver("activity_alert.triggered", activity=kind, substatus="archived_forever")
    assert sentry.identify(delivery).ignored == ""
    assert (change(delivery).change, change(delivery).substatus) == (meant, substatus)


@pytest.mark.parametrize(
    ("details", "until", "is_warned"),
    [
        ({}, None, False),
        (None, None, False),
        ({"ignoreUntil": "2026-03-02T12:00:00Z"}, datetime(2026, 3, 2, 12, tzinfo=UTC), False),
        ({"ignoreUntil": "2026-03-02T12:00:00+00:00"}, datetime(2026, 3, 2, 12, tzinfo=UTC), False),
        ({"ignoreUntil": "tomorrow"}, None, True),
        ({"ignoreUntil": "tomorrow", "ignoreDuration": 30}, RECEIVED_AT + timedelta(minutes=30), True),
        ({"ignoreDuration": 90}, RECEIVED_AT + timedelta(minutes=90), False),
        ({"ignoreDuration": "90"}, RECEIVED_AT + timedelta(minutes=90), False),
        ({"ignoreDuration": 0}, None, False),
        ({"ignoreDuration": 2**62}, None, False),
        ({"ignoreDuration": 60 * 24 * 365 * 1_000}, None, False),
        ({"ignoreDuration": -5}, None, True),
        ({"ignoreCount": 100, "ignoreWindow": 60}, None, False),
        ([], None, False),
        ("x", None, False),
    ],
)
def test_an_archiving_ends_at_sentrys_time(details: object, until: datetime | None, is_warned: bool) -> None:  # noqa: FBT001 - a column of the table
    delivery = damaged("issue.archived", "data.issue.statusDetails", details)
    assert change(delivery).snoozed_until == until
    assert bool(warned(delivery)) == is_warned


def test_only_an_archiving_has_an_end() -> None:
    delivery = deliver("issue.resolved", status_details={"ignoreUntil": "2026-03-02T12:00:00Z"})
    assert change(delivery).snoozed_until is None


@pytest.mark.parametrize(
    ("assignee", "assigned_to", "named"),
    [
        ({"type": "user", "id": 31, "name": "M"}, None, "sentry:user:31"),
        ({"type": "team", "id": 7}, None, "sentry:team:7"),
        (ABSENT, {"type": "user", "id": "31"}, "sentry:user:31"),
        (None, {"type": "team", "id": "7"}, "sentry:team:7"),
        ({"type": "user", "id": 31}, {"type": "team", "id": "7"}, "sentry:user:31"),
        ({"type": "robot", "id": 31}, {"type": "team", "id": "7"}, "sentry:team:7"),
        (ABSENT, None, None),
        (None, None, None),
    ],
)
def test_an_assignee_is_a_user_a_team_or_none(assignee: object, assigned_to: object, named: str | None) -> None:
    body = body_of("issue.assigned")
    body["data"]["issue"]["assignedTo"] = assigned_to
    body["data"]["assignee"] = assignee
    if assignee is ABSENT:
        del body["data"]["assignee"]
    read = change(carrying(body, like="issue.assigned"))
    assert (read.change, read.assignee) == (Change.ASSIGNED, named)


def test_an_unassigned_issue_has_no_assignee() -> None:
    read = change(damaged("issue.assigned", "action", "unassigned"))
    assert (read.change, read.assignee) == (Change.ASSIGNED, None)


def test_a_resolved_metric_alert_resolves_its_rules_group() -> None:
    assert change(deliver("metric_alert.resolved")) == StatusChange(
        source="sentry",
        change=Change.RESOLVED,
        fingerprint="metric_rule:2217",
        received_at=RECEIVED_AT,
    )


@pytest.mark.parametrize("name", ["issue.resolved", "issue.assigned", "issue.archived", "activity_alert.triggered"])
def test_a_change_of_no_issue_changes_nothing_and_causes_a_warning(name: str) -> None:
    body = body_of(name)
    body["data"]["issue"] |= {"id": None, "web_url": None, "permalink": None, "url": None}
    assert change(carrying(body, like=name)).fingerprint == "issue:CHECKOUT-3KD"
    body["data"]["issue"]["shortId"] = None
    delivery = carrying(body, like=name)
    assert sentry.identify(delivery).ignored == ""
    assert outcomes(delivery) == ()
    assert warned(delivery) == ["data.issue.id"]


def test_a_resolved_metric_alert_without_a_rule_resolves_the_group_of_its_incident() -> None:
    opened, over = (
        damaged(f"metric_alert.{action}", "data.metric_alert.alert_rule") for action in ("open", "resolved")
    )
    assert change(over).fingerprint == alert(opened).fingerprint == "metric_incident:90431"
    body = body_of("metric_alert.resolved")
    body["data"]["metric_alert"] |= {"id": None, "identifier": None, "alert_rule": None}
    nameless = carrying(body, like="metric_alert.resolved")
    assert outcomes(nameless) == ()
    assert set(warned(nameless)) == {"data.metric_alert.alert_rule.id"}


@pytest.mark.parametrize("name", ["issue.archived", "issue.ignored", "activity_alert.triggered"])
def test_an_archiving_of_an_issue_that_says_it_is_unresolved_silences_nothing(name: str) -> None:
    body = body_of(name, activity="status_ignored")
    body["data"]["issue"]["status"] = "unresolved"
    delivery = carrying(body, like=name)
    assert outcomes(delivery) == ()
    (warning,) = sentry.normalize(delivery).warnings
    assert (warning.field, "contradicts the archiving" in warning.problem) == ("data.issue.status", True)


@pytest.mark.parametrize("status", ["ignored", "resolved", "muted", None, 7, ABSENT])
def test_an_archiving_is_believed_unless_the_issue_says_unresolved(status: object) -> None:
    assert change(damaged("issue.archived", "data.issue.status", status)).change is Change.ARCHIVED


@pytest.mark.parametrize("project", [ABSENT, None, {}, {"slug": None}, {"slug": 7}, "checkout"])
def test_whatever_the_project_is_the_fingerprint_alone_decides(project: object) -> None:
    assert change(damaged("issue.resolved", "data.issue.project", project)) == change(deliver("issue.resolved"))


@pytest.mark.parametrize(
    "assignee",
    ["mira", {"type": "user"}, {"type": "user", "id": None}, {"type": ["user"], "id": 1}, {"type": "robot", "id": 7}],
)
def test_an_unreadable_assignee_changes_nothing_and_causes_a_warning(assignee: object) -> None:
    body = body_of("issue.assigned")
    body["data"]["assignee"] = assignee
    body["data"]["issue"]["assignedTo"] = None
    delivery = carrying(body, like="issue.assigned")
    assert sentry.normalize(delivery).outcomes == ()
    assert "data.assignee" in warned(delivery)


def test_a_change_has_sentrys_count_of_the_issue() -> None:
    assert change(damaged("issue.resolved", "data.issue.count", "4100")).source_count == 4100
