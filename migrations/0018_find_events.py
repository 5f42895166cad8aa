"""Index the list of events, and events by delivery.

A hash index of delivery ids is a third of a B-tree's size.
"""

from signalcraft.storage import concurrent_indexes

atomic = False

INDEXES = {
    "alert_event_listing": "alert_event (workspace_id, received_at DESC, id DESC)",
    "alert_event_delivery": "alert_event USING hash (delivery_id)",
}


def up(migrator, db) -> None:
    concurrent_indexes.build(db, INDEXES)


def down(migrator, db) -> None:
    concurrent_indexes.drop(db, INDEXES)
