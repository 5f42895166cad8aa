"""Count the tries of an inbox row: a delivery that kills each worker that claims it is finally dead-lettered."""

UP = "ALTER TABLE inbox ADD COLUMN tries smallint NOT NULL DEFAULT 0;"
DOWN = "ALTER TABLE inbox DROP COLUMN tries;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
