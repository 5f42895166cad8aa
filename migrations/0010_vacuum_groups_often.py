"""Vacuum groups often: every alert updates one, and `q` reads titles from an index only where pages are known clean."""

UP = "ALTER TABLE alert_group SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);"
DOWN = "ALTER TABLE alert_group RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
