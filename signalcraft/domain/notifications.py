"""Notification rules and the types of the two extension points, RULES and NOTIFIER."""

from collections.abc import Callable, Iterable

from signalcraft.domain.alerts import Decision, GroupSnapshot

#: A rule: why people should hear of a group, given what has just happened to it. No reason: they should not.
Evaluate = Callable[[GroupSnapshot, Decision], Iterable[str]]
#: A notifier: sees to it that people hear of a group for one reason. It should only queue what takes time.
QueueNotification = Callable[[str, GroupSnapshot], None]


def default_rule(group: GroupSnapshot, decision: Decision) -> Iterable[str]:
    """The built-in rule: people hear of groups that are new, came back after they were resolved, or grew worse."""
    if decision is Decision.AFTER_RESOLVED:
        yield "regressed"
    elif decision is not Decision.JOINED:
        yield "new"
    if group.escalated:
        yield "escalated"
