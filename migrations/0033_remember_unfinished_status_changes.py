"""Remember which status change of an issue was applied last, and how far one has come that is applied in steps."""

UP = """
ALTER TABLE last_word ADD COLUMN applied_at timestamptz, ADD COLUMN applied_up_to text;
CREATE INDEX last_word_unfinished ON last_word (received_at) WHERE applied_up_to IS NOT NULL;
"""
DOWN = "ALTER TABLE last_word DROP COLUMN applied_at, DROP COLUMN applied_up_to;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
