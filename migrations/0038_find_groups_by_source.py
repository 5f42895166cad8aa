"""Index the groups of a workspace by source: a list of one with few groups read all groups of the others."""

from signalcraft.storage import concurrent_indexes

atomic = False

INDEXES = {"alert_group_source": "alert_group (workspace_id, source, last_seen_at DESC, id DESC)"}


def up(migrator, db) -> None:
    concurrent_indexes.build(db, INDEXES)


def down(migrator, db) -> None:
    concurrent_indexes.drop(db, INDEXES)
