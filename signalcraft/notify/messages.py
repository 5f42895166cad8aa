"""Render messages: what a receiver is told of a group, in plain text and as facts.

The kinds put them into their formats. Sender's text is in ``title`` and ``text`` alone, and a person's note in the
status of a card.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from signalcraft.domain.sparkline import sparkline
from signalcraft.groups.reading.group_schema import dump_group
from signalcraft.notify.contract import Card, Digest, Message, Mode, Reply

Row = Mapping[str, Any]

#: Headings by reason.
_HEADINGS: Final[Mapping[str, str]] = {
    "opened": "New",
    "recurred": "Back again",
    "regressed": "Regression",
    "escalated": "More severe",
    "acked": "Acknowledged",
    "snoozed": "Snoozed",
    "snooze_ended": "Snooze ended",
    "resolved": "Resolved",
    "reopened": "Reopened",
    "assigned": "Assigned",
    "reminder": "Still open",
    "digest": "Many at once",
    "test": "Test",
}
#: What happened, as the beginning of a sentence that goes on with where.
_HAPPENED: Final[Mapping[str, str]] = {
    "opened": "A new problem",
    "recurred": "A problem that comes and goes is back",
    "regressed": "A problem that was resolved is back",
    "escalated": "A problem has become more severe",
    "acked": "Somebody has acknowledged the problem",
    "snoozed": "Somebody has snoozed the problem",
    "snooze_ended": "The snooze is over for the problem",
    "resolved": "The problem",
    "reopened": "The problem is open again",
    "assigned": "Somebody is to look into the problem",
    "reminder": "Nobody has acknowledged the problem",
    "test": "This is a test, with a problem",
}
#: White text on these is legible: 4.5:1, as WCAG asks for.
_COLOURS: Final[Mapping[str, str]] = {
    "critical": "#b3261e",
    "high": "#c2410c",
    "med": "#9a6700",
    "low": "#3b5bdb",
    "info": "#6b737a",
}
_RESOLVED_COLOUR: Final = "#2b7a3e"
_NEUTRAL_COLOUR: Final = "#6b737a"
_WORDS: Final[Mapping[str, str]] = {"med": "medium", "ack": "acknowledged"}
#: The fields of a group that a card shows, counts and times aside: a change of these is an edit.
_SHOWN: Final = (
    "id",
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
#: Who changed the status, and when; read for cards alone.
_SHOWN_CHANGE: Final = ("status_by", "status_at")
#: The groups that a digest names by id, and those of them that it describes.
DIGEST_GROUPS: Final = 200
_DIGEST_TITLES: Final = 10
_WORST: Final = f"The worst {_DIGEST_TITLES}:"


def told_digest(group: Row) -> str:
    """Return what a card shows of ``group``, as a hash; equal hashes need no edit."""
    shown = {name: group[name] for name in _SHOWN} | {name: group.get(name) for name in _SHOWN_CHANGE}
    return hashlib.sha256(orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)).hexdigest()


def of_group(row: Row, group: Row, *, attempted_at: datetime, public_url: str) -> Message:
    """Return the message of notification ``row`` about ``group``, as the group is now."""
    reason = "test" if row["is_test"] else row["reason"]
    is_late = group["status"] == "resolved" and reason not in ("resolved", "test")
    return Message(
        **_attempt(row, attempted_at),
        reason="resolved" if is_late and row["told_before"] else reason,
        title=group["title"],
        text=_sentences(reason, group, attempted_at),
        facts=_facts(group, attempted_at),
        group=dump_group(dict(group)),
        url=_page(public_url, group["id"]),
        link=group["link"] if (group["link"] or "").startswith(("https://", "http://")) else None,
        thread_id=_thread_id(group),
        card=Card(status=_status(group, attempted_at) + _note(group), context=_context(group, attempted_at)),
    )


def of_reply(row: Row, group: Row, *, times: int, is_broadcast: bool, attempted_at: datetime) -> Message:
    """Return the message of notification ``row`` in the thread of the card of ``group``.

    ``times`` is how often the problem has come back lately.
    """
    reason = row["reason"]
    sentences = [f"{_HAPPENED.get(reason, reason)}."]
    if reason == "escalated":
        sentences = [f"Its severity is {word(group['severity'])} now."]
    elif times > 1:
        sentences.append(f"{times} times within {'an hour' if reason == 'regressed' else 'a day'}.")
    return Message(
        **_attempt(row, attempted_at),
        reason=reason,
        title=group["title"],
        text=" ".join(sentences),
        group=dump_group(dict(group)),
        thread_id=_thread_id(group),
        reply=Reply(is_broadcast=is_broadcast),
    )


def of_trouble(row: Row, *, attempted_at: datetime) -> Message:
    """Return the message of a notification without a group: trouble of our own, or a test."""
    return Message(
        **_attempt(row, attempted_at),
        reason=row["reason"],
        title=row["title"],
        text=row["title"],
        thread_id=f"signalcraft-{row['reason']}",
    )


def of_digest(row: Row, counts: Row, worst: Sequence[Row], *, attempted_at: datetime, public_url: str) -> Message:
    """Return the message of a digest: ``counts`` of all its groups, and up to ``DIGEST_GROUPS``, worst first."""
    opened, resolved = counts["opened"], counts["resolved"]
    since = counts["since"] or row["happened_at"]
    words = ((opened, "open"), (resolved, "resolved"))
    parts = [f"{_number(count, 'group')} {status}" for count, status in words if count]
    title = f"{' and '.join(parts)}, within {_span(max(attempted_at - since, timedelta(seconds=1)))}"
    return Message(
        **_attempt(row, attempted_at),
        reason="digest",
        title=title,
        text=f"Too many to tell one by one. {_WORST if opened + resolved > _DIGEST_TITLES else ''}".rstrip(),
        digest=Digest(
            opened=opened,
            resolved=resolved,
            status=counts["status"],
            worst=[dump_group(dict(group)) for group in worst[:_DIGEST_TITLES]],
            ids=[group["id"] for group in worst],
            since=since,
            urls=[_page(public_url, group["id"]) for group in worst[:_DIGEST_TITLES]],
        ),
        url=f"{public_url}/alerts?status=open" if public_url else None,
        thread_id="digest",
    )


def heading(message: Message) -> str:
    """Return a few words that say what ``message`` is about."""
    if message.is_test:
        return _HEADINGS["test"]
    if message.group is None and message.digest is None:
        return "About SignalCraft"
    words = reason_words(message.reason)
    return f"{words}, then resolved" if message.is_over and message.reason != "resolved" else words


def reason_words(reason: str) -> str:
    """Return a reason as people say it; one that a rule made up is said as it is."""
    return _HEADINGS.get(reason) or reason[:1].upper() + reason[1:]


def colour(message: Message) -> str:
    """Return the colour of ``message``: green for what is over, else by severity."""
    if message.group is None:
        return _NEUTRAL_COLOUR
    return _RESOLVED_COLOUR if message.is_over else _COLOURS.get(message.group["severity"], _NEUTRAL_COLOUR)


def word(value: str) -> str:
    """Return a severity or a status as people say it."""
    return _WORDS.get(value, value)


def line_of(group: Mapping[str, Any]) -> str:
    """Return a group of a digest on one line."""
    where = f"{group['project']}, {group['environment']}"
    return f"{word(group['severity']).capitalize()}, {where}: {group['title']} ({_number(group['count'], 'alert')})"


def _page(public_url: str, group_id: int) -> str | None:
    return f"{public_url}/alerts/{group_id}" if public_url else None


def _thread_id(group: Row) -> str:
    return f"group-{group['id']}-{group['first_seen_at'].timestamp():.0f}"


def _attempt(row: Row, attempted_at: datetime) -> dict[str, Any]:
    """Return what names the message, and what an attempt has to know of earlier ones."""
    return {
        "notification_id": _notification_id(row),
        "attempted_at": attempted_at,
        "is_test": row["is_test"],
        "external_id": row["external_id"],
        "external_channel": row["external_channel"],
        "may_have_arrived": row["tries"] > 0,
        "key": f"{row['key']}-{row['id']}",
    }


def _notification_id(row: Row) -> str:
    """Return the public id of a notification: the receivers' idempotency key.

    The time in it keeps those of two deployments apart, and of a database that was set up again: mail programs drop the
    second of two messages with the same id. A card's time changes with its edits.
    """
    return f"ntf_{row['id']}" if row["mode"] == Mode.CARD else f"ntf_{row['id']}_{row['happened_at'].timestamp():.0f}"


def _sentences(reason: str, group: Row, now: datetime) -> str:
    """Return what happened, where, since when and how often, as is so now."""
    first, last, number = group["first_seen_at"], group["last_seen_at"], _number(group["count"], "alert")
    happened = _HAPPENED.get(reason, f"A problem ({reason})")
    where = f"{happened} in {group['project']}, {group['environment']} (severity {word(group['severity'])})"
    if group["status"] == "resolved":
        end = group["resolved_at"] or last
        was = " was" if reason == "resolved" else ","
        is_same_minute = _minute(first) == _minute(end)
        when = f"at {_minute(first)}" if is_same_minute else f"from {_minute(first)} to {_minute(end, after=first)}"
        return f"{where}{was} resolved after {_span(end - first)}. {number}, {when}."
    since = f"since {_minute(first)}, {_ago(first, now)}; the last one {_ago(last, now)}"
    once = f"at {_minute(first)}, {_ago(first, now)}"
    return f"{where}. {number} {once if group['count'] == 1 else since}."


def _status(group: Row, now: datetime) -> str:
    """Return the status of a card, with who made it so and when, as is known of the last change."""
    by, at = _person(group.get("status_by")), group.get("status_at")
    match group["status"]:
        case "ack":
            return f"Acknowledged{by}{f', {_minute(at)}' if at else ''}"
        case "snoozed":
            until = group["snoozed_until"]
            return f"Snoozed{by}{f' until {_minute(until)}' if until else ', until somebody reopens it'}"
        case "resolved":
            by = " after a long time without an alert" if group.get("status_actor") == "clock" else by
            open_for = _span((group["resolved_at"] or group["last_seen_at"]) - group["first_seen_at"])
            return f"Resolved{by}. It was open for {open_for}, with {_number(group['count'], 'alert')}"
    if at and group.get("status_to") == "open" and group["status_actor"] != "alert":
        return f"Reopened{by}, {_minute(at)}"
    return f"Open since {_minute(group['first_seen_at'])}, {_ago(group['first_seen_at'], now)}"


def _note(group: Row) -> str:
    """Return the note of who gave the group its status."""
    note = group.get("status_note") if group.get("status_to") == group["status"] else None
    return f". Note: “{note}”" if note else ""


def already(group: Row, now: datetime) -> str:
    """Return what somebody is told whose action changed nothing, of a group with the history that cards show."""
    is_by_that = group.get("status_to") == group["status"]
    by = f"{_person(group['status_by'])}, {_ago(group['status_at'], now)}" if is_by_that else ""
    return f"Already {word(group['status'])}{by}."


def _person(by: str | None) -> str:
    """Return who did something, without the id that tells people of one name apart in the history."""
    return f" by {re.sub(r' [(][A-Z0-9]+[)]$', '', by)}" if by else ""


def _context(group: Row, now: datetime) -> list[str]:
    """Return where a problem is and how often it happened; and of which group it is a regression."""
    count = f"{_number(group['count'], 'alert')} since {_minute(group['first_seen_at'])}"
    found = [group["project"], group["environment"], word(group["severity"]), count]
    by_hour = group.get("alerts_by_hour", ())
    if sum(by_hour) > 1:
        found.append(f"{sparkline(by_hour)} in {len(by_hour)} hours")
    resolved_at = group.get("previous_resolved_at")
    if resolved_at is not None:
        found.append(f"regression of #{group['previous_group_id']}, resolved {_ago(resolved_at, now)}")
    if group["assignee_user_id"]:
        found.append(f"assigned to {group['assignee_user_id']}")
    return found


def _facts(group: Row, now: datetime) -> list[tuple[str, str]]:
    facts = [
        ("Project", group["project"]),
        ("Environment", group["environment"]),
        ("Severity", word(group["severity"])),
        ("Status", word(group["status"])),
        ("Alerts", str(group["count"])),
        ("First seen", f"{_minute(group['first_seen_at'])}, {_ago(group['first_seen_at'], now)}"),
        ("Last seen", f"{_minute(group['last_seen_at'])}, {_ago(group['last_seen_at'], now)}"),
        ("Assigned to", group["assignee_user_id"] or ""),
        ("Snoozed until", _minute(group["snoozed_until"]) if group["snoozed_until"] else ""),
        ("Runbook", group["runbook_url"] or ""),
    ]
    return [(name, value) for name, value in facts if value]


def _minute(moment: datetime, *, after: datetime | None = None) -> str:
    """Return ``moment`` to the minute; without the day, if ``after`` is of the same."""
    utc = moment.astimezone(UTC)
    is_same_day = after is not None and after.astimezone(UTC).date() == utc.date()
    return utc.strftime("%H:%M UTC" if is_same_day else "%Y-%m-%d %H:%M UTC")


def _ago(moment: datetime, now: datetime) -> str:
    return f"{_span(now - moment)} ago" if now - moment >= timedelta(seconds=5) else "just now"


def _span(length: timedelta) -> str:
    """Return a duration as people say it, in its largest unit."""
    seconds = max(int(length.total_seconds()), 0)
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= (size if unit == "minute" else 2 * size):
            return _number(seconds // size, unit)
    return _number(seconds, "second") if seconds else "less than a second"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
