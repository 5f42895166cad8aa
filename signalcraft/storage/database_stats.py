"""How much there is: connections of this process to PostgreSQL, and the sizes of our tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from signalcraft.storage.database import database
from signalcraft.storage.models import TABLES

_TABLE_SIZES: Final = """
    SELECT relname, greatest(reltuples, 0), pg_total_relation_size(oid)
    FROM pg_class WHERE relkind = 'r' AND relname = ANY(%s) AND relnamespace = current_schema()::regnamespace"""


@dataclass(frozen=True, slots=True)
class TableSize:
    """An estimate of a table's rows, and its bytes on disk with indexes and large values."""

    rows: float
    bytes: int


def connections() -> Mapping[str, int]:
    """How many connections this process's pool has ``in_use`` and ``idle``, and the ``most`` that it may have."""
    in_use, idle, most = database._in_use, database._connections, database._max_connections  # noqa: SLF001 - Peewee tells it nowhere else
    return {"in_use": len(in_use), "idle": len(idle), "most": most}


def table_sizes() -> Mapping[str, TableSize]:
    """The size of each of our tables, by name, from PostgreSQL's catalogue. Call it inside ``models.session()``."""
    names = [table._meta.table_name for table in TABLES]  # noqa: SLF001 - Peewee's public name for it
    cursor = database.execute_sql(_TABLE_SIZES, (names,))
    return {name: TableSize(rows, size) for name, rows, size in cursor.fetchall()}
