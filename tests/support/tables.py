"""Empty the tables of the test database."""

from signalcraft.storage import models
from signalcraft.storage.database import database, session


def empty_tables() -> None:
    """Delete all rows; ids start at 1 again."""
    tables = ", ".join(f'"{table._meta.table_name}"' for table in models.TABLES)
    with session():
        database.execute_sql(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
