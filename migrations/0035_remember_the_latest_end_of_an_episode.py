"""Remember the latest end of an episode: one that is received long after it lasts again.

The release before writes none: an episode that it ended has ``resolved_at`` alone.
"""

UP = "ALTER TABLE episode ADD COLUMN ended_at timestamptz;"
DOWN = "ALTER TABLE episode DROP COLUMN ended_at;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
