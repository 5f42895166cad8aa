"""Count how often a delivery of the shelf was tried: one that kills whoever takes it is set aside in the end."""

UP = "ALTER TABLE inbox ADD COLUMN tries smallint NOT NULL DEFAULT 0;"
DOWN = "ALTER TABLE inbox DROP COLUMN tries;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
