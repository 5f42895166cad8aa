"""Allow the actor ``clock`` in the audit log, for AUTO_RESOLVE_DAYS."""

UP = """
ALTER TABLE group_change
    DROP CONSTRAINT group_change_actor_check,
    ADD CONSTRAINT group_change_actor_check CHECK (actor IN ('token', 'source', 'alert', 'clock'));
"""
DOWN = """
DELETE FROM group_change WHERE actor = 'clock';
ALTER TABLE group_change
    DROP CONSTRAINT group_change_actor_check,
    ADD CONSTRAINT group_change_actor_check CHECK (actor IN ('token', 'source', 'alert'));
"""


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
