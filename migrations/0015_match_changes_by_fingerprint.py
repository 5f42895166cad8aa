"""Match status changes by workspace, source and fingerprint alone: a project may be renamed, or not be named.

Of rows that differ only in the project, the newest stays.
"""

UP = """
DELETE FROM last_word w USING last_word newer
WHERE newer.workspace_id = w.workspace_id AND newer.source = w.source AND newer.fingerprint = w.fingerprint
  AND newer.change = w.change AND (newer.received_at, newer.id) > (w.received_at, w.id);
ALTER TABLE last_word DROP CONSTRAINT last_word_key;
ALTER TABLE last_word DROP COLUMN project;
ALTER TABLE last_word ADD CONSTRAINT last_word_key UNIQUE (workspace_id, source, fingerprint, change);
"""
DOWN = """
ALTER TABLE last_word DROP CONSTRAINT last_word_key;
ALTER TABLE last_word ADD COLUMN project text NOT NULL DEFAULT '';
ALTER TABLE last_word ALTER COLUMN project DROP DEFAULT;
ALTER TABLE last_word ADD CONSTRAINT last_word_key UNIQUE (workspace_id, source, fingerprint, project, change);
"""


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
