"""Queries of notifications for the API, the command line and metrics. Call everything inside ``database.session()``."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from signalcraft.groups.reading import pages
from signalcraft.groups.reading.pages import Page, Position, Row
from signalcraft.groups.reading.queries import group_in_workspace
from signalcraft.storage.database import database, rows
from signalcraft.storage.notification_models import Notification


class State(StrEnum):
    """What became of a notification. Values are part of the API."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    COVERED = "covered"  # a digest or an earlier message says it, or it was no news any more
    GIVEN_UP = "given_up"
    GONE = "gone"  # the receiver deleted the message


_N: Final = Notification
_COLUMNS: Final = (
    _N.id,
    _N.workspace,
    _N.alert_group.alias("alert_group_id"),
    _N.happening_id,
    _N.receiver,
    _N.route,
    _N.mode,
    _N.reason,
    _N.title,
    _N.is_test,
    _N.state,
    _N.tries,
    _N.happened_at,
    _N.due_at,
    _N.sent_at,
    _N.told_status,
    _N.external_id,
    _N.covered_by.alias("covered_by_id"),
)
#: The order of a workspace's list, newest first. PostgreSQL takes the order of plain ids from the primary key, where it
#: walks past the rows of all other receivers and states.
_NEGATED_ID: Final = _N.id * -1
_ATTEMPTS: Final = """
    SELECT notification_id, at, outcome, code, http_status, took_ms, detail FROM notification_attempt
    WHERE notification_id = ANY(%(ids)s) ORDER BY notification_id, id"""
#: What is due, and what is tried again later because an attempt failed. A wait that a route asks for is none.
_WAITS: Final = "n.state IN ('pending', 'sending') AND (n.due_at <= now() OR n.tries > 0)"
_RECEIVERS: Final = f"""
    SELECT s.receiver, s.broken_since, s.broken_code, s.last_sent_at, s.last_error_at, s.last_error_code,
           s.not_before > now() AS pauses,
           (SELECT count(*) FROM notification n WHERE n.receiver = s.receiver AND {_WAITS}) AS waiting
    FROM receiver_state s ORDER BY s.receiver"""
_OF_WORKSPACE: Final = "(%(workspace_id)s::bigint IS NULL OR n.workspace_id = %(workspace_id)s)"
_WAITING: Final = f"SELECT count(*) FROM notification n WHERE {_WAITS} AND {_OF_WORKSPACE}"
_GIVEN_UP: Final = f"SELECT count(*) FROM notification n WHERE n.state = 'given_up' AND {_OF_WORKSPACE}"
_BROKEN: Final = "SELECT receiver, broken_since IS NOT NULL FROM receiver_state ORDER BY receiver"
#: A message that was tried may have arrived, and stays one that was tried.
_RETRY: Final = """
    UPDATE notification SET state = 'pending', due_at = now(), tries = least(tries, 1), created_at = now()
    WHERE state = 'given_up' AND (%(id)s IS NULL OR id = %(id)s)"""
_INSERT_TEST: Final = """
    INSERT INTO notification (receiver, route, mode, reason, rank, title, is_test, happened_at, due_at)
    VALUES (%(receiver)s, '', 'event', 'test', 4, %(title)s, true, now(), now()) RETURNING id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationFilter:
    """Which notifications; ``None`` for any."""

    workspace_id: int | None = None
    receiver: str | None = None
    state: State | None = None
    group_id: int | None = None


def notifications(wanted: NotificationFilter, *, limit: int, after: Position | None) -> Page:
    """Return a page of notifications, newest first, each with its attempts."""
    by: dict[Any, Any] = {_N.receiver: wanted.receiver, _N.state: wanted.state}
    if wanted.group_id is None:
        by[_N.workspace] = wanted.workspace_id
    elif wanted.workspace_id is None:
        by[_N.alert_group] = wanted.group_id
    else:
        by[_N.alert_group] = group_in_workspace(wanted.workspace_id, wanted.group_id)
    conditions = [column == value for column, value in by.items() if value is not None]
    is_of_workspace = by.get(_N.workspace) is not None
    if after is not None:
        conditions.append(-after.id < _NEGATED_ID if is_of_workspace else _N.id < after.id)
    query = _N.select(*_COLUMNS, _N.id.alias("sort_value"))
    query = query.where(*conditions) if conditions else query
    query = query.order_by(_NEGATED_ID if is_of_workspace else _N.id.desc())
    page = pages.cut(pages.fetch(query.limit(limit + 1)), limit)
    return Page(rows=with_attempts(page.rows), end=page.end)


def with_attempts(notifications: Sequence[Row]) -> list[Row]:
    """Return ``notifications`` with the attempts of each, oldest first."""
    attempts: dict[int, list[Row]] = {row["id"]: [] for row in notifications}
    for attempt in rows(_ATTEMPTS, {"ids": list(attempts)}):
        attempts[attempt.pop("notification_id")].append(attempt)
    return [row | {"attempts": attempts[row["id"]]} for row in notifications]


def notification(notification_id: int) -> Row | None:
    """Return a notification with its attempts, None if there is none."""
    return next(iter(with_attempts(pages.fetch(_N.select(*_COLUMNS).where(_N.id == notification_id)))), None)


def receivers() -> list[Row]:
    """Return what is known of each receiver that a notifier has registered."""
    return rows(_RECEIVERS)


def waiting(workspace_id: int | None = None) -> int:
    """Return how many notifications should have been sent by now, of one workspace or of all."""
    return _count(_WAITING, workspace_id)


def given_up(workspace_id: int | None = None) -> int:
    """Return how many notifications were given up, and not retried, of one workspace or of all."""
    return _count(_GIVEN_UP, workspace_id)


def _count(statement: str, workspace_id: int | None) -> int:
    (number,) = database.execute_sql(statement, {"workspace_id": workspace_id}).fetchone()
    return int(number)


def broken() -> dict[str, bool]:
    """Return whether each receiver is broken, by its name."""
    return dict(database.execute_sql(_BROKEN).fetchall())


def retry(notification_id: int | None) -> int:
    """Make given-up notifications due again; return how many. ``None`` for all."""
    return int(database.execute_sql(_RETRY, {"id": notification_id}).rowcount)


def insert_test(receiver: str) -> int:
    """Queue a test message for ``receiver``; return its id."""
    title = "TEST of SignalCraft: this receiver works"
    (found,) = database.execute_sql(_INSERT_TEST, {"receiver": receiver, "title": title}).fetchone()
    return int(found)
