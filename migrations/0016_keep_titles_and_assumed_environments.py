"""Rank the alerts that a group has its title and link from, and mark groups whose environment is assumed.

A poorer alert no longer erases a title or a link. Existing groups have no ranks: the next alert that has a link
replaces theirs, and the next alert its title. New columns have constant defaults, so no row is rewritten.
``latest_event_id`` is superseded; it stays, since the release before still writes it while this one starts.
"""

UP = """
ALTER TABLE alert_group
    ADD COLUMN title_from text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN link_from text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN environment_is_assumed boolean NOT NULL DEFAULT false,
    ALTER COLUMN latest_event_id SET DEFAULT '';
ALTER TABLE alert_event ADD COLUMN names_environment boolean NOT NULL DEFAULT true;
CREATE INDEX alert_group_assumed ON alert_group (workspace_id, source, fingerprint) WHERE environment_is_assumed;
"""
DOWN = """
DROP INDEX alert_group_assumed;
ALTER TABLE alert_event DROP COLUMN names_environment;
ALTER TABLE alert_group
    DROP COLUMN title_from,
    DROP COLUMN link_from,
    DROP COLUMN environment_is_assumed,
    ALTER COLUMN latest_event_id DROP DEFAULT;
"""


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
