"""SQL fragments that several features share."""

from collections.abc import Mapping, Sequence
from typing import Any

from signalcraft.domain.alerts import Severity
from signalcraft.domain.lifecycle import TRANSITIONS, Trigger
from signalcraft.storage.database import database

Columns = Mapping[str, str]


def query(sql: str, columns: Columns, rows: Sequence[Sequence[Any]], **parameters: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401 - as psycopg2 takes them
    """Run one of the statements below over ``rows``; what it returns. No rows: nothing is asked."""
    if not rows:
        return []
    names = {f"column_{position}": list(column) for position, column in enumerate(zip(*rows, strict=True))}
    arrays = ", ".join(f"%({name})s::{kind}[]" for name, kind in zip(names, columns.values(), strict=True))
    table = f"unnest({arrays}) AS r ({', '.join(columns)})"
    cursor = database.execute_sql(sql.replace("{rows}", table), names | parameters)
    return cursor.fetchall() if cursor.description else []


def status_after(cause: Trigger, status: str) -> str:
    """The row of ``lifecycle``'s table for ``cause``, as SQL over the column ``status``; a missing cell stays."""
    cells = " ".join(f"WHEN '{before.value}' THEN '{after.value}'" for before, after in TRANSITIONS[cause].items())
    return f"CASE {status} {cells} ELSE {status} END"


SEVERITY_SCALE = "'{" + ",".join(severity.value for severity in Severity) + "}'::text[]"


def rank(severity: str) -> str:
    """How bad a severity is, as SQL: the place of the column ``severity`` on the scale."""
    return f"array_position({SEVERITY_SCALE}, {severity})"


#: In which order everybody locks groups that are there: those that alerts meet, by key, then those before them. An
#: alert has the first kind before it knows that it needs the second.
LOCK_ORDER = "NOT g.is_current, g.workspace_id, g.group_key, g.id"
