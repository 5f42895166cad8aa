"""Create the hourly counts, so that statistics need not read events."""

UP = """
CREATE TABLE hourly_count (
    workspace_id bigint NOT NULL REFERENCES workspace (id),
    hour timestamptz NOT NULL,
    project text NOT NULL,
    environment text NOT NULL,
    severity text NOT NULL,
    alerts bigint NOT NULL,
    duplicates bigint NOT NULL,
    groups_new bigint NOT NULL,
    groups_updated bigint NOT NULL,
    PRIMARY KEY (workspace_id, hour, project, environment, severity)
);
"""
DOWN = "DROP TABLE hourly_count;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
