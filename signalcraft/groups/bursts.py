"""Pending events, and bursts of them: events of one key without a gap longer than the window."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Self

from signalcraft.domain import grouping
from signalcraft.domain.alerts import Decision, Normalization, NormalizedAlert, Severity
from signalcraft.domain.deliveries import AcceptedDelivery, Delivery
from signalcraft.domain.grouping import Assignment, cut_into_bursts
from signalcraft.storage.compression import compress


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingEvent:
    """A normalized alert ready to insert.

    ``payload`` is the compressed body of its delivery (see ``storage.compression``), ``rules`` are the labels of the
    rules that sent it. ``environment_is_assumed``: neither it nor another alert of its problem has named one so far.
    """

    workspace_id: int
    delivery_id: str
    group_key: str
    alert: NormalizedAlert
    payload: bytes
    rules: tuple[str, ...] = ()
    environment_is_assumed: bool = False

    @classmethod
    def of(cls, alert: NormalizedAlert, delivery: Delivery, *, workspace_id: int, delivery_id: str = "") -> Self:
        """Build the pending event of ``alert``, normalized from ``delivery``."""
        return cls(
            workspace_id=workspace_id,
            delivery_id=delivery_id,
            group_key=grouping.group_key(
                source=alert.source,
                project=alert.project,
                environment=alert.environment,
                fingerprint=alert.fingerprint,
            ),
            alert=alert,
            payload=compress(delivery.body if alert.part is None else alert.part.body),
            rules=(alert.triggered_rule,) if alert.triggered_rule else (),
        )

    @property
    def identity(self) -> tuple[int, str, str]:
        """Return the unique key of the alert.

        It consists of the workspace, the source and the source's event id.
        """
        return self.workspace_id, self.alert.source, self.alert.source_event_id


def pending_events(normalization: Normalization, accepted: AcceptedDelivery) -> list[PendingEvent]:
    """Build a pending event for each alert of a delivery."""
    workspace_id, delivery_id = accepted.workspace_id, accepted.delivery_id
    return [
        PendingEvent.of(outcome, accepted.delivery, workspace_id=workspace_id, delivery_id=delivery_id)
        for outcome in normalization.outcomes
        if isinstance(outcome, NormalizedAlert)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignedEvent:
    """An event with its group, and the decision that chose the group."""

    pending: PendingEvent
    group_id: int
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent(AssignedEvent):
    """An assigned event that is a row."""

    event_id: int


_NEW_CURRENT_GROUP = Assignment(decision=Decision.NEW, is_current=True)


@dataclass(frozen=True, slots=True)
class Burst:
    """New events of one key without a gap longer than the window; one row of an upsert.

    In stream processing this is called a session window.
    """

    events: Sequence[PendingEvent]
    assignment: Assignment = _NEW_CURRENT_GROUP

    @property
    def key(self) -> tuple[int, str]:
        """Workspace and group key."""
        return self.events[0].workspace_id, self.events[0].group_key

    @property
    def first_seen_at(self) -> datetime:
        """When the first event was received."""
        return received_at(self.events[0])

    @property
    def last_seen_at(self) -> datetime:
        """When the last event was received."""
        return received_at(self.events[-1])

    @property
    def severity(self) -> Severity:
        """The highest severity of its events."""
        return max((event.alert.severity for event in self.events), key=attrgetter("rank"))

    @property
    def row(self) -> dict[str, object]:
        """The columns of a new group for this burst."""
        pending, follows = self.events[0], self.assignment.follows
        alerts = [event.alert for event in self.events]
        titled = max(alerts, key=lambda alert: (alert.has_title, *_position(alert)))
        linked = max((alert for alert in alerts if alert.link), key=_position, default=None)
        workspace_id, group_key = self.key
        counts = (alert.source_count for alert in alerts)
        return {
            "workspace_id": workspace_id,
            "group_key": group_key,
            "source": pending.alert.source,
            "project": pending.alert.project,
            "environment": pending.alert.environment,
            "environment_is_assumed": pending.environment_is_assumed,
            "fingerprint": pending.alert.fingerprint,
            "issue_id": pending.alert.issue_id,
            "title": titled.title,
            "title_from": f"{int(titled.has_title)} {_rank(titled)}",
            "link": linked.link if linked else None,
            "link_from": _rank(linked) if linked else "",
            "severity": self.severity,
            "count": len(self.events),
            "source_count": max((count for count in counts if count is not None), default=None),
            "first_seen_at": self.first_seen_at,
            "last_seen_at": self.last_seen_at,
            "is_current": self.assignment.is_current,
            "previous_group_id": follows.group_id if follows else None,
            "began_after": follows.resolved_at if follows and follows.was_resolved_by(self.first_seen_at) else None,
            "runbook_url": pending.alert.runbook_url,
        }


def _position(alert: NormalizedAlert) -> tuple[datetime, str]:
    return alert.received_at, alert.source_event_id


def _rank(alert: NormalizedAlert) -> str:
    """Return the position of an alert as text, for columns of which the greater wins."""
    moment = alert.received_at.astimezone(UTC).isoformat(timespec="microseconds")
    return f"{moment} {alert.source_event_id}"


def received_at(event: PendingEvent) -> datetime:
    """Return when an event was received."""
    return event.alert.received_at


def burst_rounds(events: Iterable[PendingEvent], window: timedelta) -> Iterator[list[Burst]]:
    """Yield burst n of every key in round n.

    No statement may touch a key twice.
    """
    by_key: dict[tuple[int, str], list[PendingEvent]] = defaultdict(list)
    for event in events:
        by_key[event.workspace_id, event.group_key].append(event)
    queues = [cut_into_bursts(events_of_key, window, received_at=received_at) for events_of_key in by_key.values()]
    while queues:
        yield [Burst(bursts.pop(0)) for bursts in queues]
        queues = [bursts for bursts in queues if bursts]
