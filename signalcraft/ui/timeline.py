"""The timeline of a group: its alerts, changes and notifications, newest first."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Final

from signalcraft.domain.alerts import Decision, GroupStatus
from signalcraft.groups.reading.pages import Row
from signalcraft.notify.messages import reason_words
from signalcraft.notify.queries import State
from signalcraft.storage.audit_log import Actor
from signalcraft.ui import formats

#: How each kind of row begins, by who made the change.
_BY: Final = {
    Actor.SOURCE: "by {by}",
    Actor.ALERT: "by a worse alert",
    Actor.CLOCK: "by SignalCraft, after a long time without alerts",
    Actor.TOKEN: "by {by}",
    Actor.SLACK: "by {by} in Slack",
}
_OPENED: Final = {
    Decision.NEW: "First alert",
    Decision.WINDOW_EXPIRED: "First alert since the group before was quiet",
    Decision.AFTER_RESOLVED: "Came back after it was resolved",
    Decision.SNOOZE_ENDED: "First alert since a snooze ended",
}
_NOTIFICATIONS: Final = {
    State.PENDING: "Notification to {receiver} is waiting",
    State.SENDING: "Notification to {receiver} is being sent",
    State.SENT: "Notification sent to {receiver}",
    State.COVERED: "Notification to {receiver} not needed: it was no news any more",
    State.GIVEN_UP: "Notification to {receiver} failed",
    State.GONE: "Notification to {receiver} was deleted there",
}
_IN_DIGEST: Final = "Notification to {receiver} was part of a digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the timeline; ``kind`` is its CSS class. ``since`` is when a run of alerts began.

    ``note`` is what somebody wrote about a change.
    """

    kind: str
    at: datetime
    text: str
    detail: str = ""
    event_id: int | None = None
    since: datetime | None = None
    failed: bool = False
    note: str = ""


def of(group: Row, events: Sequence[Row], changes: Iterable[Row], notifications: Iterable[Row]) -> Sequence[Entry]:
    """Return the timeline of ``group``; each of the other arguments has its newest row first.

    Alerts that are older than ``events`` are one line.
    """
    others = [*changes_of(changes), *map(_notification, notifications)]
    entries = [*map(_alert, events), *_earlier(group, events), *others]
    return list(_with_runs(sorted(entries, key=lambda entry: entry.at, reverse=True)))


def changes_of(changes: Iterable[Row]) -> Iterator[Entry]:
    """Yield changes in words; fields that one person changed at once are one line."""
    for _, rows in groupby(changes, key=itemgetter("changed_at", "actor", "changed_by")):
        fields = {row["field"]: row for row in rows}
        text = ", ".join(_change_words(fields))
        change = next(iter(fields.values()))
        yield Entry(
            kind="change",
            at=change["changed_at"],
            text=text[:1].upper() + text[1:],
            detail=_BY[Actor(change["actor"])].format(by=change["changed_by"]),
            note=change["note"] or "",
        )


def _change_words(fields: dict[str, Row]) -> Iterator[str]:
    until = fields.get("snoozed_until")
    if status := fields.get("status"):
        yield _status_words(status, until)
    elif until:
        yield f"snoozed{_until(until)}"
    if assignee := fields.get("assignee_user_id"):
        yield f"assigned to {assignee['to_value']}" if assignee["to_value"] else "unassigned"
    if runbook := fields.get("runbook_url"):
        yield "runbook set" if runbook["to_value"] else "runbook removed"


def _status_words(status: Row, until: Row | None) -> str:
    match status["to_value"]:
        case GroupStatus.ACK:
            return "acknowledged"
        case GroupStatus.SNOOZED:
            return f"snoozed{_until(until)}"
        case GroupStatus.RESOLVED:
            return "resolved"
        case _:
            return "reopened"


def _until(until: Row | None) -> str:
    if until is None or not until["to_value"]:
        return " for ever"
    return f" until {formats.absolute(datetime.fromisoformat(until['to_value']))}"


def _notification(row: Row) -> Entry:
    attempts = row["attempts"]
    detail = reason_words(row["reason"])
    if attempts and row["state"] != State.SENT:
        failure = attempts[-1]["code"].replace("_", " ")
        detail += f"; last of {formats.plural(row['tries'], 'attempt')}: {failure}"
    is_in_digest = row["state"] == State.COVERED and row["covered_by_id"]
    text = _IN_DIGEST if is_in_digest else _NOTIFICATIONS[State(row["state"])]
    return Entry(
        kind="notification",
        at=row["sent_at"] or row["happened_at"],
        text=text.format(receiver=row["receiver"]),
        detail=detail,
        failed=row["state"] == State.GIVEN_UP,
    )


def _alert(row: Row) -> Entry:
    text = _OPENED.get(Decision(row["decision"]), "Alert")
    return Entry(kind="alert", at=row["received_at"], text=text, detail=row["title"], event_id=row["id"])


def _earlier(group: Row, events: Sequence[Row]) -> Iterator[Entry]:
    earlier = group["count"] - len(events)
    if earlier > 0:
        at = events[-1]["received_at"] if events else group["last_seen_at"]
        text = formats.plural(earlier, "earlier alert")
        yield Entry(kind="alert", at=at, since=group["first_seen_at"], text=text)


def _with_runs(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield ``entries`` with one line for alerts that follow each other; the one that opened the group has its own."""
    for kind, run in groupby(entries, key=lambda entry: "alert" if entry.text == "Alert" else entry):
        following = list(run)
        if kind != "alert" or len(following) == 1:
            yield from following
        else:
            newest, oldest = following[0], following[-1]
            yield Entry(
                kind="alert",
                at=newest.at,
                since=oldest.at,
                text=f"{formats.number(len(following))} alerts",
                detail=newest.detail,
                event_id=newest.event_id,
            )
