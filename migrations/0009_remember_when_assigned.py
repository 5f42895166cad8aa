"""Remember when it was last said whose a group is: an older word on it may come later."""

UP = "ALTER TABLE alert_group ADD COLUMN assigned_at timestamptz;"
DOWN = "ALTER TABLE alert_group DROP COLUMN assigned_at;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
