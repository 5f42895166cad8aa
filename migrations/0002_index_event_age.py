"""Index events by age for retention: a block-range index costs an insert next to nothing."""

UP = "CREATE INDEX alert_event_age ON alert_event USING brin (received_at);"
DOWN = "DROP INDEX alert_event_age;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
