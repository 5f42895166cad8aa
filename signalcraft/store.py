"""Writing to PostgreSQL: alerts with true counts under any concurrency, what sources say of them, what failed.

The scheme of ``record`` (``docs/grouping.md`` says why each step is as it is):

1. Insert the events; only rows that were not there before count.
2. Per group key, in one order for everybody, open a group or join the current one, if the window allows.
3. What the current group refused goes where ``grouping.place`` says: into an older group, or a new one.
4. Point the events at their groups, and see whether a group spiked.
5. Add to the counts of the hour.

No lock but the rows' own is taken, always in one order (``statements.LOCK_ORDER``), so transactions wait for each
other and never in a circle. Call everything here inside ``models.session()``.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Final

import orjson
from peewee import fn

from signalcraft import hours, statements
from signalcraft.domain.alerts import Decision, GroupSnapshot, GroupStatus, Severity
from signalcraft.domain.deliveries import AcceptedDelivery
from signalcraft.domain.errors import PermanentError
from signalcraft.domain.grouping import Policy, bucket_start
from signalcraft.placing import Placements, place_events
from signalcraft.runs import Arrival, Home
from signalcraft.storage.database import database, refusals
from signalcraft.storage.models import FailedDelivery, UnhandledDelivery, columns_of
from signalcraft.storage.sql import query

#: How many deliveries of unknown meaning a workspace keeps.
UNHANDLED_KEPT: Final = 1_000

_FORGET_OLD_UNHANDLED = """
    DELETE FROM unhandled_delivery WHERE workspace_id = %(workspace_id)s AND id <= (
        SELECT id FROM unhandled_delivery WHERE workspace_id = %(workspace_id)s
        ORDER BY id DESC OFFSET %(kept)s LIMIT 1
    )"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a batch came to: where each alert that was not there before went, and each group it touched, by id.

    ``grouped_in`` is how many seconds finding those groups took.
    """

    homes: Sequence[Home] = ()
    duplicates: int = 0
    grouped_in: float = 0.0
    groups: Mapping[int, GroupSnapshot] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def created(self) -> int:
        """How many groups were opened."""
        return len(self.decisions) - sum(decision is Decision.JOINED for decision in self.decisions.values())

    @property
    def updated(self) -> int:
        """How many groups that were there before were joined."""
        return len(self.groups) - self.created

    @property
    def decisions(self) -> Mapping[int, Decision]:
        """What happened to each group: why it was opened, else that it was joined."""
        decisions = {home.group_id: home.decision for home in self.homes}
        return decisions | {home.group_id: home.decision for home in self.homes if home.decision is not Decision.JOINED}


def record(arrivals: Sequence[Arrival], policy: Policy) -> Recorded:
    """Store alerts of any workspaces and keys, each once, in one transaction.

    One that is there already adds only the rule that sent it.

    Raises:
        NotStorable: PostgreSQL refuses one of them; nothing was stored.
        DatabaseUnavailable: another transaction came first; nothing was stored, try again.
    """
    with refusals(), database.atomic():
        fresh = _insert_events(_merge_copies(arrivals))
        began = time.perf_counter()
        placements = place_events(fresh, policy.window)
        grouped_in = time.perf_counter() - began
        _point_events(placements.homes)
        _mark_spikes(placements, policy)
        hours.count(arrivals, placements.homes)
        return Recorded(
            homes=placements.homes,
            duplicates=len(arrivals) - len(fresh),
            grouped_in=grouped_in,
            groups=_snapshots(placements),
        )


def preview(arrivals: Sequence[Arrival], policy: Policy) -> Recorded:
    """What ``record`` would do now. Nothing is stored; groups that would be opened have ids that never come to be."""
    with database.atomic() as transaction:
        recorded = record(arrivals, policy)
        transaction.rollback()
        return recorded


def _merge_copies(arrivals: Iterable[Arrival]) -> list[Arrival]:
    """One arrival an alert: the one received first, with the rules of all; in the order of their identities."""
    copies: dict[tuple[int, str, str], list[Arrival]] = defaultdict(list)
    for arrival in arrivals:
        copies[arrival.identity].append(arrival)
    return [
        replace(
            min(copies[identity], key=lambda copy: copy.alert.received_at),
            rules=tuple(sorted({rule for copy in copies[identity] for rule in copy.rules})),
        )
        for identity in sorted(copies)
    ]


def _insert_events(arrivals: Sequence[Arrival]) -> dict[int, Arrival]:
    """Those that were not there yet, by the id they have now."""
    rows = query(statements.INSERT_EVENTS, statements.EVENT_COLUMNS, [_event_row(arrival) for arrival in arrivals])
    by_identity = {arrival.identity: arrival for arrival in arrivals}
    return {
        event_id: by_identity[workspace_id, source, source_event_id]
        for event_id, workspace_id, source, source_event_id, is_new in rows
        if is_new
    }


def _event_row(arrival: Arrival) -> tuple[object, ...]:
    """In the order of ``statements.EVENT_COLUMNS``."""
    alert = arrival.alert
    return (
        arrival.workspace_id,
        alert.source,
        alert.source_event_id,
        arrival.delivery_id,
        alert.project,
        alert.environment,
        alert.severity.value,
        alert.fingerprint,
        alert.issue_id,
        alert.title,
        alert.description,
        orjson.dumps(alert.tags).decode(),
        orjson.dumps(arrival.rules).decode(),
        alert.link,
        alert.occurred_at,
        alert.received_at,
    )


def _point_events(homes: Iterable[Home]) -> None:
    rows = [(home.event_id, home.group_id, home.decision.value, home.arrival.payload) for home in homes]
    query(statements.POINT_EVENTS, statements.HOME_COLUMNS, rows)


def _mark_spikes(placements: Placements, policy: Policy) -> None:
    """A group that spiked is one step worse from then on."""
    if not policy.spike_count:
        return
    buckets = {
        (home.group_id, bucket_start(home.arrival.alert.received_at, policy.spike_minutes)) for home in placements.homes
    }
    spiked = query(
        statements.MARK_SPIKES,
        statements.BUCKET_COLUMNS,
        sorted(buckets),
        spike_count=policy.spike_count,
        bucket=timedelta(minutes=policy.spike_minutes),
    )
    placements.escalated.update(group_id for (group_id,) in spiked)


def _snapshots(placements: Placements) -> dict[int, GroupSnapshot]:
    opened = {home.group_id for home in placements.homes if home.decision is not Decision.JOINED}
    rows = query(
        statements.SNAPSHOTS,
        statements.SNAPSHOT_COLUMNS,
        sorted({(home.group_id,) for home in placements.homes}),
    )
    names = tuple(GroupSnapshot.__dataclass_fields__)
    snapshots = (dict(zip(names, row, strict=False)) for row in rows)
    return {
        values["id"]: GroupSnapshot(
            **values
            | {
                "severity": Severity(values["severity"]),
                "status": GroupStatus(values["status"]),
                "escalated": values["id"] in placements.escalated - opened,
            },
        )
        for values in snapshots
    }


def set_aside(accepted: AcceptedDelivery, error: PermanentError, *, stage: str) -> bool:
    """Keep a delivery that cannot be worked off, with its bytes and the reason; whether it was not kept already."""
    why = {"stage": stage, "code": error.code, "reason": str(error)}
    insert = FailedDelivery.insert(columns_of(accepted) | why).on_conflict_ignore().returning(FailedDelivery.id)
    return bool(list(insert.execute()))


def keep_unhandled(deliveries: Sequence[AcceptedDelivery]) -> None:
    """Keep deliveries raw of which nobody knows what they mean, the newest ``UNHANDLED_KEPT`` of each workspace.

    Each body once: whoever replays one, under whatever unsigned headers, must not push the others out.
    """
    if not deliveries:
        return
    for accepted in deliveries:
        same = (UnhandledDelivery.workspace == accepted.workspace_id) & (
            fn.sha256(UnhandledDelivery.body) == hashlib.sha256(accepted.delivery.body).digest()
        )
        if not UnhandledDelivery.select().where(same).exists():
            UnhandledDelivery.insert(columns_of(accepted)).on_conflict_ignore().execute()
    for workspace_id in sorted({accepted.workspace_id for accepted in deliveries}):
        database.execute_sql(_FORGET_OLD_UNHANDLED, {"workspace_id": workspace_id, "kept": UNHANDLED_KEPT})
