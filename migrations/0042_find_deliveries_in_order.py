"""Index deliveries in the order of their ids, which begin with the time now: an alert reads and writes no other page.

By a hash each alert had a page of its own. The release before finds deliveries by either index; its ids are random.
"""

from signalcraft.storage import concurrent_indexes

atomic = False

INDEXES = {"alert_event_delivery_id": "alert_event (delivery_id)"}
SUPERSEDED = {"alert_event_delivery": "alert_event USING hash (delivery_id)"}


def up(migrator, db) -> None:
    concurrent_indexes.build(db, INDEXES, instead_of=SUPERSEDED)


def down(migrator, db) -> None:
    concurrent_indexes.build(db, SUPERSEDED, instead_of=INDEXES)
