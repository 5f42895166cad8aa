"""SQL fragments that several features share, and statements over many rows."""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from signalcraft.domain.alerts import Severity
from signalcraft.domain.lifecycle import TRANSITIONS, Trigger
from signalcraft.storage.database import database

Columns = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement over ``rows``; ``{rows}`` in ``sql`` stands for the table ``r`` of them.

    Values may be what orjson takes, and bytes; those of ``jsonb`` columns are no text but what it shall hold.
    """

    sql: str
    columns: Columns
    rows: Sequence[Sequence[Any]]
    parameters: Mapping[str, Any] = field(default_factory=dict)


def query(sql: str, columns: Columns, rows: Sequence[Sequence[Any]], **parameters: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401 - as psycopg2 takes them
    """Execute a statement over ``rows``, without rows not at all; return its rows."""
    return query_last(Statement(sql, columns, rows, parameters))


def query_last(*statements: Statement) -> list[tuple[Any, ...]]:
    """Execute statements in one round trip, those without rows not at all; return the rows of the last.

    Rows are passed as one JSON document for each statement. An array for each column took psycopg2 seven times as long
    to write, and PostgreSQL twice as long to read.
    """
    texts: list[str] = []
    parameters: dict[str, Any] = {}
    for number, statement in enumerate(statement for statement in statements if statement.rows):
        columns = ", ".join(f"{name} {kind}" for name, kind in statement.columns.items())
        texts.append(statement.sql.replace("{rows}", f"json_to_recordset(%(rows_{number})s) AS r ({columns})"))
        documents = [dict(zip(statement.columns, row, strict=True)) for row in statement.rows]
        parameters.update(statement.parameters)
        parameters[f"rows_{number}"] = orjson.dumps(documents, default=_encode).decode()
    if not texts:
        return []
    cursor = database.execute_sql("; ".join(texts), parameters)
    return cursor.fetchall() if statements[-1].rows and cursor.description else []


def _encode(value: object) -> str:
    """Write what orjson cannot: bytes, as PostgreSQL reads them, and subclasses of datetime."""
    if isinstance(value, bytes | memoryview):
        return f"\\x{value.hex()}"
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError


def copy(table: str, columns: Columns, rows: Sequence[Sequence[Any]]) -> None:
    """Insert ``rows`` into ``table`` with COPY; a row that cannot be inserted fails all.

    Without rows, nothing is sent. No value is escaped or parsed: for rows with bodies this takes two thirds of the time
    of a JSON document.
    """
    if not rows:
        return
    encoders = [_ENCODERS[kind] for kind in columns.values()]
    count = struct.pack(">h", len(encoders))
    parts = [_COPY_HEADER]
    for row in rows:
        parts.append(count)
        for encode, value in zip(encoders, row, strict=True):
            if value is None:
                parts.append(_NULL)
            else:
                encoded = encode(value)
                parts += (_length(len(encoded)), encoded)
    parts.append(_COPY_TRAILER)
    database.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)", b"".join(parts))


#: The "Binary Format" of https://www.postgresql.org/docs/current/sql-copy.html: each field is its length and its bytes,
#: in the format in which PostgreSQL sends a value of that type.
_COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_length = struct.Struct(">i").pack
_eight_bytes = struct.Struct(">q").pack

_ENCODERS: Final[Mapping[str, Callable[[Any], bytes]]] = {
    "bigint": _eight_bytes,
    "boolean": struct.Struct("?").pack,
    "bytea": bytes,
    "jsonb": lambda value: b"\1" + orjson.dumps(value),
    "text": str.encode,
    "timestamptz": lambda moment: _eight_bytes((moment - _EPOCH) // timedelta.resolution),
}


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


def ids_of_key(row: str) -> str:
    """Return SQL for the ids of all groups of the key of ``row``: current groups and the others have an index each."""
    same_key = f"k.workspace_id = {row}.workspace_id AND k.group_key = {row}.group_key"
    of_key = f"SELECT k.id FROM alert_group k WHERE {same_key}"
    return f"{of_key} AND k.is_current UNION ALL {of_key} AND NOT k.is_current"


#: The order in which every transaction locks existing groups: current groups by key, then the others. An alert locks
#: the current group before it is known whether it needs an older one.
LOCK_ORDER = "NOT g.is_current, g.workspace_id, g.group_key, g.id"
