"""Name the issue, else the project, in the ids of events: Sentry's event ids are unique within a project only.

Without it, a rule that reports an event from before this release would count it again, and a replay would leave it
out. Each step commits, so no lock is held for long; a migration that was interrupted may begin again. ``down`` changes
nothing: the ids are unique either way.
"""

atomic = False

STEP = 10_000

UP = """
UPDATE alert_event e SET source_event_id = n.id
FROM (
    SELECT id AS row_id, source_event_id || ':' || coalesce(nullif(issue_id, ''), 'project:' || project) AS id
    FROM alert_event
    WHERE id BETWEEN %s AND %s AND source = 'sentry' AND position(':' IN source_event_id) = 0
) n
WHERE e.id = n.row_id AND NOT EXISTS (
    SELECT FROM alert_event o
    WHERE o.workspace_id = e.workspace_id AND o.source = e.source AND o.source_event_id = n.id
);
"""


def up(migrator, db) -> None:
    first, last = db.execute_sql("SELECT min(id), max(id) FROM alert_event").fetchone()
    while first is not None and first <= last:
        db.execute_sql(UP, (first, first + STEP - 1))
        first += STEP


def down(migrator, db) -> None:
    """Keep the ids."""
