"""Normalize bodies that report a status change of an issue or of a metric alert."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from signalcraft.domain.alerts import Change, StatusChange, Vocabulary
from signalcraft.sources import cleaning
from signalcraft.sources.sentry import alerts, fingerprint, identifiers
from signalcraft.sources.sentry.envelope import Envelope
from signalcraft.sources.sentry.field_paths import Path, Reader, paths
from signalcraft.sources.sentry.fields import ISSUE, METRIC_ALERT

#: Changes by action of ``issue.*``. ``ignored`` is the former name of ``archived``; some installations still send it.
ISSUE_ACTIONS: Final[Mapping[str, Change]] = {
    "resolved": Change.RESOLVED,
    "archived": Change.ARCHIVED,
    "ignored": Change.ARCHIVED,
    "unresolved": Change.UNRESOLVED,
    "assigned": Change.ASSIGNED,
    "unassigned": Change.ASSIGNED,
}

#: Change and implied substatus by ``activity.type`` of an activity alert; other types are no change.
ACTIVITIES: Final[Mapping[str, tuple[Change, str]]] = {
    "status_resolved": (Change.RESOLVED, ""),
    "status_resolved_in_release": (Change.RESOLVED, ""),
    "status_resolved_by_age": (Change.RESOLVED, ""),
    "status_resolved_in_commit": (Change.RESOLVED, ""),
    "status_unresolved": (Change.UNRESOLVED, ""),
    "status_regression": (Change.UNRESOLVED, "regressed"),
    "status_escalating": (Change.UNRESOLVED, "escalating"),
    "status_ignored": (Change.ARCHIVED, ""),
}

#: Sentry's substatuses, by the change they go with (``S:src/sentry/types/group.py``).
SUBSTATUSES: Final[Mapping[Change, frozenset[str]]] = {
    Change.UNRESOLVED: frozenset({"new", "ongoing", "escalating", "regressed"}),
    Change.ARCHIVED: frozenset({"archived_until_escalating", "archived_until_condition_met", "archived_forever"}),
}

UNCHANGED = "nothing was changed, the delivery was kept raw"

ACTIVITY_TYPE = Path("data.activity.type")
STATUS = Path("data.issue.status")
SUBSTATUS = Path("data.issue.substatus")
IGNORE_UNTIL = paths("data.issue.statusDetails.ignoreUntil")
IGNORE_MINUTES = paths("data.issue.statusDetails.ignoreDuration")
ASSIGNEE = paths("data.assignee", "data.issue.assignedTo")


def of_issue(envelope: Envelope, reader: Reader, _vocabulary: Vocabulary) -> Sequence[StatusChange]:
    """Normalize ``issue.*``.

    The action is the change; the body has the status at the time of sending.
    """
    change = ISSUE_ACTIONS[envelope.action]
    has_assignee = change is Change.ASSIGNED and any(path.follow(reader.body) for path in ASSIGNEE)
    if has_assignee and envelope.action != "unassigned" and _assignee(envelope, reader) is None:
        return []  # an unreadable assignee must not unassign the group
    return _changes(envelope, reader, change, "")


def of_activity(envelope: Envelope, reader: Reader, _vocabulary: Vocabulary) -> Sequence[StatusChange]:
    """Normalize an activity alert about the status.

    Other activities are no change.
    """
    meaning = meaning_of_activity(envelope)
    return _changes(envelope, reader, *meaning) if meaning else []


def meaning_of_activity(envelope: Envelope) -> tuple[Change, str] | None:
    """Return the change and the substatus of an activity.

    ``None`` for activities of Seer or of pull requests, and for unknown ones.
    """
    return ACTIVITIES.get(_activity(envelope))


def is_about_status(envelope: Envelope) -> bool:
    """Return whether an activity is a change of status.

    The status may be known or unknown.
    """
    return _activity(envelope).startswith("status_")


def _activity(envelope: Envelope) -> str:
    kind = ACTIVITY_TYPE.follow(envelope.body)
    return kind if isinstance(kind, str) else ""


def of_metric(envelope: Envelope, reader: Reader, _vocabulary: Vocabulary) -> Sequence[StatusChange]:
    """Normalize ``metric_alert.resolved``: the rule's incident is over."""
    of_alerts = alerts.metric_fingerprint(reader)
    if of_alerts is None:
        reader.warn(METRIC_ALERT.rule_id[0], f"is missing, and so is the incident; {UNCHANGED}")
        return []
    return [
        StatusChange(
            source=alerts.SOURCE,
            change=Change.RESOLVED,
            fingerprint=of_alerts,
            received_at=envelope.delivery.received_at,
        ),
    ]


def _changes(envelope: Envelope, reader: Reader, change: Change, implied: str) -> Sequence[StatusChange]:
    issue_id = identifiers.issue_id(reader, ISSUE)
    if issue_id is None:
        reader.warn(ISSUE.issue_id[0], f"is missing; {UNCHANGED}")
        return []
    if change is Change.ARCHIVED and STATUS.follow(reader.body) == "unresolved":
        # Acting on it could silence a problem that burns: the opposite mistake is only loud.
        reader.warn(STATUS, f"contradicts the archiving; {UNCHANGED}")
        return []
    received_at = envelope.delivery.received_at
    return [
        StatusChange(
            source=alerts.SOURCE,
            change=change,
            fingerprint=fingerprint.issue(issue_id),
            received_at=received_at,
            substatus=implied or _substatus(reader, change),
            snoozed_until=_snoozed_until(reader, received_at) if change is Change.ARCHIVED else None,
            assignee=_assignee(envelope, reader) if change is Change.ASSIGNED else None,
            source_count=reader.first(ISSUE.count, cleaning.count, "a count"),
        )
    ]


def _substatus(reader: Reader, change: Change) -> str:
    # The body has the status at the time of sending, which may be later than the change: then the two do not match.
    if change not in SUBSTATUSES:
        return ""
    sent = SUBSTATUS.follow(reader.body)
    if isinstance(sent, str) and sent in SUBSTATUSES[change]:
        return sent
    reader.warn(SUBSTATUS, "does not go with the action" if sent else "is missing")
    return ""


def _snoozed_until(reader: Reader, received_at: datetime) -> datetime | None:
    # None for an archiving that ends by a condition, or never.
    until = reader.first(IGNORE_UNTIL, cleaning.time, "a time we can believe")
    if until is not None:
        return until
    minutes = reader.first(IGNORE_MINUTES, cleaning.count, "a number of minutes")
    if not minutes:
        return None
    try:
        end = received_at + timedelta(minutes=minutes)
    except OverflowError:
        return None
    return end if end.year <= cleaning.LAST_YEAR else None


def _assignee(envelope: Envelope, reader: Reader) -> str | None:
    return None if envelope.action == "unassigned" else reader.first(ASSIGNEE, _actor, "a user or a team")


def _actor(value: object) -> str | None:
    if not isinstance(value, dict) or value.get("type") not in ("user", "team"):
        return None
    number = cleaning.identifier(value.get("id"))
    return number and f"sentry:{value['type']}:{number}"
