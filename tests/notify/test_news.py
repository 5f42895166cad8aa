"""What is news: a table of what a receiver was told before, and what is so now."""

from datetime import UTC, datetime, timedelta

import pytest

from signalcraft.notify.messages import told_digest
from signalcraft.notify.news import is_news

DUE = datetime(2026, 3, 1, 12, tzinfo=UTC)
GROUP = {
    "id": 1,
    "title": "it fails",
    "severity": "high",
    "project": "api",
    "environment": "prod",
    "link": None,
    "assignee_user_id": None,
    "snoozed_until": None,
    "runbook_url": None,
    "count": 1,
    "resolved_at": None,
    "status": "open",
}
FIRST = ("opened", "regressed", "escalated", "reason of a rule")


def group(status: str, **fields: object) -> dict[str, object]:
    resolved_at = DUE - timedelta(minutes=1) if status == "resolved" else None
    return {**GROUP, "status": status, "resolved_at": resolved_at, **fields}


def notification(reason: str, told_before: str | None = None, **fields: object) -> dict[str, object]:
    event = {"reason": reason, "mode": "event", "is_test": False, "told_before": told_before, "told_digest": None}
    return {**event, "tries": 0, "urgency": 0, "due_at": DUE, "covered_by": None, "undelivered_to": None, **fields}


@pytest.mark.parametrize(
    ("reason", "told_before", "status", "expected"),
    [
        *((reason, None, status, True) for reason in FIRST for status in ("open", "ack")),
        *((reason, None, status, False) for reason in FIRST for status in ("snoozed", "resolved")),
        ("opened", "open", "resolved", True),
        ("opened", "resolved", "resolved", False),
        ("reminder", "open", "open", True),
        ("reminder", "open", "snoozed", False),
        ("resolved", "open", "resolved", True),
        ("resolved", "ack", "resolved", True),
        ("resolved", "snoozed", "resolved", True),
        ("resolved", "resolved", "resolved", False),
        ("resolved", None, "resolved", False),
        ("resolved", "open", "open", False),
        ("resolved", "open", "snoozed", False),
        ("reopened", "resolved", "open", True),
        ("reopened", "resolved", "ack", True),
        ("reopened", None, "open", True),
        ("reopened", "open", "open", False),
        ("reopened", "ack", "open", True),
        ("reopened", "snoozed", "open", True),
        ("reopened", "ack", "ack", False),
        ("reopened", "ack", "snoozed", False),
        ("reopened", "resolved", "resolved", False),
        ("reopened", None, "resolved", False),
        ("acked", "open", "ack", True),
        ("acked", "open", "open", False),
        ("acked", "open", "snoozed", False),
        ("snoozed", "open", "snoozed", True),
        ("snoozed", "open", "open", False),
        ("assigned", "open", "open", True),
        ("assigned", "open", "snoozed", False),
    ],
)
def test_an_event_is_told_if_it_says_what_the_receiver_does_not_know(
    reason: str, told_before: str | None, status: str, *, expected: bool
) -> None:
    assert is_news(notification(reason, told_before), group(status)) is expected


@pytest.mark.parametrize(("tries", "after", "expected"), [(0, -1, False), (0, 0, False), (0, 1, True), (1, -1, True)])
def test_a_group_that_ended_before_its_message_was_due_is_told_to_nobody_and_one_that_ended_later_is(
    tries: int, after: int, *, expected: bool
) -> None:
    ended = group("resolved", resolved_at=DUE + timedelta(seconds=after))
    assert is_news(notification("opened", tries=tries), ended) is expected


@pytest.mark.parametrize(
    ("reason", "status", "expected"),
    [("opened", "open", True), ("opened", "ack", True), ("opened", "resolved", False), ("resolved", "resolved", True)],
)
def test_a_mail_that_some_have_is_sent_to_the_others_unless_the_group_is_over_since(
    reason: str, status: str, *, expected: bool
) -> None:
    told = "resolved" if reason == "resolved" else "open"
    assert is_news(notification(reason, told, tries=1, undelivered_to=["ann@example.org"]), group(status)) is expected


@pytest.mark.parametrize(
    ("reason", "status", "tries", "expected"),
    [
        ("resolved", "resolved", 0, False),
        ("resolved", "resolved", 1, True),
        ("acked", "ack", 0, False),
        ("acked", "ack", 1, False),
        ("recurred", "open", 0, False),
        ("escalated", "open", 0, True),
        ("reopened", "open", 0, False),
    ],
)
def test_a_card_that_a_digest_covers_is_sent_if_its_group_gets_worse_or_an_attempt_may_have_arrived(
    reason: str, status: str, tries: int, *, expected: bool
) -> None:
    covered = notification(reason, "open", mode="card", covered_by=9, tries=tries)
    assert is_news(covered, group(status)) is expected


def test_a_card_is_edited_if_what_it_shows_has_changed() -> None:
    shown = notification("opened", "open", mode="card", told_digest=told_digest(group("open")))
    assert not is_news(shown, group("open", count=99))
    assert is_news(shown, group("ack"))
    assert is_news(shown, group("open", severity="critical"))
    assert is_news(shown, group("snoozed"))


def test_a_test_is_always_sent() -> None:
    assert is_news(notification("test", is_test=True), group("resolved"))
