"""Add titles to the index of the list of groups, so that a title search need not read the groups."""

UP = """
CREATE INDEX alert_group_listing_titles ON alert_group (workspace_id, last_seen_at DESC, id DESC) INCLUDE (title);
DROP INDEX alert_group_listing;
ALTER INDEX alert_group_listing_titles RENAME TO alert_group_listing;
"""
DOWN = """
DROP INDEX alert_group_listing;
CREATE INDEX alert_group_listing ON alert_group (workspace_id, last_seen_at DESC, id DESC);
"""


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
