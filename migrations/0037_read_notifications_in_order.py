"""Index what waits by its urgency, and the lists of notifications so that their order has no other index.

The notifier sorted all that was due before each message. With the plain id, PostgreSQL took a list from the primary
key, past all that other receivers were sent since. The release before reads these lists more slowly meanwhile.
"""

from signalcraft.storage import concurrent_indexes

atomic = False

INDEXES = {
    "notification_priority": "notification (receiver, is_test DESC, (urgency = 2) DESC, rank DESC, due_at, id)"
    " WHERE state IN ('pending', 'sending')",
    "notification_newest": "notification (workspace_id, (id * -1))",
    "notification_of_receiver": "notification (workspace_id, receiver, (id * -1))",
    "notification_of_state": "notification (workspace_id, state, (id * -1))",
    "notification_of_receiver_and_state": "notification (workspace_id, receiver, state, (id * -1))",
}
SUPERSEDED = {
    "notification_listing": "notification (workspace_id, id DESC)",
    "notification_receiver": "notification (workspace_id, receiver, id DESC)",
    "notification_state": "notification (workspace_id, state, id DESC)",
}


def up(migrator, db) -> None:
    concurrent_indexes.build(db, INDEXES, instead_of=SUPERSEDED)


def down(migrator, db) -> None:
    concurrent_indexes.build(db, SUPERSEDED, instead_of=INDEXES)
