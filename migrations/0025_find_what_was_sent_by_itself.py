"""Index what was sent by itself, and digests: both are counted before each message, beside all that digests cover.

In a storm a receiver has tens of thousands of covered notifications of the last minute. The indexes are built while
people are told, as in migration 0018.
"""

from collections.abc import Iterator
from contextlib import contextmanager

atomic = False

INDEXES = {
    "notification_sent_alone": "notification (receiver, sent_at) WHERE covered_by IS NULL AND mode <> 'digest'",
    "notification_digest": "notification (receiver, sent_at) WHERE mode = 'digest'",
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
