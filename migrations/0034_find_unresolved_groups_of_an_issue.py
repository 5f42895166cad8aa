"""Find the unresolved groups of an issue, and its group keys, without reading all groups that it ever had.

``alert_group_issue`` begins with the columns of ``alert_group_fingerprint``, which it replaces; the release before uses
it likewise. Built while alerts are stored, as in 0018.
"""

from collections.abc import Iterator
from contextlib import contextmanager

atomic = False

INDEXES = {
    "alert_group_unresolved": "alert_group (workspace_id, source, fingerprint, id) WHERE status <> 'resolved'",
    "alert_group_issue": "alert_group (workspace_id, fingerprint, group_key)",
}
SUPERSEDED = {"alert_group_fingerprint": "alert_group (workspace_id, fingerprint)"}


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
