"""Find the episodes that last, and the last end of a group's, without reading all that a condition or a group had.

``episode_end`` begins with the column of ``episode_group``, which it replaces; the release before uses it likewise.
Built while alerts are stored, as in 0018.
"""

from collections.abc import Iterator
from contextlib import contextmanager

atomic = False

INDEXES = {
    "episode_lasting": "episode (workspace_id, source, source_event_id) WHERE resolved_at IS NULL",
    "episode_end": "episode (alert_group_id, resolved_at)",
}
SUPERSEDED = {"episode_group": "episode (alert_group_id)"}


def up(migrator, db) -> None:
    _replace(db, SUPERSEDED, INDEXES)


def down(migrator, db) -> None:
    _replace(db, INDEXES, SUPERSEDED)


def _replace(db, old: dict[str, str], new: dict[str, str]) -> None:
    with _patience(db):
        _drop(db, new)  # what an interrupted attempt has left
        for name, definition in new.items():
            db.execute_sql(f"CREATE INDEX CONCURRENTLY {name} ON {definition}")
        _drop(db, old)


def _drop(db, indexes: dict[str, str]) -> None:
    for name in indexes:
        db.execute_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


@contextmanager
def _patience(db) -> Iterator[None]:
    ((timeout,),) = db.execute_sql("SHOW lock_timeout").fetchall()
    db.execute_sql("SET lock_timeout = '1h'")
    try:
        yield
    finally:
        db.execute_sql(f"SET lock_timeout = '{timeout}'")
