"""The buttons of a card in Slack: what is on a card, and what a press of one means. Pure.

The receiver puts them on cards, and the route ``/slack/actions`` reads presses of them. A value holds the id of the
group; a duration of the select follows it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from signalcraft.domain.alerts import GroupStatus
from signalcraft.domain.deliveries import MAX_ID

BLOCK_ID: Final = "signalcraft"
#: The value of the button of a test message, which is about no group.
TEST_VALUE: Final = "test"

#: What the select offers, by the text of each.
SNOOZES: Final[Mapping[str, timedelta]] = {
    "30 minutes": timedelta(minutes=30),
    "1 hour": timedelta(hours=1),
    "4 hours": timedelta(hours=4),
    "8 hours": timedelta(hours=8),
    "1 day": timedelta(days=1),
    "3 days": timedelta(days=3),
    "1 week": timedelta(weeks=1),
}
_VALUE: Final = re.compile(r"([1-9][0-9]{0,18})(?::([1-9][0-9]{0,6}))?")


class Action(StrEnum):
    """What a press asks for. The values are the ``action_id`` of the buttons, and labels of a metric."""

    ACK = "ack"
    SNOOZE = "snooze"
    RESOLVE = "resolve"
    REOPEN = "reopen"
    TEST = "test"


#: The status that an action asks for.
STATUSES: Final[Mapping[Action, GroupStatus]] = {
    Action.ACK: GroupStatus.ACK,
    Action.SNOOZE: GroupStatus.SNOOZED,
    Action.RESOLVE: GroupStatus.RESOLVED,
    Action.REOPEN: GroupStatus.OPEN,
}
#: The buttons of a group in each status.
_SHOWN: Final[Mapping[GroupStatus, Sequence[Action]]] = {
    GroupStatus.OPEN: (Action.ACK, Action.SNOOZE, Action.RESOLVE),
    GroupStatus.ACK: (Action.RESOLVE, Action.SNOOZE),
    GroupStatus.SNOOZED: (Action.REOPEN,),
    GroupStatus.RESOLVED: (Action.REOPEN,),
}
_LABELS: Final[Mapping[Action, str]] = {
    Action.ACK: "Acknowledge",
    Action.SNOOZE: "Snooze",
    Action.RESOLVE: "Resolve",
    Action.REOPEN: "Reopen",
    Action.TEST: "Try a button",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen: an action, the group (none for a test), and for how long to snooze."""

    action: Action
    group_id: int | None = None
    snooze: timedelta | None = None


def block_of_group(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the buttons of a group, which has the fields of the API."""
    shown = _SHOWN[GroupStatus(group["status"])]
    return _block(
        [_select(group["id"]) if action is Action.SNOOZE else _button(action, group["id"]) for action in shown]
    )


def block_of_test() -> dict[str, Any]:
    """Return the button of a test message."""
    return _block([_button(Action.TEST, TEST_VALUE)])


def choice_of(pressed: Mapping[str, Any]) -> Choice | None:
    """Return what an entry of ``actions`` in Slack's payload means; None if it is none of our buttons."""
    try:
        action = Action(str(pressed.get("action_id")))
    except ValueError:
        return None
    option = pressed.get("selected_option")
    value = option.get("value") if isinstance(option, Mapping) else pressed.get("value")
    if action is Action.TEST:
        return Choice(action=action)
    match = _VALUE.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) > MAX_ID or (match[2] is None) is (action is Action.SNOOZE):
        return None
    return Choice(action=action, group_id=int(match[1]), snooze=timedelta(seconds=int(match[2])) if match[2] else None)


def _block(elements: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "actions", "block_id": BLOCK_ID, "elements": list(elements)}


def _button(action: Action, value: object) -> dict[str, Any]:
    button = {"type": "button", "action_id": action.value, "text": _text(_LABELS[action]), "value": str(value)}
    return button | ({"style": "primary"} if action is Action.ACK else {})


def _select(group_id: int) -> dict[str, Any]:
    options = [
        {"text": _text(name), "value": f"{group_id}:{length.total_seconds():.0f}"} for name, length in SNOOZES.items()
    ]
    label = _text(_LABELS[Action.SNOOZE])
    return {"type": "static_select", "action_id": Action.SNOOZE.value, "placeholder": label, "options": options}


def _text(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text}
