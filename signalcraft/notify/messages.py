"""Render messages: what a receiver is told of a group, in plain text and as facts.

The kinds put them into their formats. Sender's text is in ``title`` and ``text`` alone.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from signalcraft.groups.group_schema import dump_group
from signalcraft.notify.contract import Digest, Message

Row = Mapping[str, Any]

#: Headings by reason. A reason that a rule made up is its own heading.
HEADINGS: Final[Mapping[str, str]] = {
    "opened": "New",
    "recurred": "Again",
    "regressed": "Regression",
    "escalated": "Escalated",
    "acked": "Acknowledged",
    "snoozed": "Snoozed",
    "snooze_ended": "Snooze ended",
    "resolved": "Resolved",
    "reopened": "Reopened",
    "assigned": "Assigned",
    "reminder": "Still open",
    "test": "TEST",
}
#: The fields of a group that a card shows, counts and times aside: a change of these is an edit.
_SHOWN: Final = (
    "title",
    "status",
    "severity",
    "project",
    "environment",
    "link",
    "assignee_user_id",
    "snoozed_until",
    "runbook_url",
)
_DIGEST_TITLES: Final = 10
_DIGEST_IDS: Final = 200


def told_digest(group: Row) -> str:
    """Return what a card shows of ``group``, as a hash; equal hashes need no edit."""
    shown = {name: group[name] for name in _SHOWN}
    return hashlib.sha256(orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)).hexdigest()


def of_group(row: Row, group: Row, *, attempted_at: datetime, public_url: str) -> Message:
    """Return the message of notification ``row`` about ``group``, as the group is now."""
    reason = "test" if row["is_test"] else row["reason"]
    is_late = group["status"] == "resolved" and reason not in ("resolved", "test")
    return Message(
        notification_id=notification_id(row["id"]),
        attempted_at=attempted_at,
        reason="resolved" if is_late and row["told_before"] else reason,
        title=group["title"],
        text=_sentence(reason, group),
        facts=_facts(group),
        group=dump_group(dict(group)),
        url=f"{public_url}/alerts/{group['id']}" if public_url else None,
        link=group["link"],
        thread_id=f"group-{group['id']}",
        is_test=row["is_test"],
        external_id=row["external_id"],
        external_channel=row["external_channel"],
    )


def of_trouble(row: Row, *, attempted_at: datetime) -> Message:
    """Return the message of a notification without a group: trouble of our own, or a test."""
    return Message(
        notification_id=notification_id(row["id"]),
        attempted_at=attempted_at,
        reason=row["reason"],
        title=row["title"],
        text=row["title"],
        thread_id=f"signalcraft-{row['reason']}",
        is_test=row["is_test"],
    )


def of_digest(row: Row, covered: Sequence[Row], *, attempted_at: datetime, public_url: str) -> Message:
    """Return the message of a digest of ``covered`` groups, worst first."""
    resolved = sum(group["status"] == "resolved" for group in covered)
    opened = len(covered) - resolved
    since = min((group["first_seen_at"] for group in covered), default=row["happened_at"])
    parts = [f"{opened} groups" if opened else "", f"{resolved} resolved" if resolved else ""]
    title = f"{' and '.join(filter(None, parts))} in {_span(attempted_at - since)}"
    return Message(
        notification_id=notification_id(row["id"]),
        attempted_at=attempted_at,
        reason="digest",
        title=title,
        text=title,
        digest=Digest(
            opened=opened,
            resolved=resolved,
            worst=[dump_group(dict(group)) for group in covered[:_DIGEST_TITLES]],
            ids=[group["id"] for group in covered[:_DIGEST_IDS]],
            since=since,
        ),
        url=f"{public_url}/alerts?status=open" if public_url else None,
        thread_id="digest",
    )


def notification_id(number: int) -> str:
    """Return the public id of a notification: the receivers' idempotency key."""
    return f"ntf_{number}"


def _sentence(reason: str, group: Row) -> str:
    """Return one sentence that says what is so now."""
    heading = HEADINGS.get(reason, reason)
    span = _span((group["resolved_at"] or group["last_seen_at"]) - group["first_seen_at"])
    alerts = "1 alert" if group["count"] == 1 else f"{group['count']} alerts"
    where = f"{group['project']} · {group['environment']} · {group['severity']}"
    if group["status"] == "resolved":
        first = "" if reason == "resolved" else f"{heading}; "
        return f"{first}{HEADINGS['resolved']} after {span}, {alerts}. {where}"
    return f"{heading}: {alerts}. {where}"


def _facts(group: Row) -> list[tuple[str, str]]:
    facts = [
        ("Project", group["project"]),
        ("Environment", group["environment"]),
        ("Severity", group["severity"]),
        ("Status", group["status"]),
        ("Alerts", str(group["count"])),
        ("First seen", _minute(group["first_seen_at"])),
        ("Last seen", _minute(group["last_seen_at"])),
        ("Assignee", group["assignee_user_id"] or ""),
        ("Snoozed until", _minute(group["snoozed_until"]) if group["snoozed_until"] else ""),
        ("Runbook", group["runbook_url"] or ""),
    ]
    return [(name, value) for name, value in facts if value]


def _minute(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _span(length: timedelta) -> str:
    """Return a duration as people say it, in its largest unit."""
    seconds = max(int(length.total_seconds()), 0)
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}s"
    return "1 minute" if seconds >= 60 else f"{seconds} s"
