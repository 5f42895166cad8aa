"""Create the counts of a group's alerts by hour, so that charts need not read events."""

UP = """
CREATE TABLE group_hour (
    alert_group_id bigint NOT NULL REFERENCES alert_group (id) ON DELETE CASCADE,
    hour timestamptz NOT NULL,
    alerts bigint NOT NULL,
    PRIMARY KEY (alert_group_id, hour)
);
"""
DOWN = "DROP TABLE group_hour;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
