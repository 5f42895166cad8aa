"""Index notifications by the message that they are in a channel: a pressed button names that."""

from signalcraft.storage import concurrent_indexes

atomic = False

INDEXES = {"notification_external": "notification (external_channel, external_id) WHERE external_channel IS NOT NULL"}


def up(migrator, db) -> None:
    concurrent_indexes.build(db, INDEXES)


def down(migrator, db) -> None:
    concurrent_indexes.drop(db, INDEXES)
