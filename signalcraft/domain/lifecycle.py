"""Which status may follow which, and why: one table, which Python and SQL both read.

An alert never brings a resolved group back: it opens a new one. What it does to a group it joins late (one that
was resolved after the alert was received) is nothing. A snooze whose end has passed reads as open everywhere;
nothing sweeps for it.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from signalcraft.domain.alerts import GroupStatus
from signalcraft.domain.errors import IllegalTransition


class Trigger(StrEnum):
    """Who or what moves a group: an alert that joins it, the source's word on it, a user, or the clock."""

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
    LONG_QUIET = "long_quiet"


_OPEN, _ACK, _SNOOZED, _RESOLVED = (
    GroupStatus.OPEN,
    GroupStatus.ACK,
    GroupStatus.SNOOZED,
    GroupStatus.RESOLVED,
)

#: cause -> status before -> status after. A missing cell is refused.
TRANSITIONS: Mapping[Trigger, Mapping[GroupStatus, GroupStatus]] = MappingProxyType(
    {
        # An ack and a snooze hold for alerts of the same or a lower severity and break on a higher one.
        Trigger.ALERT: {_OPEN: _OPEN, _ACK: _ACK, _SNOOZED: _SNOOZED, _RESOLVED: _RESOLVED},
        Trigger.WORSE_ALERT: {_OPEN: _OPEN, _ACK: _OPEN, _SNOOZED: _OPEN, _RESOLVED: _RESOLVED},
        # Sentry's archiving is a snooze, not a resolution; it does not touch what is resolved.
        Trigger.SOURCE_RESOLVED: {_OPEN: _RESOLVED, _ACK: _RESOLVED, _SNOOZED: _RESOLVED, _RESOLVED: _RESOLVED},
        Trigger.SOURCE_ARCHIVED: {_OPEN: _SNOOZED, _ACK: _SNOOZED, _SNOOZED: _SNOOZED, _RESOLVED: _RESOLVED},
        Trigger.SOURCE_UNRESOLVED: {_OPEN: _OPEN, _ACK: _ACK, _SNOOZED: _OPEN, _RESOLVED: _OPEN},
        # A user reopens what is resolved before anything else can be done with it.
        Trigger.USER_ACK: {_OPEN: _ACK, _ACK: _ACK, _SNOOZED: _ACK},
        Trigger.USER_SNOOZE: {_OPEN: _SNOOZED, _ACK: _SNOOZED, _SNOOZED: _SNOOZED},
        Trigger.USER_RESOLVE: {_OPEN: _RESOLVED, _ACK: _RESOLVED, _SNOOZED: _RESOLVED, _RESOLVED: _RESOLVED},
        Trigger.USER_REOPEN: {_OPEN: _OPEN, _ACK: _OPEN, _SNOOZED: _OPEN, _RESOLVED: _OPEN},
        # A snooze is somebody's decision: the clock ends it when it is over and does not resolve it before.
        Trigger.SNOOZE_END: {_SNOOZED: _OPEN},
        Trigger.LONG_QUIET: {_OPEN: _RESOLVED, _ACK: _RESOLVED},
    }
)


def transition(status: GroupStatus, cause: Trigger) -> GroupStatus:
    """The status after ``cause``.

    Raises:
        IllegalTransition: the table has no such cell.
    """
    try:
        return TRANSITIONS[cause][status]
    except KeyError:
        raise IllegalTransition(f"{cause.value} is not possible for a group that is {status.value}") from None


def status_at(status: GroupStatus, snoozed_until: datetime | None, moment: datetime) -> GroupStatus:
    """The status as it reads at ``moment``: an expired snooze is open; one without an end never expires."""
    if status is GroupStatus.SNOOZED and snoozed_until is not None and snoozed_until <= moment:
        return transition(status, Trigger.SNOOZE_END)
    return status


def snooze_holds(status: GroupStatus, snoozed_until: datetime | None, moment: datetime) -> bool:
    """Whether a snooze is on at ``moment``. One that is outlasts the grouping window."""
    return status_at(status, snoozed_until, moment) is GroupStatus.SNOOZED
