"""Store what happened to groups while alerts were stored: opened, recurred, regressed, escalated.

The notifier routes these rows later (``notify.fan_out``). An alert that only joins makes none. What users, sources and
the clock do to a group is stored by ``storage.audit_log``.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from signalcraft.domain.alerts import Decision
from signalcraft.groups.bursts import StoredEvent
from signalcraft.storage.sql import Columns, Statement

#: The happening that a decision is; one that is missing is none.
KINDS: Final[Mapping[Decision, str]] = {
    Decision.NEW: "opened",
    Decision.WINDOW_EXPIRED: "recurred",
    Decision.SNOOZE_ENDED: "recurred",
    Decision.AFTER_RESOLVED: "regressed",
}
_COLUMNS: Columns = {
    "workspace_id": "bigint",
    "alert_group_id": "bigint",
    "event_id": "bigint",
    "kind": "text",
    "at": "timestamptz",
    "by": "text",
}
_INSERT = f"""
    INSERT INTO happening ({", ".join(_COLUMNS)}, actor) SELECT {", ".join(_COLUMNS)}, 'alert' FROM {{rows}}"""


def statement(events: Iterable[StoredEvent], escalated: Iterable[int]) -> Statement:
    """Return the statement that inserts a row for each group that ``events`` opened, and each of ``escalated`` groups.

    ``escalated`` are ids of groups whose severity rose. Execute it inside the transaction that stores the events.
    """
    opened: dict[int, StoredEvent] = {}
    worst: dict[int, StoredEvent] = {}
    for stored in events:
        if stored.decision in KINDS:
            opened[stored.group_id] = stored
        known = worst.get(stored.group_id)
        if known is None or stored.pending.alert.severity.rank >= known.pending.alert.severity.rank:
            worst[stored.group_id] = stored
    rows = [_row(stored, KINDS[stored.decision]) for stored in opened.values()]
    rows += [_row(worst[group_id], "escalated") for group_id in escalated if group_id not in opened]
    return Statement(_INSERT, _COLUMNS, rows)


def _row(stored: StoredEvent, kind: str) -> tuple[object, ...]:
    """Return values in the order of ``_COLUMNS``."""
    alert = stored.pending.alert
    return (stored.pending.workspace_id, stored.group_id, stored.event_id, kind, alert.received_at, alert.source)
