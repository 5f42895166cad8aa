"""Status transitions of groups: one table, which Python and SQL both read.

An alert never reopens a resolved group: it opens a new one. A late alert that joins a group which was resolved after
the alert was received leaves the status as it is. A snooze whose end has passed reads as open everywhere; no job
updates it.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

from signalcraft.domain.alerts import GroupStatus
from signalcraft.domain.errors import IllegalTransition


class Trigger(StrEnum):
    """Causes of a transition: an alert that joins the group, the source, a user, or the clock."""

    ALERT = "alert"
    WORSE_ALERT = "worse_alert"
    SOURCE_RESOLVED = "source_resolved"
    SOURCE_ARCHIVED = "source_archived"
    SOURCE_UNRESOLVED = "source_unresolved"
    USER_ACK = "user_ack"
    USER_SNOOZE = "user_snooze"
    USER_RESOLVE = "user_resolve"
    USER_REOPEN = "user_reopen"
    SNOOZE_END = "snooze_end"
    INACTIVITY = "long_quiet"


_OPEN, _ACK, _SNOOZED, _RESOLVED = (
    GroupStatus.OPEN,
    GroupStatus.ACK,
    GroupStatus.SNOOZED,
    GroupStatus.RESOLVED,
)

#: trigger -> status before -> status after. A missing cell is an illegal transition.
TRANSITIONS: Final[Mapping[Trigger, Mapping[GroupStatus, GroupStatus]]] = {
    # An ack and a snooze hold for alerts of the same or a lower severity and break on a higher one.
    Trigger.ALERT: {_OPEN: _OPEN, _ACK: _ACK, _SNOOZED: _SNOOZED, _RESOLVED: _RESOLVED},
    Trigger.WORSE_ALERT: {_OPEN: _OPEN, _ACK: _OPEN, _SNOOZED: _OPEN, _RESOLVED: _RESOLVED},
    # A source's archiving is a snooze, not a resolution; it does not change a resolved group.
    Trigger.SOURCE_RESOLVED: {_OPEN: _RESOLVED, _ACK: _RESOLVED, _SNOOZED: _RESOLVED, _RESOLVED: _RESOLVED},
    Trigger.SOURCE_ARCHIVED: {_OPEN: _SNOOZED, _ACK: _SNOOZED, _SNOOZED: _SNOOZED, _RESOLVED: _RESOLVED},
    Trigger.SOURCE_UNRESOLVED: {_OPEN: _OPEN, _ACK: _ACK, _SNOOZED: _OPEN, _RESOLVED: _OPEN},
    # A user must reopen a resolved group before any other update.
    Trigger.USER_ACK: {_OPEN: _ACK, _ACK: _ACK, _SNOOZED: _ACK},
    Trigger.USER_SNOOZE: {_OPEN: _SNOOZED, _ACK: _SNOOZED, _SNOOZED: _SNOOZED},
    Trigger.USER_RESOLVE: {_OPEN: _RESOLVED, _ACK: _RESOLVED, _SNOOZED: _RESOLVED, _RESOLVED: _RESOLVED},
    Trigger.USER_REOPEN: {_OPEN: _OPEN, _ACK: _OPEN, _SNOOZED: _OPEN, _RESOLVED: _OPEN},
    # A snooze is a user's decision: the clock ends it on time, and does not resolve the group before that.
    Trigger.SNOOZE_END: {_SNOOZED: _OPEN},
    Trigger.INACTIVITY: {_OPEN: _RESOLVED, _ACK: _RESOLVED},
}


def transition(status: GroupStatus, trigger: Trigger) -> GroupStatus:
    """Return the status after ``trigger``.

    Raises:
        IllegalTransition: the table has no such cell.
    """
    try:
        return TRANSITIONS[trigger][status]
    except KeyError:
        raise IllegalTransition(f"{trigger.value} is not possible for a group that is {status.value}") from None


def status_at(status: GroupStatus, snoozed_until: datetime | None, moment: datetime) -> GroupStatus:
    """Return the effective status at ``moment``.

    An expired snooze is open; a snooze without an end never expires.
    """
    if status is GroupStatus.SNOOZED and snoozed_until is not None and snoozed_until <= moment:
        return transition(status, Trigger.SNOOZE_END)
    return status


def snooze_holds(status: GroupStatus, snoozed_until: datetime | None, moment: datetime) -> bool:
    """Return whether a snooze is active at ``moment``.

    An active snooze outlasts the grouping window.
    """
    return status_at(status, snoozed_until, moment) is GroupStatus.SNOOZED
