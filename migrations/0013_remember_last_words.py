"""Store the latest status changes of an issue: with several workers, an alert may be stored after a later change."""

UP = """
CREATE TABLE last_word (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id bigint NOT NULL REFERENCES workspace (id),
    source text NOT NULL,
    fingerprint text NOT NULL,
    project text NOT NULL,
    change text NOT NULL,
    received_at timestamptz NOT NULL,
    snoozed_until timestamptz,
    assignee text,
    source_count bigint,
    CONSTRAINT last_word_key UNIQUE (workspace_id, source, fingerprint, project, change)
);
"""
DOWN = "DROP TABLE last_word;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
