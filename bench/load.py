"""Fill a database with groups and events: a million in about a minute, by SQL alone. Old rows have no payload.

``python -m bench.load DATABASE_URL [--groups --events --workspaces]`` fills a migrated, empty database.

Group ``n`` (from 1) is in workspace ``(n - 1) % workspaces + 1``; all else is computed from ``n`` and ``m``, the number
of groups of the workspace before it, so that a matching delivery can be made. Its events are ten minutes apart and
end with its ``last_seen_at``, between a day and a month ago. One in five is resolved, one in twenty
acknowledged, one in twenty snoozed, half of these without an end.
"""

import argparse
import contextlib
import time
from dataclasses import dataclass, replace
from typing import Self

import psycopg2

from signalcraft.domain.grouping import group_key

PROJECTS = 50
_FIRST_ISSUE = 5_000_000_000

#: Equal to ``project_of``, ``environment_of`` and ``issue_of``; ``_check`` compares the keys.
_FACTS = """
    CREATE TEMPORARY TABLE fact ON COMMIT PRESERVE ROWS AS
    SELECT n, m, (n - 1) %% %(workspaces)s + 1 AS workspace_id,
           'project-' || m %% 50 AS project,
           CASE WHEN m / 3 %% 20 < 16 THEN 'prod' WHEN m / 3 %% 20 < 19 THEN 'staging' ELSE 'dev' END AS environment,
           (5000000000 + n)::text AS issue_id,
           CASE WHEN m / 7 %% 20 < 4 THEN 'resolved' WHEN m / 7 %% 20 = 4 THEN 'ack' WHEN m / 7 %% 20 = 5 THEN 'snoozed'
                ELSE 'open' END AS status,
           (ARRAY['info', 'low', 'med', 'high', 'critical'])[1 + m / 11 %% 5] AS severity,
           date_trunc('hour', now()) - interval '1 day'
               - (n * 7919 %% 2505600) * interval '1 second' AS last_seen_at,
           %(events)s / %(groups)s + (n <= %(events)s %% %(groups)s)::int AS count
    FROM generate_series(1::bigint, %(groups)s) AS n, LATERAL (SELECT (n - 1) / %(workspaces)s AS m) AS place"""

_WORKSPACES = "INSERT INTO workspace (slug) SELECT 'bench-' || n FROM generate_series(2, %(workspaces)s) AS n"

_GROUPS = """
    INSERT INTO alert_group (workspace_id, group_key, source, project, environment, fingerprint, issue_id, title, link,
                             severity, alert_severity, status, is_current, count, first_seen_at, last_seen_at,
                             resolved_at, snoozed_until, assignee_user_id)
    SELECT workspace_id,
           'v1:' || encode(sha256(convert_to(format('["sentry","%%s","%%s","issue:%%s"]',
                                                    project, environment, issue_id), 'UTF8')), 'hex'),
           'sentry', project, environment, 'issue:' || issue_id, issue_id,
           (ARRAY['TimeoutError', 'KeyError', 'ValueError', 'ConnectionReset'])[1 + m %% 4]
               || ': request ' || n || ' to the gateway failed in checkout',
           'https://sentry.io/organizations/northwind/issues/' || issue_id || '/',
           severity, severity, status, status <> 'resolved', count,
           last_seen_at - (count - 1) * interval '10 minutes', last_seen_at,
           CASE status WHEN 'resolved' THEN last_seen_at END,
           CASE WHEN status = 'snoozed' AND m %% 2 = 0 THEN now() + interval '30 days' END,
           CASE WHEN m / 17 %% 10 = 3 THEN 'sentry:user:' || m %% 30 END
    FROM fact ORDER BY n"""

#: Delivery ids are in the order of the rows, as those of deliveries are.
_EVENTS = """
    INSERT INTO alert_event (workspace_id, alert_group_id, source, source_event_id, delivery_id, project, environment,
                             severity, fingerprint, issue_id, title, message, tags_json, triggered_rules, link,
                             occurred_at, received_at, decision)
    SELECT workspace_id, n, 'sentry', md5(n || '.' || k),
           lpad(to_hex(n), 12, '0') || left(md5(k || '.' || n), 20), project, environment, severity,
           'issue:' || issue_id, issue_id, 'TimeoutError: request ' || n || ' to the gateway failed in checkout',
           'request to the gateway failed', '[["release", "checkout@4.18.2"], ["server_name", "web-1"]]', '["Errors"]',
           'https://sentry.io/organizations/northwind/issues/' || issue_id || '/',
           at, at, CASE k WHEN 1 THEN 'new' ELSE 'joined' END
    FROM fact CROSS JOIN LATERAL (
        SELECT k, last_seen_at - (count - k) * interval '10 minutes' AS at FROM generate_series(1, count) AS k
    ) AS moment"""

_HOURS = """
    INSERT INTO group_hour (alert_group_id, hour, alerts)
    SELECT alert_group_id, date_trunc('hour', received_at, 'UTC') AS hour, count(*)
    FROM alert_event GROUP BY alert_group_id, hour ORDER BY alert_group_id, hour"""

#: Dropped before and added again after the load, so that they are checked once for all rows.
_FOREIGN_KEYS = """
    SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname),
           format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE contype = 'f' AND conrelid IN ('alert_event'::regclass, 'group_hour'::regclass)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Number of rows to load; ``groups`` must be a multiple of ``workspaces``."""

    groups: int
    events: int
    workspaces: int = 1

    def scaled(self, events: int) -> Self:
        """Return the same shape with another number of events."""
        return replace(self, events=events, groups=self.groups * events // self.events)


def project_of(number: int, workspaces: int = 1) -> str:
    """Return the slug of the project of a group."""
    return f"project-{_workspace_offset(number, workspaces) % PROJECTS}"


def environment_of(number: int, workspaces: int = 1) -> str:
    """Return the environment of a group."""
    offset = _workspace_offset(number, workspaces) // 3 % 20
    return "prod" if offset < 16 else "staging" if offset < 19 else "dev"


def _workspace_offset(number: int, workspaces: int) -> int:
    """Return how many groups of the workspace come before: every value occurs in every workspace."""
    return (number - 1) // workspaces


def issue_of(number: int) -> str:
    """Return the id of the Sentry issue of a group."""
    return str(_FIRST_ISSUE + number)


def fill(database_url: str, size: Size) -> float:
    """Fill the database at ``database_url``; return the seconds it took.

    Raises:
        ValueError: there are groups already, or the loaded groups do not match deliveries.
    """
    began = time.monotonic()
    values = {"groups": size.groups, "events": size.events, "workspaces": size.workspaces}
    with contextlib.closing(psycopg2.connect(database_url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT exists(SELECT FROM alert_group)")
            if cursor.fetchone()[0]:
                raise ValueError("the database has groups already")
            cursor.execute("SET synchronous_commit = off")
            cursor.execute("SET work_mem = '256MB'")
            cursor.execute("SET maintenance_work_mem = '512MB'")
            cursor.execute(_FOREIGN_KEYS, values)
            keys = cursor.fetchall()
            for statement in (_WORKSPACES, _FACTS, "TRUNCATE alert_group RESTART IDENTITY CASCADE"):
                cursor.execute(statement, values)
            for drop, _ in keys:
                cursor.execute(drop)
            cursor.execute(_GROUPS, values)
            cursor.execute(_EVENTS, values)
            cursor.execute(_HOURS)
            for _, add in keys:
                cursor.execute(add)
            _check(cursor, size)
            for statement in ("DROP TABLE fact", "VACUUM (ANALYZE) alert_group, alert_event, group_hour", "CHECKPOINT"):
                cursor.execute(statement)
    return time.monotonic() - began


def _check(cursor: "psycopg2.extensions.cursor", size: Size) -> None:
    """Check that group ``n`` has id ``n`` and the key of its deliveries."""
    cursor.execute("SELECT id, group_key FROM alert_group WHERE id <= 100 ORDER BY id")
    for number, key in cursor.fetchall():
        expected = group_key(
            source="sentry",
            project=project_of(number, size.workspaces),
            environment=environment_of(number, size.workspaces),
            fingerprint=f"issue:{issue_of(number)}",
        )
        if key != expected:
            raise ValueError(f"group {number} has another key than its deliveries")
    cursor.execute("SELECT (SELECT sum(count) FROM alert_group), (SELECT count(*) FROM alert_event)")
    if cursor.fetchone() != (size.events, size.events):
        raise ValueError("the groups' counts are not the number of events")


def main() -> None:
    """Fill the database named on the command line."""
    parser = argparse.ArgumentParser(description="Fill a migrated, empty database with groups and events.")
    parser.add_argument("database_url")
    parser.add_argument("--groups", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--workspaces", type=int, default=20)
    arguments = parser.parse_args()
    size = Size(groups=arguments.groups, events=arguments.events, workspaces=arguments.workspaces)
    seconds = fill(arguments.database_url, size)
    print(f"{size.groups:,} groups, {size.events:,} events in {seconds:.0f} s")


if __name__ == "__main__":
    main()
