"""Decide whether a notification is still news: what was told before against what is so now. Pure.

A message replays no event. It is sent if the receiver does not know yet what it would say, and *covered* otherwise:
the group was resolved before the receiver was told of it, or an earlier message has said so already.
"""

from collections.abc import Mapping
from typing import Any, Final

from signalcraft.domain.alerts import GroupStatus
from signalcraft.notify.contract import Mode
from signalcraft.notify.messages import told_digest

Row = Mapping[str, Any]

#: Happenings that are news only while the group is still in the status they brought about.
_STATUS_OF: Final[Mapping[str, str]] = {"acked": GroupStatus.ACK, "snoozed": GroupStatus.SNOOZED}

#: What a receiver was told if the last message about a group failed for good, and may have arrived.
UNKNOWN: Final = "unknown"

#: What the digest that covers a card will show. By anything else, and by what a person did, the group gets a message of
#: its own.
SHOWN_BY_DIGEST: Final = ("recurred", "acked", "snoozed", "resolved", "assigned")


def is_news(notification: Row, group: Row) -> bool:
    """Return whether sending ``notification`` now would tell the receiver something.

    ``notification`` has ``told_before``, the status of the group that the receiver was last told, or ``UNKNOWN``;
    ``group`` is the group as it is now, an expired snooze as open.
    """
    if notification["is_test"]:
        return True
    if notification["undelivered_to"]:  # some have it; that the group has ended since is another message, to all
        return bool((notification["reason"] == "resolved") == (group["status"] == GroupStatus.RESOLVED))
    if notification["mode"] == Mode.REPLY:
        return bool(group["status"] == GroupStatus.OPEN)
    card_news = _is_card_news(notification, group) if notification["mode"] == Mode.CARD else None
    if card_news is not None:
        return card_news
    if group["status"] == GroupStatus.RESOLVED:
        return _is_end_news(notification, group)
    return _is_news_of_open_group(notification, group)


def _is_card_news(notification: Row, group: Row) -> bool | None:
    """Return whether a card is to be sent, None if that is as with an event."""
    if notification["told_digest"] is not None:
        return bool(notification["told_digest"] != told_digest(group))
    is_covered = notification["covered_by"] is not None and not notification["urgency"]
    if is_covered and notification["reason"] in SHOWN_BY_DIGEST:
        # It may have arrived before the digest did.
        return bool(notification["tries"] and group["status"] == GroupStatus.RESOLVED)
    return None


def _is_end_news(notification: Row, group: Row) -> bool:
    """Return whether the end of a group is news: to who knows it as open, or was to be told of it long ago."""
    told = notification["told_before"]
    if told is not None:
        return bool(told != GroupStatus.RESOLVED)
    if notification["tries"]:  # it may have arrived
        return True
    return notification["reason"] not in ("resolved", "reopened") and not _ended_in_time(notification, group)


def _is_news_of_open_group(notification: Row, group: Row) -> bool:
    reason = notification["reason"]
    if reason == "resolved":
        return False
    if reason == "reopened":
        told = notification["told_before"]
        is_told_as_over = told in (None, UNKNOWN, GroupStatus.RESOLVED)
        return bool(is_told_as_over or (told != GroupStatus.OPEN and group["status"] == GroupStatus.OPEN))
    if reason in _STATUS_OF:
        return bool(group["status"] == _STATUS_OF[reason])
    return bool(group["status"] != GroupStatus.SNOOZED)


def _ended_in_time(notification: Row, group: Row) -> bool:
    """Return whether the group was resolved before its first message was due: that needs no message."""
    return bool(group["resolved_at"] <= notification["due_at"])
