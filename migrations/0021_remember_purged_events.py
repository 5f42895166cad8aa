"""Remember the identity of each event that retention deletes, as a hash: the same bytes count no second time."""

UP = "CREATE TABLE purged_event (identity bytea NOT NULL PRIMARY KEY);"
DOWN = "DROP TABLE purged_event;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
