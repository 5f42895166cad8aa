"""Find the unresolved groups of an issue, and its group keys, without reading all groups that it ever had.

``alert_group_issue`` begins with the columns of ``alert_group_fingerprint``, which it replaces; the release before uses
it likewise.
"""

from signalcraft.storage import concurrent_indexes

atomic = False

INDEXES = {
    "alert_group_unresolved": "alert_group (workspace_id, source, fingerprint, id) WHERE status <> 'resolved'",
    "alert_group_issue": "alert_group (workspace_id, fingerprint, group_key)",
}
SUPERSEDED = {"alert_group_fingerprint": "alert_group (workspace_id, fingerprint)"}


def up(migrator, db) -> None:
    concurrent_indexes.build(db, INDEXES, instead_of=SUPERSEDED)


def down(migrator, db) -> None:
    concurrent_indexes.build(db, SUPERSEDED, instead_of=INDEXES)
