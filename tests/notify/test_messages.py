"""What people read: what happened, where, since when, how often."""

from datetime import timedelta
from typing import Any

import pytest

from signalcraft.notify.messages import heading
from tests.support.builders import at
from tests.support.messages import digest_message, every_form, group_message, own_test_message, trouble_message

WHERE = "payments, prod (severity high)"
LONG_AGO = "from 2026-03-01 12:00 UTC to 2026-03-04 12:00 UTC"
SINCE = "41 alerts since 2026-03-01 12:00 UTC, 7 minutes ago; the last one 1 minute ago."


@pytest.mark.parametrize(
    ("reason", "fields", "text"),
    [
        ("opened", {}, f"A new problem in {WHERE}. {SINCE}"),
        ("regressed", {}, f"A problem that was resolved is back in {WHERE}. {SINCE}"),
        ("acked", {"status": "ack"}, f"Somebody has acknowledged the problem in {WHERE}. {SINCE}"),
        ("reminder", {}, f"Nobody has acknowledged the problem in {WHERE}. {SINCE}"),
        ("paged", {}, f"A problem (paged) in {WHERE}. {SINCE}"),
        ("opened", {"count": 1}, f"A new problem in {WHERE}. 1 alert at 2026-03-01 12:00 UTC, 7 minutes ago."),
        (
            "resolved",
            {"status": "resolved", "resolved_at": at(7)},
            f"The problem in {WHERE} was resolved after 7 minutes. 41 alerts, from 2026-03-01 12:00 UTC to 12:07 UTC.",
        ),
        (
            "opened",
            {"status": "resolved", "resolved_at": at(3 * 24 * 60)},
            f"A new problem in {WHERE}, resolved after 3 days. 41 alerts, {LONG_AGO}.",
        ),
        (
            "resolved",
            {"status": "resolved", "resolved_at": at(0), "count": 1},
            f"The problem in {WHERE} was resolved after less than a second. 1 alert, at 2026-03-01 12:00 UTC.",
        ),
    ],
)
def test_a_sentence_says_what_where_since_when_and_how_often(reason: str, fields: dict[str, Any], text: str) -> None:
    assert group_message(reason, **fields).text == text


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(seconds=-3), "just now"),
        (timedelta(seconds=4), "just now"),
        (timedelta(seconds=42), "42 seconds ago"),
        (timedelta(seconds=60), "1 minute ago"),
        (timedelta(minutes=119), "119 minutes ago"),
        (timedelta(hours=47), "47 hours ago"),
        (timedelta(days=9), "9 days ago"),
    ],
)
def test_a_time_is_absolute_and_relative(length: timedelta, text: str) -> None:
    facts = dict(group_message(first_seen_at=at(7) - length).facts)

    assert facts["First seen"].endswith(f" UTC, {text}")


def test_a_heading_says_what_a_message_is_about() -> None:
    forms = every_form()
    found = [heading(forms[form]) for form in ("opened", "resolved", "late", "own reason", "digest", "test", "trouble")]

    assert found == [
        "New",
        "Resolved",
        "New, then resolved",
        "Paged by a rule",
        "Many at once",
        "Test",
        "About SignalCraft",
    ]


def test_a_digest_counts_what_is_open_and_what_is_over() -> None:
    assert digest_message(37).title == "37 groups open, within 7 minutes"
    assert digest_message(1, status="resolved").title == "1 group resolved, within 7 minutes"
    assert digest_message(37).text == "Too many to tell one by one. The worst 10:"


def test_a_severity_and_a_status_are_words() -> None:
    facts = dict(group_message(severity="med", status="ack").facts)

    assert (facts["Severity"], facts["Status"]) == ("medium", "acknowledged")


def test_a_card_keeps_its_id_and_an_event_has_the_time_in_it() -> None:
    assert group_message(mode="card").notification_id == "ntf_7"
    assert group_message().notification_id == "ntf_7_1772366400"
    assert trouble_message().notification_id == own_test_message().notification_id
