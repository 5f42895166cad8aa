"""Claim rows of the inbox by time: an advisory lock of a session does not work behind PgBouncer in transaction mode."""

UP = "ALTER TABLE inbox ADD COLUMN claimed_at timestamptz;"
DOWN = "ALTER TABLE inbox DROP COLUMN claimed_at;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
