"""Vacuum groups often: every alert updates a group, and `q` needs the visibility map to read titles from an index."""

UP = "ALTER TABLE alert_group SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);"
DOWN = "ALTER TABLE alert_group RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
