"""Plans of the queries of notifications on 100,000 of them: none walks through all."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from signalcraft.groups.reading.pages import Position
from signalcraft.notify import delivery_sql, fan_out, queries, replies
from signalcraft.notify.queries import NotificationFilter, State
from signalcraft.storage.database import database, session
from signalcraft.storage.models import AlertGroup
from signalcraft.storage.sql import query
from tests.support.builders import at, pending_event, record
from tests.support.query_plans import nodes, recorded_plans
from tests.support.tables import empty_tables
from tests.support.web_client import add_workspace

PAGE = 50

#: 95 of 100 were sent to slack, four to mail; one of 1,000 waits or was given up. Half are the other workspace's.
_LOAD = """
    INSERT INTO notification (workspace_id, alert_group_id, receiver, route, mode, reason, rank, state, happened_at,
        due_at, sent_at)
    SELECT 1 + n %% 2, 1 + n %% 2000, CASE WHEN n %% 25 = 0 THEN 'mail' ELSE 'slack' END, 'all', 'event', 'opened', 3,
           CASE n %% 1000 WHEN 0 THEN 'pending' WHEN 1 THEN 'given_up' ELSE 'sent' END, now(), now(),
           CASE WHEN n %% 1000 > 1 THEN now() - (100000 - n) * interval '1 minute' END
    FROM generate_series(1, 100000) AS n"""
#: A third receiver had a storm in the last minute, which a digest has told.
_DIGEST = """
    INSERT INTO notification (receiver, route, mode, reason, rank, state, happened_at, due_at, sent_at)
    VALUES ('storm', '', 'digest', 'digest', 4, 'sent', now(), now(), now())"""
_COVERED = """
    INSERT INTO notification (workspace_id, alert_group_id, receiver, route, mode, reason, rank, state, happened_at,
        due_at, sent_at, covered_by)
    SELECT 1 + n %% 2, 1 + n %% 2000, 'storm', 'all', 'event', 'opened', 3, 'covered', now(), now(), now(),
           (SELECT max(id) FROM notification)
    FROM generate_series(1, 30000) AS n"""
#: 5,000 messages wait for a fourth receiver.
_WAITING = """
    INSERT INTO notification (workspace_id, alert_group_id, receiver, route, mode, reason, rank, state, happened_at,
        due_at)
    SELECT 1 + n %% 2, 1 + n %% 2000, 'behind', 'all', 'event', 'opened', n %% 5, 'pending', now(), now()
    FROM generate_series(1, 5000) AS n"""
_ATTEMPTS = """
    INSERT INTO notification_attempt (notification_id, outcome, code, took_ms, detail)
    SELECT id, 'sent', '', 1, '' FROM notification"""


@pytest.fixture(scope="module")
def many(database_url: str) -> Iterator[None]:  # noqa: ARG001 - for that it is open
    empty_tables()
    add_workspace("one")
    add_workspace("two")
    record(*(pending_event(issue=str(number), workspace_id=1 + number % 2) for number in range(2_000)))
    with session():
        with database.atomic():
            database.execute_sql("SET LOCAL statement_timeout = '120s'")
            for statement in (_DIGEST, _COVERED, _LOAD, _ATTEMPTS):
                database.execute_sql(statement)
        database.execute_sql("INSERT INTO receiver_state (receiver) VALUES ('mail'), ('slack'), ('storm')")
        # Of alert_group too: autovacuum may have left statistics of the rows of an earlier test.
        database.cursor().execute("VACUUM (ANALYZE) notification, notification_attempt, alert_group, happening")
    yield
    empty_tables()


@pytest.fixture
def plans(many: None, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:  # noqa: ARG001 - for its rows
    """The plans of the queries that run, as executed."""
    return recorded_plans(monkeypatch)


def check(plans: list[dict[str, Any]], *, most: int) -> None:
    assert plans
    for node in (node for plan in plans for node in nodes(plan)):
        printed = json.dumps(plans, indent=1)
        assert node["Node Type"] != "Seq Scan" or node["Relation Name"] == "receiver_state", printed
        assert (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] <= most, printed


@pytest.mark.parametrize(
    "wanted",
    [
        NotificationFilter(workspace_id=1),
        NotificationFilter(workspace_id=1, receiver="mail"),
        NotificationFilter(workspace_id=1, receiver="nobody"),
        NotificationFilter(workspace_id=1, state=State.PENDING),
        NotificationFilter(workspace_id=1, state=State.GONE),
        NotificationFilter(workspace_id=1, state=State.SENT, receiver="slack"),
        NotificationFilter(workspace_id=1, receiver="storm"),
        NotificationFilter(workspace_id=1, state=State.COVERED),
        NotificationFilter(workspace_id=1, state=State.COVERED, receiver="storm"),
        NotificationFilter(workspace_id=1, group_id=1),
        NotificationFilter(workspace_id=1, group_id=2),
        NotificationFilter(group_id=1),
    ],
)
@pytest.mark.parametrize("after", [None, Position(value=50_000, id=50_000)], ids=["first", "later"])
def test_a_page_of_notifications_and_their_attempts_reads_a_small_part(
    plans: list[dict[str, Any]], wanted: NotificationFilter, after: Position | None
) -> None:
    with session():
        queries.notifications(wanted, limit=PAGE, after=after)
    check(plans, most=80 * PAGE)


@pytest.mark.parametrize("read", [queries.waiting, queries.given_up, queries.receivers], ids=lambda read: read.__name__)
def test_a_gauge_reads_what_it_counts(plans: list[dict[str, Any]], read: Callable[[], object]) -> None:
    with session():
        assert read()
    check(plans, most=100)


@pytest.mark.parametrize("receiver", ["slack", "mail", "storm"])
def test_a_delivery_reads_what_is_due_and_what_was_sent_of_late(plans: list[dict[str, Any]], receiver: str) -> None:
    with session(), database.atomic():
        database.execute_sql(
            delivery_sql.COUNT_DUE, {"receiver": receiver, "period": timedelta(minutes=1), "limit": 11}
        )
        database.execute_sql(delivery_sql.PICK, {"receiver": receiver, "only_tests": False, "holds": False})
    check(plans, most=200)


@pytest.mark.usefixtures("many")
def test_the_most_urgent_message_is_found_without_reading_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    pick = {"receiver": "behind", "only_tests": False, "holds": False}
    with session(), database.atomic() as transaction:
        database.execute_sql(_WAITING)
        plans = recorded_plans(monkeypatch)
        assert database.execute_sql(delivery_sql.PICK, pick).rowcount == 1
        transaction.rollback()
    check(plans, most=100)  # of its group


def test_what_was_told_of_earlier_groups_of_a_key_is_found_by_the_key(plans: list[dict[str, Any]]) -> None:
    with session():
        key = AlertGroup.select(AlertGroup.workspace, AlertGroup.group_key).where(AlertGroup.id == 7).tuples().get()
        plans.clear()
        assert query(fan_out._LAST_FIRST, fan_out._KEY_COLUMNS, [key], first=list(fan_out.FIRST))
        database.execute_sql(replies._TIMES, {"group": 7, "kind": "recurred", "at": at(0)})
    check(plans, most=100)
