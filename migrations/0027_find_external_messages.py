"""Index notifications by the message that they are in a channel: a pressed button names that.

The index is built while alerts are stored, so there is no transaction around it; an earlier attempt that was
interrupted has left an invalid index.
"""

from collections.abc import Iterator
from contextlib import contextmanager

atomic = False

NAME = "notification_external"
DEFINITION = "notification (external_channel, external_id) WHERE external_channel IS NOT NULL"


def up(migrator, db) -> None:
    with _patience(db):
        db.execute_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
        db.execute_sql(f"CREATE INDEX CONCURRENTLY {NAME} ON {DEFINITION}")


def down(migrator, db) -> None:
    with _patience(db):
        db.execute_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")


@contextmanager
def _patience(db) -> Iterator[None]:
    ((timeout,),) = db.execute_sql("SHOW lock_timeout").fetchall()
    db.execute_sql("SET lock_timeout = '1h'")
    try:
        yield
    finally:
        db.execute_sql(f"SET lock_timeout = '{timeout}'")
