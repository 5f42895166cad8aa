"""Notification rules and the types of the two extension points, RULES and NOTIFIER."""

from collections.abc import Callable, Iterable

from signalcraft.domain.alerts import Decision, GroupSnapshot

#: A rule: returns the reasons to notify people about a group after a decision. No reason: no notification.
Evaluate = Callable[[GroupSnapshot, Decision], Iterable[str]]
#: A notifier: notifies people about a group, for one reason. It should only enqueue slow work.
QueueNotification = Callable[[str, GroupSnapshot], None]


def default_rule(group: GroupSnapshot, decision: Decision) -> Iterable[str]:
    """Yield the reasons to notify.

    The group is new, regressed, or escalated. This is the built-in rule.
    """
    if decision is Decision.AFTER_RESOLVED:
        yield "regressed"
    elif decision is not Decision.JOINED:
        yield "new"
    if group.escalated:
        yield "escalated"
