"""Database statistics: the connection pool of this process, and table sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from signalcraft.storage.database import database
from signalcraft.storage.tables import TABLES

_TABLE_SIZES: Final = """
    SELECT relname, greatest(reltuples, 0), pg_total_relation_size(oid)
    FROM pg_class WHERE relkind = 'r' AND relname = ANY(%s) AND relnamespace = current_schema()::regnamespace"""


@dataclass(frozen=True, slots=True)
class TableSize:
    """A table's estimated rows, and its bytes on disk with indexes and TOAST."""

    rows: float
    bytes: int


def connections() -> Mapping[str, int]:
    """Count pool connections: ``in_use``, ``idle``, and the limit ``most``."""
    in_use, idle, maximum = database._in_use, database._connections, database._max_connections  # noqa: SLF001 - Peewee tells it nowhere else
    return {"in_use": len(in_use), "idle": len(idle), "most": maximum}


def table_sizes() -> Mapping[str, TableSize]:
    """Return table sizes by name, from PostgreSQL's catalogue.

    Call it inside ``database.session()``.
    """
    names = [table._meta.table_name for table in TABLES]  # noqa: SLF001 - Peewee's public name for it
    cursor = database.execute_sql(_TABLE_SIZES, (names,))
    return {name: TableSize(rows, size) for name, rows, size in cursor.fetchall()}


def server_version() -> str:
    """Return PostgreSQL's version. Call it inside ``database.session()``."""
    (version,) = database.execute_sql("SHOW server_version").fetchone()
    return str(version)
