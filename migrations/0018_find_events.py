"""Index the list of events, and events by delivery.

A hash index of delivery ids is a third of a B-tree's size. The indexes are built while alerts are stored, so there is
no transaction around them; an earlier attempt that was interrupted has left an invalid index. A build waits for older
transactions, such as a backup, and nothing waits for it meanwhile.
"""

from collections.abc import Iterator
from contextlib import contextmanager

atomic = False

INDEXES = {
    "alert_event_listing": "alert_event (workspace_id, received_at DESC, id DESC)",
    "alert_event_delivery": "alert_event USING hash (delivery_id)",
}


def up(migrator, db) -> None:
    with _patience(db):
        _drop(db)
        for name, definition in INDEXES.items():
            db.execute_sql(f"CREATE INDEX CONCURRENTLY {name} ON {definition}")


def down(migrator, db) -> None:
    with _patience(db):
        _drop(db)


def _drop(db) -> None:
    for name in INDEXES:
        db.execute_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


@contextmanager
def _patience(db) -> Iterator[None]:
    ((timeout,),) = db.execute_sql("SHOW lock_timeout").fetchall()
    db.execute_sql("SET lock_timeout = '1h'")
    try:
        yield
    finally:
        db.execute_sql(f"SET lock_timeout = '{timeout}'")
