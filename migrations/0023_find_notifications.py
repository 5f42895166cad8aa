"""Index the notifications of a workspace by receiver and by state, for the lists of the API."""

INDEXES = {
    "notification_receiver": "notification (workspace_id, receiver, id DESC)",
    "notification_state": "notification (workspace_id, state, id DESC)",
}


def up(migrator, db) -> None:
    for name, definition in INDEXES.items():
        db.execute_sql(f"CREATE INDEX {name} ON {definition}")


def down(migrator, db) -> None:
    for name in INDEXES:
        db.execute_sql(f"DROP INDEX {name}")
