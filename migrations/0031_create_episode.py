"""Create the table of episodes: conditions that last until their source says that they are over.

Nothing reads it for a source whose alerts are no episodes.
"""

UP = """
CREATE TABLE episode (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id bigint NOT NULL REFERENCES workspace (id),
    source text NOT NULL,
    source_event_id text COLLATE "C" NOT NULL,
    alert_group_id bigint REFERENCES alert_group (id) ON DELETE CASCADE,
    last_seen_at timestamptz NOT NULL,
    resolved_at timestamptz,
    CONSTRAINT episode_identity_key UNIQUE (workspace_id, source, source_event_id)
);
CREATE INDEX episode_group ON episode (alert_group_id);
"""
DOWN = "DROP TABLE episode;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
