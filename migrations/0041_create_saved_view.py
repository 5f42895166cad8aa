"""Create the table of saved views of the list of groups. Nothing else reads it."""

UP = """
CREATE TABLE saved_view (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id bigint NOT NULL REFERENCES workspace (id),
    name text NOT NULL,
    query text NOT NULL,
    CONSTRAINT saved_view_name_key UNIQUE (workspace_id, name)
);
"""
DOWN = "DROP TABLE saved_view;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
