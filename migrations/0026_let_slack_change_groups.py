"""Allow the actor ``slack`` and replies in threads; remember where a receiver's messages are, and what is urgent.

The release before goes on: it reads actors and modes as text, and the new columns have defaults. The checks become
wider, so no row can break them: they are added without a look at the rows, under a lock for a moment, and validated
afterwards under one that no alert waits for. Each step is a transaction of its own, so that no two tables are locked at
once; the steps can be run again.
"""

atomic = False

ACTORS = "actor IN ('token', 'source', 'alert', 'clock', 'slack')"
MODES = "mode IN ('card', 'event', 'digest', 'reply')"
CHECKS = {
    "group_change_actor_check": ("group_change", ACTORS, ACTORS.replace(", 'slack'", "")),
    "happening_actor_check": ("happening", ACTORS, ACTORS.replace(", 'slack'", "")),
    "notification_mode_check": ("notification", MODES, MODES.replace(", 'reply'", "")),
}
COLUMNS = {
    "notification": {"urgency": "smallint NOT NULL DEFAULT 0"},
    "receiver_state": {
        "external_account": "text",
        "external_channel": "text",
        "key": "text NOT NULL DEFAULT md5(random()::text || clock_timestamp()::text)",
    },
}
#: What the release before cannot read again.
TRANSLATE = (
    "UPDATE group_change SET actor = 'token' WHERE actor = 'slack'",
    "UPDATE happening SET actor = 'token' WHERE actor = 'slack'",
    "DELETE FROM notification WHERE mode = 'reply'",
)


def up(migrator, db) -> None:
    for table, columns in COLUMNS.items():
        added = ", ".join(f"ADD COLUMN IF NOT EXISTS {name} {kind}" for name, kind in columns.items())
        _run(db, f"ALTER TABLE {table} {added}")
    for name, (table, check, _) in CHECKS.items():
        _replace(db, table, name, check)


def down(migrator, db) -> None:
    for statement in TRANSLATE:
        _run(db, statement)
    for name, (table, _, check) in CHECKS.items():
        _replace(db, table, name, check)
    for table, columns in COLUMNS.items():
        _run(db, f"ALTER TABLE {table} {', '.join(f'DROP COLUMN IF EXISTS {name}' for name in columns)}")


def _replace(db, table: str, name: str, check: str) -> None:
    dropped, added = f"DROP CONSTRAINT IF EXISTS {name}", f"ADD CONSTRAINT {name} CHECK ({check}) NOT VALID"
    _run(db, f"ALTER TABLE {table} {dropped}, {added}")
    _run(db, f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def _run(db, statement: str) -> None:
    with db.atomic():
        db.execute_sql(statement)
