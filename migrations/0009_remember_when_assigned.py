"""Store the time of the last assignment: an older assignment may be processed later."""

UP = "ALTER TABLE alert_group ADD COLUMN assigned_at timestamptz;"
DOWN = "ALTER TABLE alert_group DROP COLUMN assigned_at;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
