"""Builders of the values that many tests need. Minutes are counted from ``NOON``."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import uuid4

from signalcraft.domain import grouping
from signalcraft.domain.alerts import Change, NormalizedAlert, Severity, StatusChange
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import DatabaseUnavailable
from signalcraft.domain.grouping import group_key
from signalcraft.groups import episodes
from signalcraft.groups import record as groups_record
from signalcraft.groups.bursts import PendingEvent
from signalcraft.sources import SOURCES
from signalcraft.sources.sentry import samples
from signalcraft.storage.compression import compress
from signalcraft.storage.database import session
from signalcraft.storage.models import AlertGroup

SECRET = "test-client-secret"
#: A worker tries without end.
MAX_TRIES = 20
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
_ids = count(1)


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


def minutes_ago(minutes: float) -> float:
    """The minute after noon that is so many minutes before now."""
    return (datetime.now(UTC) - NOON) / timedelta(minutes=1) - minutes


def pending_event(
    event_id: str = "",
    minute: float = 0,
    *,
    issue: str = "1",
    workspace_id: int = 1,
    severity: Severity = Severity.HIGH,
    environment: str = "prod",
    project: str = "api",
    rule: str = "",
    **fields: Any,  # noqa: ANN401 - of the alert
) -> PendingEvent:
    event_id = event_id or f"event-{next(_ids)}"
    texts: dict[str, Any] = {
        "title": f"title of {event_id}",
        "link": f"https://sentry.io/organizations/acme/issues/{issue}/?of={event_id}",
    }
    alert = NormalizedAlert(
        source="sentry",
        source_event_id=event_id,
        project=project,
        environment=environment,
        severity=severity,
        fingerprint=f"issue:{issue}",
        description="",
        tags=[("release", "1.0")],
        occurred_at=at(minute),
        received_at=at(minute),
        issue_id=issue,
        triggered_rule=rule or None,
        **texts | fields,
    )
    key = group_key(source="sentry", project=project, environment=environment, fingerprint=alert.fingerprint)
    return PendingEvent(
        workspace_id=workspace_id,
        delivery_id=f"delivery-of-{event_id}",
        group_key=key,
        alert=alert,
        payload=compress(b"{}"),
        rules=(rule,) if rule else (),
    )


def record(*pending: PendingEvent, policy: grouping.GroupingPolicy | None = None) -> groups_record.RecordResult:
    with session():
        return groups_record.record(pending, policy or grouping.GroupingPolicy())


def groups() -> list[AlertGroup]:
    """All groups, in the order in which they were opened."""
    with session():
        return list(AlertGroup.select().order_by(AlertGroup.id))


def change_group(group_id: int, **columns: object) -> None:
    with session():
        AlertGroup.update(**columns).where(AlertGroup.id == group_id).execute()


def accepted(name: str = "event_alert.triggered", *, minute: float = 0, **params: object) -> AcceptedDelivery:
    """A delivery of the sample ``name``, verified and identified, received ``minute`` minutes after noon."""
    sample = samples.build(name, secret=SECRET, **params)
    delivery = sample.as_delivery(at(minute))
    identity = SOURCES["sentry"].identify(delivery)
    return AcceptedDelivery(
        delivery_id=uuid4().hex,
        delivery_key=identity.delivery_key,
        workspace_id=1,
        workspace="default",
        source="sentry",
        resource=identity.resource,
        delivery=delivery,
    )


def episode(event_id: str, minute: float = 0, **fields: Any) -> PendingEvent:  # noqa: ANN401 - as pending_event has them
    """An alert that lasts until ``end`` of its id."""
    return pending_event(event_id, minute, is_episode=True, **fields)


def end(event_id: str, minute: float, *, issue: str = "1", workspace_id: int = 1) -> tuple[int, StatusChange]:
    change = StatusChange(
        source="sentry",
        change=Change.RESOLVED,
        fingerprint=f"issue:{issue}",
        received_at=at(minute),
        event_id=event_id,
    )
    return workspace_id, change


def work(
    *pending: PendingEvent,
    ends: Sequence[tuple[int, StatusChange]] = (),
    policy: grouping.GroupingPolicy | None = None,
) -> int:
    """Store alerts and ends as a worker does; return how many groups the ends changed.

    As a worker does, try again after a transaction that came first: two that need each other's locks give way.
    """
    firing = [(event.workspace_id, event.alert) for event in pending if event.alert.is_episode]
    for tries_left in reversed(range(MAX_TRIES)):
        try:
            with session():
                episodes.apply_repeats(firing)
                if pending:
                    groups_record.record(pending, policy or grouping.GroupingPolicy())
                return episodes.follow(firing, ends)
        except DatabaseUnavailable:
            if not tries_left:
                raise
    raise AssertionError("unreachable")
