"""Create a bounded table of verified deliveries with an unknown resource or action."""

UP = """
CREATE TABLE unhandled_delivery (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id bigint NOT NULL REFERENCES workspace (id),
    delivery_id text NOT NULL,
    delivery_key text NOT NULL,
    source text NOT NULL,
    resource text NOT NULL,
    headers_json jsonb NOT NULL,
    body bytea NOT NULL,
    received_at timestamptz NOT NULL,
    CONSTRAINT unhandled_delivery_delivery_id_key UNIQUE (delivery_id)
);
CREATE INDEX unhandled_delivery_listing ON unhandled_delivery (workspace_id, id DESC);
"""
DOWN = "DROP TABLE unhandled_delivery;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
