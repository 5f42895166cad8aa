"""Say which source a webhook secret is of. Its kinds are the source's own, so the table does not list them.

The default is for the release before, which knows one source, and goes on adding its secrets while this one starts.
"""

UP = """
ALTER TABLE webhook_secret ADD COLUMN source text NOT NULL DEFAULT 'sentry';
ALTER TABLE webhook_secret DROP CONSTRAINT webhook_secret_kind_check;
"""
#: Secrets of other sources verify nothing in the release before, and their kinds are not allowed there.
DOWN = """
DELETE FROM webhook_secret WHERE source <> 'sentry';
ALTER TABLE webhook_secret DROP COLUMN source;
ALTER TABLE webhook_secret ADD CONSTRAINT webhook_secret_kind_check
    CHECK (kind IN ('integration', 'servicehook', 'legacy'));
"""


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
