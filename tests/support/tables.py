"""Empty the tables of the test database."""

from signalcraft.storage.database import database, session
from signalcraft.storage.tables import TABLES


def empty_tables() -> None:
    """Delete all rows; ids start at 1 again."""
    names = ", ".join(f'"{table._meta.table_name}"' for table in TABLES)
    with session():
        database.execute_sql(f"TRUNCATE {names} RESTART IDENTITY CASCADE")
