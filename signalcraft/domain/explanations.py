"""Explain in sentences why an alert is in its group. Pure: rows of ``groups.reading.queries`` in, sentences out."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from signalcraft.domain.alerts import MAX_EVENT_RULES, Decision, GroupStatus

Row = Mapping[str, Any]

#: Where the environment of an alert that cannot name one is from.
_ASSUMED = (
    "Deliveries of its kind name no environment, and no other alert with this fingerprint has named one yet: "
    "{environment} is the default, until one does; its environment is then the group's."
)
_SETTLED = (
    "Deliveries of its kind name no environment: it is in the group of other alerts with this fingerprint, and has "
    "their project and environment ({environment})."
)

_DECISIONS: Final[Mapping[Decision, str]] = {
    Decision.NEW: "Received {received}, it was the first such alert and opened group {group}.",
    Decision.JOINED: (
        "Received {received}, it joined group {group}, whose alerts came from {first} to {last}, with no gap "
        "longer than the window of {minutes} minutes, except during a snooze."
    ),
    Decision.WINDOW_EXPIRED: (
        "Received {received}, it opened group {group}: {previous} had been quiet for longer than "
        "the window of {minutes} minutes."
    ),
    Decision.AFTER_RESOLVED: (
        "Received {received}, it opened group {group} as a regression: {previous} had been resolved."
    ),
    Decision.SNOOZE_ENDED: (
        "Received {received}, it opened group {group}: the snooze of {previous} was over, "
        "and so was the window of {minutes} minutes."
    ),
}


def explain(event: Row, group: Row, window: timedelta, fingerprints: Mapping[str, str]) -> Sequence[str]:
    """Return sentences that explain the grouping of an event.

    They are on the group key, the grouping decision and later changes. ``window`` is that of the current settings; it
    may have been another when the event was grouped. ``fingerprints`` says what each type of the source's means.
    """
    return [
        _key_sentence(event, fingerprints),
        *_environment_sentences(event, group),
        _decision_sentence(event, group, window),
        *_later_changes(event, group),
    ]


def _key_sentence(event: Row, fingerprints: Mapping[str, str]) -> str:
    kind, _, value = event["fingerprint"].partition(":")
    reason = fingerprints.get(kind, "its source says so").format(value=value)
    template = "It is grouped by source ({source}), project ({project}), environment ({environment}) and fingerprint"
    return f"{template.format_map(event)} ({event['fingerprint']}): {reason}."


def _environment_sentences(event: Row, group: Row) -> list[str]:
    """Say where the environment of an alert that names none is from."""
    if event["names_environment"]:
        return []
    template = _ASSUMED if group["environment_is_assumed"] else _SETTLED
    return [template.format(environment=event["environment"])]


def _decision_sentence(event: Row, group: Row, window: timedelta) -> str:
    previous = group["previous_group_id"]
    return _DECISIONS[Decision(event["decision"])].format(
        received=_time(event["received_at"]),
        group=group["id"],
        first=_time(group["first_seen_at"]),
        last=_time(group["last_seen_at"]),
        previous="the group before it" if previous is None else f"group {previous}",
        minutes=int(window / timedelta(minutes=1)),
    )


def _later_changes(event: Row, group: Row) -> list[str]:
    sentences = []
    rules = len(event["triggered_rules"])
    if rules > 1:
        sentences.append(f"{rules}{' or more' if rules >= MAX_EVENT_RULES else ''} rules sent it; it counts once.")
    if group["spiked"]:
        sentences.append(f"The group is {group['severity']}, one step above its worst alert, because it spiked.")
    if group["status"] == GroupStatus.RESOLVED:
        sentences.append(f"The group was resolved at {_time(group['resolved_at'])}.")
    elif not group["is_current"]:
        sentences.append("The group takes no new alerts any more: a newer one does, or it lies in the past.")
    return sentences


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
