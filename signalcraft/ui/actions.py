"""What a form may do to groups: the fields that an action sets, and how to say that it was done."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from marshmallow import ValidationError

from signalcraft.domain.alerts import GroupStatus
from signalcraft.groups.reading import requests
from signalcraft.groups.user_updates import UpdateFields

#: What was done, by action.
DONE: Final[Mapping[str, str]] = {
    "ack": "acknowledged",
    "snooze": "snoozed",
    "resolve": "resolved",
    "reopen": "reopened",
    "assign": "assigned",
    "runbook": "given a runbook",
}
#: How long a snooze lasts, by the value of ``until``.
SNOOZES: Final[Mapping[str, str]] = {
    "1h": "1 hour",
    "4h": "4 hours",
    "tomorrow": "Until tomorrow 9:00",
    "1w": "1 week",
    "forever": "For ever",
}
_DURATIONS: Final[Mapping[str, timedelta]] = {
    "1h": timedelta(hours=1),
    "4h": timedelta(hours=4),
    "1w": timedelta(weeks=1),
}
_STATUSES: Final[Mapping[str, GroupStatus]] = {
    "ack": GroupStatus.ACK,
    "snooze": GroupStatus.SNOOZED,
    "resolve": GroupStatus.RESOLVED,
    "reopen": GroupStatus.OPEN,
}
_MORNING: Final = 9
#: The largest offset of a time zone, in minutes.
_MAX_OFFSET: Final = 14 * 60


def fields_of(form: Mapping[str, str], *, now: datetime) -> UpdateFields:
    """Return what the ``action`` of a form sets.

    Raises:
        marshmallow.ValidationError: by field.
    """
    action = form.get("action", "")
    body: dict[str, Any]
    if action in _STATUSES:
        body = {"status": _STATUSES[action].value, "note": form.get("note", "")}
        if action == "snooze":
            until = _snooze_end(form, now)
            body["snoozed_until"] = until and until.isoformat()
    elif action == "assign":
        body = {"assignee_user_id": form.get("assignee", "").strip() or None}
    elif action == "runbook":
        body = {"runbook_url": form.get("runbook", "").strip() or None}
    else:
        raise ValidationError({"action": [f"Must be one of: {', '.join(DONE)}."]})
    return requests.load_update(body, now=now)


def _snooze_end(form: Mapping[str, str], now: datetime) -> datetime | None:
    """Return when a snooze ends, None for never.

    ``offset`` is that of the browser's time zone, in minutes east of UTC, for the hour of tomorrow's morning.
    """
    until = form.get("until", "")
    if until in _DURATIONS:
        return now + _DURATIONS[until]
    if until == "forever":
        return None
    if until != "tomorrow":
        raise ValidationError({"until": [f"Must be one of: {', '.join(SNOOZES)}."]})
    offset = timedelta(minutes=_offset_minutes(form.get("offset", "")))
    there = (now + offset).replace(hour=_MORNING, minute=0, second=0, microsecond=0)
    return (there + timedelta(days=1) - offset).astimezone(UTC)


def _offset_minutes(text: str) -> int:
    digits = text.removeprefix("-")
    minutes = int(text) if digits.isascii() and digits.isdecimal() and len(digits) <= 3 else 0
    return max(-_MAX_OFFSET, min(_MAX_OFFSET, minutes))
