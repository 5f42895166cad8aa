"""The kind function: a function of users' own."""

import pytest

from signalcraft.domain.alerts import GroupSnapshot
from signalcraft.notify.config import load
from tests.support.messages import group_message, trouble_message


def test_the_function_gets_the_reason_and_the_group() -> None:
    calls: list[tuple[str, GroupSnapshot]] = []
    receiver = load("", {}, lambda reason, group: calls.append((reason, group))).receivers["notifier"]
    receiver.send(group_message("escalated"))
    receiver.send(trouble_message())

    assert [(reason, group.id, group.escalated) for reason, group in calls] == [
        ("escalated", 41, True),
        ("receiver_broken", 0, False),
    ]


def test_what_the_function_raises_is_raised() -> None:
    def fail(reason: str, group: GroupSnapshot) -> None:
        raise RuntimeError(f"{reason} of {group.id}")

    with pytest.raises(RuntimeError, match="opened of 41"):
        load("", {}, fail).receivers["notifier"].send(group_message())
