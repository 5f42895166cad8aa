"""Retention: delete old events, hours, payloads, source updates and notifications; resolve inactive groups.

A group keeps its first and last event, the events that opened it, and those with a higher severity than all before.
Other events are deleted after ``RETENTION_DAYS``; payloads, dead letters and unhandled deliveries, which are bodies,
after ``PAYLOAD_RETENTION_DAYS``. Counts do not change: they say what happened, not what is still stored; only those of
a group's hours go when its events would. The identities
of deleted events stay, as hashes in ``purged_event``, so that the same bytes count no second time. A notification is
deleted when an event would be, unless it may still be needed: it waits, it is a card, or its group is not over (of a
card's digest: each group), and a receiver that was told of it will be told of its end. Rows are selected
first and changed in small transactions, so that no lock is held for long, and each is followed by a pause as long as
it took, so that alerts are stored meanwhile. Call these functions inside ``database.session()``.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from signalcraft.domain.lifecycle import Trigger
from signalcraft.storage.audit_log import Actor, with_audit_log
from signalcraft.storage.database import database
from signalcraft.storage.sql import Columns, identity, query, rank, status_after

P = ParamSpec("P")
T = TypeVar("T")

#: Rows per transaction: it takes some 2 ms, for groups 12 ms (``python -m bench purge``); on a busy machine five times
#: as long.
BATCH_SIZE: Final = 200

#: A purgeable event stays purgeable: a group's span only grows, and an earlier event of at least its severity is always
#: kept. ``ORDER BY ... LIMIT 1`` lets PostgreSQL walk the index backwards; with EXISTS it read the whole group.
_PURGEABLE_EVENTS = f"""
    FROM alert_event e JOIN alert_group g ON g.id = e.alert_group_id
    WHERE e.received_at < %(before)s AND e.decision = 'joined'
      AND e.received_at > g.first_seen_at AND e.received_at < g.last_seen_at
      AND (
          SELECT true FROM alert_event p
          WHERE p.alert_group_id = e.alert_group_id AND p.received_at < e.received_at
            AND {rank("p.severity")} >= {rank("e.severity")}
          ORDER BY p.received_at DESC LIMIT 1
      )"""
_WITH_PAYLOAD = "FROM alert_event e WHERE e.received_at < %(before)s AND e.payload_json IS NOT NULL"

#: OFFSET 0 stops PostgreSQL from searching the largest id backwards through all younger rows.
_ID_RANGE_OF_OLD_EVENTS = """
    SELECT min(id), max(id) FROM (SELECT id FROM alert_event WHERE received_at < %(before)s OFFSET 0) AS old"""

_FIND = "SELECT e.id {source} AND e.id BETWEEN %(first)s AND %(last)s"
_DELETE_EVENTS = f"""
    WITH deleted AS (DELETE FROM alert_event e WHERE id = ANY(%(ids)s) RETURNING {identity("e")} AS identity)
    INSERT INTO purged_event (identity) SELECT identity FROM deleted ORDER BY identity ON CONFLICT DO NOTHING"""
_DROP_PAYLOADS = "UPDATE alert_event SET payload_json = NULL WHERE id = ANY(%(ids)s)"

#: The time is compared again: an update may be newer than when its id was selected.
_DELETE_SOURCE_UPDATES = "DELETE FROM last_word WHERE id = ANY(%(ids)s) AND received_at < %(before)s"
_FIND_SOURCE_UPDATES = f"""
    SELECT id FROM last_word WHERE received_at < %(before)s AND id > %(after)s ORDER BY id LIMIT {BATCH_SIZE}"""

#: An episode that still lasts is received again: one that was not has been forgotten by its source.
_DELETE_EPISODES = "DELETE FROM episode WHERE id = ANY(%(ids)s) AND greatest(last_seen_at, resolved_at) < %(before)s"
_FIND_EPISODES = f"""
    SELECT id FROM episode WHERE greatest(last_seen_at, resolved_at) < %(before)s AND id > %(after)s
    ORDER BY id LIMIT {BATCH_SIZE}"""

#: The tables of raw deliveries, with the time from which a row ages. Few rows at a time: bodies are large.
_RAW_DELIVERIES: Final = {"failed_delivery": "failed_at", "unhandled_delivery": "received_at"}
_OLD_RAW = "FROM {table} WHERE {age} < %(before)s"
_FIND_RAW = f"SELECT id {_OLD_RAW} AND id > %(after)s ORDER BY id LIMIT 20"

#: Hours that are over. The table's key has the hour: young rows are passed over in the index.
_FIND_HOURS: Final = f"""
    SELECT alert_group_id, hour FROM group_hour
    WHERE hour <= %(before)s - interval '1 hour' AND (alert_group_id, hour) > (%(group_id)s, %(hour)s)
    ORDER BY alert_group_id, hour LIMIT {BATCH_SIZE}"""
_HOUR_COLUMNS: Final[Columns] = {"alert_group_id": "bigint", "hour": "timestamptz"}
_DELETE_HOURS: Final = """
    WITH old AS MATERIALIZED (
        SELECT h.alert_group_id, h.hour FROM group_hour h JOIN {rows} USING (alert_group_id, hour)
        ORDER BY h.alert_group_id, h.hour FOR UPDATE OF h
    )
    DELETE FROM group_hour h USING old WHERE h.alert_group_id = old.alert_group_id AND h.hour = old.hour"""

_PURGEABLE_NOTIFICATIONS: Final = """
    FROM notification n WHERE n.created_at < %(before)s AND n.state NOT IN ('pending', 'sending') AND n.mode <> 'card'
      AND (n.mode <> 'digest' OR coalesce(n.told_status, 'resolved') = 'resolved')
      AND NOT EXISTS (SELECT FROM alert_group g WHERE g.id = n.alert_group_id AND g.status <> 'resolved')"""
#: The attempts to send a card are deleted, and the card stays.
_OLD_ATTEMPTS: Final = "FROM notification_attempt n WHERE n.at < %(before)s"
#: Without a notifier nothing is routed, and rows would gather. It tells nothing that is older than a day as new; what
#: receivers know of must reach them, however long it was away.
_OLD_HAPPENINGS: Final = """
    FROM happening n WHERE (n.at < %(before)s OR n.routed_at IS NULL AND n.at < now() - interval '2 days'
      AND NOT EXISTS (SELECT FROM notification o WHERE o.alert_group_id = n.alert_group_id))"""
_FIND_OLD: Final = f"SELECT n.id {{source}} AND n.id > %(after)s ORDER BY n.id LIMIT {BATCH_SIZE}"
_DELETE: Final = "DELETE FROM {table} WHERE id = ANY(%(ids)s)"

_INACTIVE = "FROM alert_group WHERE status IN ('open', 'ack') AND last_seen_at < %(before)s"
_FIND_INACTIVE = f"SELECT id {_INACTIVE} AND id > %(after)s ORDER BY id LIMIT {BATCH_SIZE}"
_LOCK_INACTIVE = f"""
    SELECT id {_INACTIVE} AND id = ANY(%(ids)s)
    ORDER BY workspace_id, group_key, id FOR NO KEY UPDATE SKIP LOCKED"""
_RESOLVE_INACTIVE = with_audit_log(
    f"""
    UPDATE alert_group g
    SET status = {status_after(Trigger.INACTIVITY, "g.status")}, resolved_at = %(now)s, is_current = false,
        version = g.version + 1
    WHERE g.id = ANY(%(ids)s)""",
    Actor.CLOCK,
    by="'AUTO_RESOLVE_DAYS'",
    at="%(now)s::timestamptz",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """What to delete: events received before ``events_before``, bodies of those before ``payloads_before``."""

    events_before: datetime
    payloads_before: datetime


def _with_pauses(pages: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T]]:
    """Make a generator of pages wait after each, as long as it took to find and to change it.

    So a purge keeps PostgreSQL and its disk busy for half of the time at most.
    """

    @wraps(pages)
    def with_pauses(*arguments: P.args, **named: P.kwargs) -> Iterator[T]:
        began = time.monotonic()
        for page in pages(*arguments, **named):
            yield page
            time.sleep(time.monotonic() - began)
            began = time.monotonic()

    return with_pauses


def count(purge: Purge) -> tuple[int, int]:
    """Count the events and the payloads that ``purge`` would delete."""
    return (
        _count(_PURGEABLE_EVENTS, purge.events_before),
        _count(_WITH_PAYLOAD, purge.payloads_before),
    )


def delete_events(before: datetime) -> Iterator[int]:
    """Delete old purgeable events; yield rows per transaction."""
    return _in_batches(_DELETE_EVENTS, _PURGEABLE_EVENTS, before)


def drop_payloads(before: datetime) -> Iterator[int]:
    """Drop payloads of old events; yield rows per transaction."""
    return _in_batches(_DROP_PAYLOADS, _WITH_PAYLOAD, before)


def count_raw_deliveries(before: datetime) -> int:
    """Count the dead letters and unhandled deliveries of before then."""
    return sum(_count(_OLD_RAW.format(table=table, age=age), before) for table, age in _RAW_DELIVERIES.items())


def delete_raw_deliveries(before: datetime) -> int:
    """Delete dead letters, replayed or not, and unhandled deliveries of before then; return how many."""
    return sum(
        _change(_DELETE.format(table=table), ids)
        for table, age in _RAW_DELIVERIES.items()
        for ids in _pages(_FIND_RAW.format(table=table, age=age), before)
    )


def purge_source_updates(before: datetime) -> int:
    """Delete source updates received before then; return how many.

    No alert that is older than them will arrive any more.
    """
    return sum(_change(_DELETE_SOURCE_UPDATES, ids, before=before) for ids in _pages(_FIND_SOURCE_UPDATES, before))


def purge_group_hours(before: datetime) -> int:
    """Delete the counts of groups in hours that were over by then; return how many."""
    deleted = 0
    for hours in _pages_of_hours(before):
        with _asynchronous_transaction():
            query(_DELETE_HOURS, _HOUR_COLUMNS, hours)
        deleted += len(hours)
    return deleted


@_with_pauses
def _pages_of_hours(before: datetime) -> Iterator[list[tuple[int, datetime]]]:
    last = (0, datetime.min.replace(tzinfo=UTC))
    while hours := database.execute_sql(
        _FIND_HOURS, {"before": before, "group_id": last[0], "hour": last[1]}
    ).fetchall():
        yield hours
        last = hours[-1]


def purge_episodes(before: datetime) -> int:
    """Delete episodes that were last received before then; return how many."""
    return sum(_change(_DELETE_EPISODES, ids, before=before) for ids in _pages(_FIND_EPISODES, before))


def count_notifications(before: datetime) -> int:
    """Count the notifications that ``purge_notifications`` would delete."""
    return _count(_PURGEABLE_NOTIFICATIONS, before)


def purge_notifications(before: datetime) -> int:
    """Delete notifications and attempts of before then, and what happened; return how many notifications."""
    deleted = _delete_old("notification", _PURGEABLE_NOTIFICATIONS, before)
    _delete_old("notification_attempt", _OLD_ATTEMPTS, before)
    _delete_old("happening", _OLD_HAPPENINGS, before)
    return deleted


def _delete_old(table: str, source: str, before: datetime) -> int:
    return sum(_change(_DELETE.format(table=table), ids) for ids in _pages(_FIND_OLD.format(source=source), before))


def transactions(before: datetime) -> int:
    """Return how many transactions such a purge takes."""
    return len(_steps(before))


def resolve_inactive(before: datetime, now: datetime) -> int:
    """Resolve open and acknowledged groups inactive since ``before``.

    Return how many.
    """
    return sum(_resolve(inactive_ids, before, now) for inactive_ids in _pages(_FIND_INACTIVE, before))


def _resolve(inactive_ids: Sequence[int], before: datetime, now: datetime) -> int:
    """Resolve groups still inactive and not locked by others."""
    with _asynchronous_transaction():
        ids = _ids(_LOCK_INACTIVE, before=before, ids=inactive_ids)
        database.execute_sql(_RESOLVE_INACTIVE, {"ids": ids, "now": now})
    return len(ids)


def _ids(statement: str, **parameters: object) -> list[int]:
    return [row_id for (row_id,) in database.execute_sql(statement, parameters).fetchall()]


def _count(source: str, before: datetime) -> int:
    (number,) = database.execute_sql(f"SELECT count(*) {source}", {"before": before}).fetchone()
    return int(number)


@_with_pauses
def _in_batches(statement: str, source: str, before: datetime) -> Iterator[int]:
    find = _FIND.format(source=source)
    for first in _steps(before):
        ids = _ids(find, before=before, first=first, last=first + BATCH_SIZE - 1)
        yield _change(statement, ids) if ids else 0


@_with_pauses
def _pages(find: str, before: datetime) -> Iterator[list[int]]:
    """Yield ids of old rows, page by page."""
    after = 0
    while ids := _ids(find, before=before, after=after):
        yield ids
        after = ids[-1]


def _change(statement: str, ids: Sequence[int], **parameters: object) -> int:
    with _asynchronous_transaction():
        return int(database.execute_sql(statement, {"ids": ids, **parameters}).rowcount)


@contextmanager
def _asynchronous_transaction() -> Iterator[None]:
    """Open a transaction with asynchronous commit.

    A power cut may undo it; the next purge repeats it.
    """
    with database.atomic():
        database.execute_sql("SET LOCAL synchronous_commit = off")
        yield


def _steps(before: datetime) -> range:
    """Return the ids of old events in steps of ``BATCH_SIZE``.

    Ids increase nearly in step with times.
    """
    oldest, newest = database.execute_sql(_ID_RANGE_OF_OLD_EVENTS, {"before": before}).fetchone()
    return range(0) if oldest is None else range(oldest, newest + 1, BATCH_SIZE)
