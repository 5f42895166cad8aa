"""Which alerts belong together: the key, the window, and where a late alert belongs.

The usual case is decided inside PostgreSQL by the upsert of ``store``; the same rule stands here in Python for
what that upsert refuses: alerts that come too early or too late for the current group of their key.
``docs/grouping.md`` draws the timelines.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from signalcraft.domain.alerts import Decision, GroupStatus
from signalcraft.domain.lifecycle import snooze_holds

T = TypeVar("T")

#: Goes in front of every key, so that a better key can one day live beside this one.
KEY_VERSION = "v1"


def group_key(*, source: str, project: str, environment: str, fingerprint: str) -> str:
    """The name of "its like": alerts with one key, close enough in time, are one group.

    A JSON array is hashed, not joined strings: ``["a","bc"]`` and ``["ab","c"]`` are two keys. Parts are trimmed and
    case-folded.
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
    """``items`` of one key in order of time, cut wherever one comes more than a window after the one before."""
    runs: list[list[T]] = []
    for item in sorted(items, key=received_at):
        if runs and received_at(item) - received_at(runs[-1][-1]) <= window:
            runs[-1].append(item)
        else:
            runs.append([item])
    return runs


def bucket_start(moment: datetime, minutes: int) -> datetime:
    """The start of the fixed bucket of ``minutes`` that ``moment`` falls into, counted from 1970."""
    seconds = minutes * 60
    return datetime.fromtimestamp(moment.timestamp() // seconds * seconds, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What placing an alert needs to know of a group of its key."""

    group_id: int
    first_seen_at: datetime
    last_seen_at: datetime
    status: GroupStatus
    is_current: bool
    snoozed_until: datetime | None = None
    resolved_at: datetime | None = None
    began_after: datetime | None = None

    def reaches_back_to(self, moment: datetime, window: timedelta) -> bool:
        """Whether an alert received at ``moment`` is not too early for this group."""
        if self.began_after is not None and moment <= self.began_after:
            return False
        return moment >= self.first_seen_at - window

    def reaches_on_to(self, moment: datetime, window: timedelta) -> bool:
        """Whether an alert received at ``moment`` is not too late for this group.

        A snooze outlasts the window only where alerts meet it: in an old group it would swallow what the group after
        it, reopened since, refuses.
        """
        if self.was_resolved_by(moment):
            return False
        outlasts = self.is_current and snooze_holds(self.status, self.snoozed_until, moment)
        return outlasts or moment <= self.last_seen_at + window

    def was_resolved_by(self, moment: datetime) -> bool:
        """Whether the group had been resolved when an alert was received at ``moment``."""
        return self.resolved_at is not None and self.resolved_at <= moment

    def covers(self, moment: datetime, window: timedelta) -> bool:
        """Whether an alert received at ``moment`` belongs to this group."""
        return self.reaches_back_to(moment, window) and self.reaches_on_to(moment, window)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Where an alert goes: into the group ``joins``, or into a new one.

    A new group is current, or one that belongs to the past (a replay, an alert held up on its way) and is not.
    ``follows`` is the group before it.
    """

    decision: Decision
    joins: int | None = None
    is_current: bool = False
    follows: Span | None = None


def reason_to_open(previous: Span | None, moment: datetime) -> Decision:
    """Why an alert received at ``moment`` opens a group after ``previous``."""
    if previous is None:
        return Decision.NEW
    if previous.was_resolved_by(moment):
        return Decision.AFTER_RESOLVED
    if previous.status is GroupStatus.SNOOZED:
        return Decision.SNOOZE_ENDED
    return Decision.WINDOW_EXPIRED


def assign(moment: datetime, spans: Sequence[Span], window: timedelta) -> Assignment:
    """Where an alert received at ``moment`` belongs, given all groups of its key that it could concern.

    In this order: a group that was resolved only after the alert was received; the current group; the newest other
    that covers the moment; else a new group, which is current unless there is one that is newer than the alert.
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
    """How alerts are grouped: the window, and what a spike is (``spike_count`` 0: nothing is)."""

    window: timedelta = timedelta(minutes=60)
    spike_count: int = 100
    spike_minutes: int = 5
