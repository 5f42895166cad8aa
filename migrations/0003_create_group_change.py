"""Create the audit log of groups, and add the version of a group for If-Match."""

UP = """
ALTER TABLE alert_group ADD COLUMN version bigint NOT NULL DEFAULT 1;
CREATE TABLE group_change (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id bigint NOT NULL REFERENCES workspace (id),
    alert_group_id bigint NOT NULL REFERENCES alert_group (id) ON DELETE CASCADE,
    changed_at timestamptz NOT NULL,
    actor text NOT NULL,
    changed_by text NOT NULL,
    field text NOT NULL,
    from_value text,
    to_value text,
    CONSTRAINT group_change_actor_check CHECK (actor IN ('token', 'source', 'alert')),
    CONSTRAINT group_change_field_check
        CHECK (field IN ('status', 'snoozed_until', 'assignee_user_id', 'runbook_url'))
);
CREATE INDEX group_change_listing ON group_change (alert_group_id, id DESC);
"""
DOWN = "DROP TABLE group_change; ALTER TABLE alert_group DROP COLUMN version;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
