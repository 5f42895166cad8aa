"""Empty the tables of the test database, and compare them."""

from typing import Any

from signalcraft.storage.database import database, session
from signalcraft.storage.tables import TABLES


def empty_tables() -> None:
    """Delete all rows; ids start at 1 again."""
    names = ", ".join(f'"{table._meta.table_name}"' for table in TABLES)
    with session():
        database.execute_sql(f"TRUNCATE {names} RESTART IDENTITY CASCADE")


_MISCOUNTED_HOURS = """
    SELECT alert_group_id, hour, stored, counted
    FROM (SELECT alert_group_id, date_trunc('hour', received_at, 'UTC') AS hour, count(*) AS stored
          FROM alert_event GROUP BY alert_group_id, hour) AS event
    FULL JOIN (SELECT alert_group_id, hour, alerts AS counted FROM group_hour) AS kept USING (alert_group_id, hour)
    WHERE stored IS DISTINCT FROM counted"""


def miscounted_hours() -> list[tuple[Any, ...]]:
    """Return the hours of groups whose count is not the number of their events; there are none before a purge."""
    with session():
        found: list[tuple[Any, ...]] = database.execute_sql(_MISCOUNTED_HOURS).fetchall()
    return found
