"""Keep a note with a change of a group: why somebody made it.

The release before goes on: it writes none. The check is added without a look at the rows, under a lock for a moment,
and validated afterwards under one that no alert waits for. Each step is a transaction of its own, and can be run again.
"""

atomic = False

UP = (
    """ALTER TABLE group_change
        ADD COLUMN IF NOT EXISTS note text,
        DROP CONSTRAINT IF EXISTS group_change_note_check,
        ADD CONSTRAINT group_change_note_check CHECK (char_length(note) <= 500) NOT VALID""",
    "ALTER TABLE group_change VALIDATE CONSTRAINT group_change_note_check",
)
DOWN = "ALTER TABLE group_change DROP COLUMN IF EXISTS note"


def up(migrator, db) -> None:
    for statement in UP:
        with db.atomic():
            db.execute_sql(statement)


def down(migrator, db) -> None:
    with db.atomic():
        db.execute_sql(DOWN)
