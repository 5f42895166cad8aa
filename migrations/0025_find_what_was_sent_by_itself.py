"""Index what was sent by itself, and digests: both are counted before each message, among all that digests cover.

In a storm a receiver has tens of thousands of covered notifications of the last minute.
"""

from signalcraft.storage import concurrent_indexes

atomic = False

INDEXES = {
    "notification_sent_alone": "notification (receiver, sent_at) WHERE covered_by IS NULL AND mode <> 'digest'",
    "notification_digest": "notification (receiver, sent_at) WHERE mode = 'digest'",
}


def up(migrator, db) -> None:
    concurrent_indexes.build(db, INDEXES)


def down(migrator, db) -> None:
    concurrent_indexes.drop(db, INDEXES)
