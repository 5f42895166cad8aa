"""SQL fragments that several features share."""

from collections.abc import Mapping, Sequence
from typing import Any

from signalcraft.domain.alerts import Severity
from signalcraft.domain.lifecycle import TRANSITIONS, Trigger
from signalcraft.storage.database import database

Columns = Mapping[str, str]


def query(sql: str, columns: Columns, rows: Sequence[Sequence[Any]], **parameters: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401 - as psycopg2 takes them
    """Run ``sql`` over ``rows``, passed as arrays; return its rows.

    ``{rows}`` in ``sql`` stands for the table ``r``. Without rows, no query runs.
    """
    if not rows:
        return []
    names = {f"column_{position}": list(column) for position, column in enumerate(zip(*rows, strict=True))}
    arrays = ", ".join(f"%({name})s::{kind}[]" for name, kind in zip(names, columns.values(), strict=True))
    table = f"unnest({arrays}) AS r ({', '.join(columns)})"
    cursor = database.execute_sql(sql.replace("{rows}", table), names | parameters)
    return cursor.fetchall() if cursor.description else []


def status_after(trigger: Trigger, status: str) -> str:
    """Return the transitions of ``trigger`` as SQL.

    ``status`` is a column. A status without a transition does not change.
    """
    cells = " ".join(f"WHEN '{before.value}' THEN '{after.value}'" for before, after in TRANSITIONS[trigger].items())
    return f"CASE {status} {cells} ELSE {status} END"


SEVERITY_SCALE = "'{" + ",".join(severity.value for severity in Severity) + "}'::text[]"


def rank(severity: str) -> str:
    """Return SQL for the rank of the column ``severity``."""
    return f"array_position({SEVERITY_SCALE}, {severity})"


def identity(event: str) -> str:
    """Return SQL for the hash of an event's identity, 16 bytes; ``event`` is a table with its columns."""
    named = f"{event}.workspace_id || '/' || {event}.source || '/' || {event}.source_event_id"
    return f"substr(sha256(convert_to({named}, 'UTF8')), 1, 16)"


#: The order in which every transaction locks existing groups: current groups by key, then the others. An alert locks
#: the current group before it is known whether it needs an older one.
LOCK_ORDER = "NOT g.is_current, g.workspace_id, g.group_key, g.id"
