"""Migrations and models create the same schema."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest
from playhouse.migrations import Runner

from signalcraft.dev import embedded_servers
from signalcraft.storage import migrations, tables
from signalcraft.storage.database import database, open_database, session
from signalcraft.storage.models import AlertEvent, AlertGroup, GroupHour, LatestSourceUpdate, Workspace
from tests.support.builders import at, pending_event, record

_CATALOG = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
           pg_get_expr(d.adbin, d.adrelid), a.attidentity::text, a.attcollation::regcollation::text
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), NULL, NULL, NULL, NULL
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT tablename, indexname, indexdef, NULL, NULL, NULL, NULL FROM pg_indexes WHERE schemaname = 'public'"""


def catalog(url: str) -> set[tuple[str | None, ...]]:
    """Return every column, constraint and index, except those of the migrations' own table."""
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(_CATALOG)
            return {row for row in cursor.fetchall() if row[0] != "schema_migration"}
    finally:
        connection.close()


@pytest.fixture
def empty_url(database_url: str) -> Iterator[str]:
    url = embedded_servers.create_database(database_url, "signalcraft_schema")
    yield url
    database.close_all()
    open_database(database_url)
    embedded_servers.drop_database(database_url, "signalcraft_schema")


def test_models_and_migrations_create_the_same_tables(database_url: str, empty_url: str) -> None:
    database.close_all()
    open_database(empty_url)
    with session():
        database.create_tables(tables.TABLES)
    by_models = catalog(empty_url)
    assert len(by_models) > 100
    assert by_models == catalog(database_url)


def test_down_reverts_up_and_up_can_run_again(empty_url: str) -> None:
    before = catalog(empty_url)
    applied = migrations.apply(empty_url)
    after = catalog(empty_url)
    database.close_all()
    open_database(empty_url)
    with session():
        runner = Runner(migrations._connect(empty_url), str(migrations.DIRECTORY))
        assert runner.down(applied[0]) == applied[::-1]
    assert catalog(empty_url) == before
    assert migrations.apply(empty_url) == applied
    assert catalog(empty_url) == after


_OLD_EVENT = """
    INSERT INTO workspace (slug) VALUES ('one');
    INSERT INTO alert_group (workspace_id, group_key, source, project, environment, fingerprint, title, severity,
                             alert_severity, count, first_seen_at, last_seen_at, latest_event_id)
    VALUES (1, 'k', 'sentry', 'shop', 'prod', 'issue:1', 'Error', 'high', 'high', 1, now(), now(), 'old');
    INSERT INTO alert_event (workspace_id, alert_group_id, source, source_event_id, delivery_id, project, environment,
                             severity, fingerprint, title, message, tags_json, triggered_rules, occurred_at,
                             received_at, decision, payload_json)
    VALUES (1, 1, 'sentry', 'old', 'd', 'shop', 'prod', 'high', 'issue:1', 'Error', '', '[]', '[]', now(), now(),
            'new', '{"a":"café"}')"""


def test_bodies_survive_the_migration_from_text_to_bytes_and_back(empty_url: str) -> None:
    database.close_all()
    open_database(empty_url)
    with session():
        runner = Runner(migrations._connect(empty_url), str(migrations.DIRECTORY))
        names = runner.up()
        last_of_text = names.index("0011_keep_bodies_as_bytes") - 1
        runner.down(names[last_of_text + 1])
        database.execute_sql(_OLD_EVENT)
        runner.up()
        assert [event.payload_json for event in AlertEvent.select()] == ['{"a":"café"}'.encode()]
        AlertEvent.update(payload_json=b'{"a":"packed"}').execute()
        runner.down(names[last_of_text + 1])
        assert database.execute_sql("SELECT payload_json FROM alert_event").fetchall() == [('{"a":"packed"}',)]


_OLD_UPDATES = """
    INSERT INTO workspace (slug) VALUES ('one');
    INSERT INTO last_word (workspace_id, source, fingerprint, project, change, received_at)
    VALUES (1, 'sentry', 'issue:1', 'old', 'resolved', '2026-03-01T12:00Z'),
           (1, 'sentry', 'issue:1', 'new', 'resolved', '2026-03-01T12:05Z'),
           (1, 'sentry', 'issue:1', '', 'resolved', '2026-03-01T12:05Z'),
           (1, 'sentry', 'issue:1', 'old', 'archived', '2026-03-01T12:01Z'),
           (1, 'sentry', 'issue:2', 'old', 'resolved', '2026-03-01T12:02Z')"""


def test_status_changes_that_differ_only_in_the_project_become_the_newest_one(empty_url: str) -> None:
    database.close_all()
    open_database(empty_url)
    with session():
        runner = Runner(migrations._connect(empty_url), str(migrations.DIRECTORY))
        runner.up()
        runner.down("0015_match_changes_by_fingerprint")
        database.execute_sql(_OLD_UPDATES)
        runner.up()
        columns = (LatestSourceUpdate.fingerprint, LatestSourceUpdate.change, LatestSourceUpdate.received_at)
        found = LatestSourceUpdate.select(*columns).order_by(*columns).tuples()
        assert list(found) == [
            ("issue:1", "archived", at(1)),
            ("issue:1", "resolved", at(5)),
            ("issue:2", "resolved", at(2)),
        ]


def test_the_release_before_can_still_store_while_this_one_starts(empty_url: str) -> None:
    database.close_all()
    open_database(empty_url)
    with session():
        Runner(migrations._connect(empty_url), str(migrations.DIRECTORY)).up()
        database.execute_sql(_OLD_EVENT)
        database.execute_sql(_OLD_UPDATES.partition(";")[2])

        assert AlertEvent.select().count() == 1
        assert LatestSourceUpdate.select().count() == 5


_PRESSED = """
    INSERT INTO group_change (workspace_id, alert_group_id, changed_at, actor, changed_by, field, to_value)
    VALUES (1, 1, now(), 'slack', 'ann (U1)', 'status', 'ack');
    INSERT INTO happening (workspace_id, alert_group_id, kind, at, actor, by)
    VALUES (1, 1, 'acked', now(), 'slack', 'ann (U1)');
    INSERT INTO receiver_state (receiver) VALUES ('ops');
    INSERT INTO notification (alert_group_id, receiver, route, mode, reason, rank, happened_at, due_at)
    VALUES (1, 'ops', 'all', 'card', 'opened', 3, now(), now()),
           (1, 'ops', 'all', 'reply', 'escalated', 3, now(), now())"""


def test_what_people_did_in_slack_is_kept_by_a_release_before_that(empty_url: str) -> None:
    """The tables are as that one knows them, and what it cannot read has a name that it knows."""
    database.close_all()
    open_database(empty_url)
    with session():
        runner = Runner(migrations._connect(empty_url), str(migrations.DIRECTORY))
        runner.up()
        database.execute_sql(_OLD_EVENT)
        database.execute_sql(_PRESSED)
        runner.down("0026_let_slack_change_groups")
        for table, name in (("group_change", "changed_by"), ("happening", "by")):
            rows = database.execute_sql(f"SELECT actor, {name} FROM {table}").fetchall()  # noqa: S608 - names of ours
            assert rows == [("token", "ann (U1)")]
        assert database.execute_sql("SELECT mode FROM notification").fetchall() == [("card",)]


def test_a_group_of_before_the_ranks_keeps_its_link_until_an_alert_has_one(empty_url: str) -> None:
    database.close_all()
    open_database(empty_url)
    with session():
        runner = Runner(migrations._connect(empty_url), str(migrations.DIRECTORY))
        runner.up()
        runner.down("0016_keep_titles_and_assumed_environments")
        database.execute_sql(_OLD_EVENT)
        runner.up()
        found = []
        AlertGroup.update(
            group_key=pending_event().group_key, link="https://sentry.io/old", first_seen_at=at(0), last_seen_at=at(0)
        ).execute()
        for event in (pending_event("a", 1, link=None), pending_event("b", 0, link="https://sentry.io/new")):
            record(event)
            found.append(AlertGroup.select(AlertGroup.title, AlertGroup.link).tuples().get())
        assert found == [("title of a", "https://sentry.io/old"), ("title of a", "https://sentry.io/new")]


def test_stored_alerts_of_the_last_28_days_are_counted_by_group_and_hour(empty_url: str) -> None:
    database.close_all()
    open_database(empty_url)
    minutes_ago = (datetime.now(UTC) - at(0)) / timedelta(minutes=1)
    with session():
        runner = Runner(migrations._connect(empty_url), str(migrations.DIRECTORY))
        runner.up()
        Workspace.create(slug="one")
        for days in (40, 26, 3, 0):
            for minute in (0, 20, 70):
                record(pending_event(minute=minutes_ago - days * 1_440 - minute))
        before = list(GroupHour.select().order_by(GroupHour.alert_group, GroupHour.hour).tuples())
        runner.down("0028_count_alerts_by_group_and_hour")
        for _ in range(2):
            runner.up()
            after = list(GroupHour.select().order_by(GroupHour.alert_group, GroupHour.hour).tuples())
            assert sum(alerts for _, _, alerts in after) == 9
            assert set(after) <= set(before)
            runner.down("0029_count_stored_alerts_by_hour")


def test_a_release_that_waits_is_not_waited_for_by_one_that_builds_an_index(empty_url: str) -> None:
    """PostgreSQL ended one of the two as a deadlock, while the other waited for the lock within a statement."""
    with closing(psycopg2.connect(empty_url)) as running, ThreadPoolExecutor(1) as threads:
        running.autocommit = True
        with running.cursor() as cursor:
            cursor.execute("CREATE TABLE something (id int)")
            cursor.execute("SELECT pg_advisory_lock(%s)", (migrations._ADVISORY_LOCK_ID,))
            waiting = threads.submit(migrations.apply, empty_url)
            time.sleep(1)
            cursor.execute("CREATE INDEX CONCURRENTLY something_id ON something (id)")
            assert not waiting.done()
            cursor.execute("DROP TABLE something")
            cursor.execute("SELECT pg_advisory_unlock(%s)", (migrations._ADVISORY_LOCK_ID,))
        assert waiting.result(timeout=30)


def test_an_index_that_an_interrupted_migration_left_is_built_again(empty_url: str) -> None:
    migrations.apply(empty_url)
    after = catalog(empty_url)
    with closing(psycopg2.connect(empty_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM schema_migration WHERE name = '0034_find_unresolved_groups_of_an_issue'")
        cursor.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'alert_group_issue'::regclass")
        cursor.execute("DROP INDEX alert_group_unresolved")
    assert migrations.apply(empty_url) == ["0034_find_unresolved_groups_of_an_issue"]
    assert catalog(empty_url) == after
    with closing(psycopg2.connect(empty_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")
        assert cursor.fetchall() == []


def test_applying_twice_applies_nothing(empty_url: str) -> None:
    assert migrations.apply(empty_url)
    assert migrations.apply(empty_url) == []


_COPY_EVENT = """
    INSERT INTO alert_event (workspace_id, alert_group_id, source, source_event_id, issue_id, delivery_id, project,
                             environment, severity, fingerprint, title, message, tags_json, triggered_rules,
                             occurred_at, received_at, decision)
    SELECT workspace_id, alert_group_id, %s, %s, %s, delivery_id, project, environment, severity, fingerprint, title,
           message, tags_json, triggered_rules, occurred_at, received_at, decision
    FROM alert_event WHERE source_event_id = 'old'"""


def test_stored_events_get_the_ids_that_the_current_code_gives_them(empty_url: str) -> None:
    database.close_all()
    open_database(empty_url)
    with session():
        runner = Runner(migrations._connect(empty_url), str(migrations.DIRECTORY))
        names = runner.up()
        runner.down(names[names.index("0014_name_the_issue_in_event_ids")])
        database.execute_sql(_OLD_EVENT)
        stored = [
            ("a" * 32, "7"),
            ("b" * 32, None),
            (f"{'c' * 32}:7", "7"),
            ("c" * 32, "7"),
            ("issue:7:created", "7"),
            ("metric:1:open:d", None),
        ]
        for name, issue_id in stored:
            database.execute_sql(_COPY_EVENT, ("sentry", name, issue_id))
        database.execute_sql(_COPY_EVENT, ("other", "d", None))
        runner.up()
        assert {event.source_event_id for event in AlertEvent.select()} == {
            "old:project:shop",
            f"{'a' * 32}:7",
            f"{'b' * 32}:project:shop",
            f"{'c' * 32}:7",
            "c" * 32,
            "issue:7:created",
            "metric:1:open:d",
            "d",
        }
