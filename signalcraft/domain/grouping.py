"""Which alerts belong together: the group key, the window, and the assignment of late alerts.

In the usual case the upsert of ``groups.record`` decides inside PostgreSQL. The same rule is here in Python for
alerts that the upsert rejects: too early or too late for the current group of their key.
``docs/grouping.md`` shows the timelines.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TypeVar

from signalcraft.domain.alerts import Decision, GroupStatus
from signalcraft.domain.lifecycle import snooze_holds

T = TypeVar("T")

#: Prefix of every key, so that a later version of the key can coexist with this one.
KEY_VERSION = "v1"


@lru_cache(maxsize=1024)  # a storm repeats a few
def group_key(*, source: str, project: str, environment: str, fingerprint: str) -> str:
    """Return the group key.

    Alerts with equal keys, close in time, are one group. The key hashes a JSON array, not joined strings:
    ``["a","bc"]`` and ``["ab","c"]`` are two keys. Parts are trimmed and case-folded.
    """
    parts = [part.strip().casefold() for part in (source, project, environment, fingerprint)]
    encoded = json.dumps(parts, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    return f"{KEY_VERSION}:{hashlib.sha256(encoded).hexdigest()}"


def cut_into_bursts(
    items: Iterable[T],
    window: timedelta,
    *,
    received_at: Callable[[T], datetime],
) -> list[list[T]]:
    """Split ``items`` of one key at gaps longer than ``window``.

    They are sorted by time first.
    """
    bursts: list[list[T]] = []
    for item in sorted(items, key=received_at):
        if bursts and received_at(item) - received_at(bursts[-1][-1]) <= window:
            bursts[-1].append(item)
        else:
            bursts.append([item])
    return bursts


def bucket_start(moment: datetime, minutes: int) -> datetime:
    """Return the start of the bucket that contains ``moment``.

    Buckets are fixed, of ``minutes`` each, counted from 1970.
    """
    seconds = minutes * 60
    return _from_epoch(moment.timestamp() // seconds * seconds)


@lru_cache(maxsize=1024)  # alerts of a batch share an hour
def _from_epoch(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The data of a group that :func:`assign` needs."""

    group_id: int
    first_seen_at: datetime
    last_seen_at: datetime
    status: GroupStatus
    is_current: bool
    snoozed_until: datetime | None = None
    resolved_at: datetime | None = None
    began_after: datetime | None = None

    def reaches_back_to(self, moment: datetime, window: timedelta) -> bool:
        """Return whether ``moment`` is not too early for this group.

        ``moment`` is when the alert was received.
        """
        if self.began_after is not None and moment <= self.began_after:
            return False
        return moment >= self.first_seen_at - window

    def reaches_on_to(self, moment: datetime, window: timedelta) -> bool:
        """Return whether ``moment`` is not too late for this group.

        ``moment`` is when the alert was received. A snooze outlasts the window only in the current group: an old
        snoozed group would absorb alerts that the group after it, reopened since, does not accept.
        """
        if self.was_resolved_by(moment):
            return False
        outlasts = self.is_current and snooze_holds(self.status, self.snoozed_until, moment)
        return outlasts or moment <= self.last_seen_at + window

    def was_resolved_by(self, moment: datetime) -> bool:
        """Return whether the group had been resolved by ``moment``."""
        return self.resolved_at is not None and self.resolved_at <= moment

    def covers(self, moment: datetime, window: timedelta) -> bool:
        """Return whether ``moment`` is covered by this group.

        ``moment`` is when the alert was received; a covered alert belongs to the group.
        """
        return self.reaches_back_to(moment, window) and self.reaches_on_to(moment, window)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The group of an alert: the group with the id ``joins``, or a new group.

    A new group is current, unless it belongs to the past (a replay, a delayed alert).
    ``follows`` is the group before it.
    """

    decision: Decision
    joins: int | None = None
    is_current: bool = False
    follows: Span | None = None


def reason_to_open(previous: Span | None, moment: datetime) -> Decision:
    """Return why an alert opens a group after ``previous``.

    The alert was received at ``moment``.
    """
    if previous is None:
        return Decision.NEW
    if previous.was_resolved_by(moment):
        return Decision.AFTER_RESOLVED
    if previous.status is GroupStatus.SNOOZED:
        return Decision.SNOOZE_ENDED
    return Decision.WINDOW_EXPIRED


def assign(moment: datetime, spans: Sequence[Span], window: timedelta) -> Assignment:
    """Assign an alert to its group, or a new one.

    The alert was received at ``moment``. ``spans`` are all groups of the key that could cover the alert. In this order:
    a group that was resolved only after the alert was received; the current group; the newest other group that covers
    the moment; else a new group, which is current unless a group is newer than the alert.
    """
    covering = [span for span in spans if span.covers(moment, window)]
    resolved_later = {span.resolved_at: span.group_id for span in covering if span.resolved_at is not None}
    if resolved_later:
        return Assignment(decision=Decision.JOINED, joins=resolved_later[min(resolved_later)])
    if covering:
        nearest = max(covering, key=lambda span: (span.is_current, span.first_seen_at))
        return Assignment(decision=Decision.JOINED, joins=nearest.group_id)
    before = [span for span in spans if span.first_seen_at <= moment]
    previous = max(before, key=lambda span: (span.last_seen_at, span.group_id), default=None)
    return Assignment(
        decision=reason_to_open(previous, moment),
        is_current=all(span.last_seen_at < moment for span in spans),
        follows=previous,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupingPolicy:
    """Grouping settings: the window, and the definition of a spike (``spike_count`` 0: no spikes)."""

    window: timedelta = timedelta(minutes=60)
    spike_count: int = 100
    spike_minutes: int = 5
