"""Find the episodes that last, and the last end of a group's, without reading all that a condition or a group had.

``episode_end`` begins with the column of ``episode_group``, which it replaces; the release before uses it likewise.
"""

from signalcraft.storage import concurrent_indexes

atomic = False

INDEXES = {
    "episode_lasting": "episode (workspace_id, source, source_event_id) WHERE resolved_at IS NULL",
    "episode_end": "episode (alert_group_id, resolved_at)",
}
SUPERSEDED = {"episode_group": "episode (alert_group_id)"}


def up(migrator, db) -> None:
    concurrent_indexes.build(db, INDEXES, instead_of=SUPERSEDED)


def down(migrator, db) -> None:
    concurrent_indexes.build(db, SUPERSEDED, instead_of=INDEXES)
