"""Count the stored alerts of the last 28 days by group and hour, a day in each transaction.

Those that the release before stores meanwhile are missing in the charts of that hour, and nowhere else.
"""

atomic = False

DAYS = 28
UP = """
INSERT INTO group_hour AS h (alert_group_id, hour, alerts)
SELECT alert_group_id, date_trunc('hour', received_at, 'UTC') AS hour, count(*)
FROM alert_event
WHERE received_at >= date_trunc('day', now(), 'UTC') - %(day)s * interval '1 day'
  AND received_at < date_trunc('day', now(), 'UTC') - (%(day)s - 1) * interval '1 day'
GROUP BY alert_group_id, hour ORDER BY alert_group_id, hour
ON CONFLICT (alert_group_id, hour) DO UPDATE SET alerts = greatest(h.alerts, excluded.alerts)
"""


def up(migrator, db) -> None:
    for day in range(DAYS):
        db.execute_sql(UP, {"day": day})


def down(migrator, db) -> None:
    pass
