"""Match status changes by workspace, source and fingerprint alone: a project may be renamed, or not be named.

Of rows that differ only in the project, the newest stays. The column stays, always empty, since the release before
still writes it while this one starts.
"""

UP = """
DELETE FROM last_word w USING last_word newer
WHERE newer.workspace_id = w.workspace_id AND newer.source = w.source AND newer.fingerprint = w.fingerprint
  AND newer.change = w.change AND (newer.received_at, newer.id) > (w.received_at, w.id);
UPDATE last_word SET project = '' WHERE project <> '';
ALTER TABLE last_word ALTER COLUMN project SET DEFAULT '';
"""
DOWN = "ALTER TABLE last_word ALTER COLUMN project DROP DEFAULT;"


def up(migrator, db) -> None:
    db.execute_sql(UP)


def down(migrator, db) -> None:
    db.execute_sql(DOWN)
