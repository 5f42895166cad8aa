"""Index every order and every filter of the list of groups."""

UP = """
CREATE INDEX alert_group_export ON alert_group (workspace_id, id);
CREATE INDEX alert_group_first_seen ON alert_group (workspace_id, first_seen_at DESC, id DESC);
CREATE INDEX alert_group_size ON alert_group (workspace_id, count DESC, id DESC);
CREATE INDEX alert_group_rank ON alert_group (
    workspace_id,
    (CASE severity WHEN 'info' THEN 0 WHEN 'low' THEN 1 WHEN 'med' THEN 2 WHEN 'high' THEN 3 WHEN 'critical' THEN 4 END)
        DESC,
    id DESC
);
CREATE INDEX alert_group_severity ON alert_group (workspace_id, severity, last_seen_at DESC, id DESC);
CREATE INDEX alert_group_status ON alert_group (workspace_id, status, last_seen_at DESC, id DESC);
CREATE INDEX alert_group_project ON alert_group (workspace_id, project, last_seen_at DESC, id DESC);
CREATE INDEX alert_group_environment ON alert_group (workspace_id, environment, last_seen_at DESC, id DESC);
CREATE INDEX alert_group_assignee ON alert_group (workspace_id, assignee_user_id, last_seen_at DESC, id DESC)
    WHERE assignee_user_id IS NOT NULL;
"""
DOWN = """
DROP INDEX alert_group_export, alert_group_first_seen, alert_group_size, alert_group_rank, alert_group_severity,
    alert_group_status, alert_group_project, alert_group_environment, alert_group_assignee;
"""


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
