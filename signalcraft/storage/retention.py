"""What is kept, and for how long.

Of a group's events the first, the last and the turning points (those that opened a group, and those that were worse
than all before) stay for as long as the group does; the others go after ``RETENTION_DAYS``, and what came with them
after ``PAYLOAD_RETENTION_DAYS``. Counts stay as they are: they say what happened, not what is still there. Everything
works in small transactions, over rows that were found before, so that no lock is held for long. Call it inside
``models.session()``.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from signalcraft.domain.lifecycle import Trigger
from signalcraft.storage.audit_log import Actor, with_audit_log
from signalcraft.storage.database import database
from signalcraft.storage.sql import rank, status_after

#: Rows a transaction: changing as many takes some 2 ms, of groups 12 (``python -m bench purge``); on a machine that has
#: other things to do, five times as long.
BATCH_SIZE: Final = 200

#: Once dispensable, always: a group only reaches further, and of those before an event one as bad always stays. Asked
#: for the newest of these, PostgreSQL walks back to it; asked whether there is any, it read the whole group each time.
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

#: OFFSET 0 keeps PostgreSQL from looking for the largest id from the end, past all that is younger.
_OLDEST = """
    SELECT min(id), max(id) FROM (SELECT id FROM alert_event WHERE received_at < %(before)s OFFSET 0) AS old"""

_FIND = "SELECT e.id {which} AND e.id BETWEEN %(first)s AND %(last)s"
_DELETE_EVENTS = "DELETE FROM alert_event WHERE id = ANY(%(ids)s)"
_DROP_PAYLOADS = "UPDATE alert_event SET payload_json = NULL WHERE id = ANY(%(ids)s)"

#: One may have been said anew since it was found.
_DELETE_SOURCE_UPDATES = "DELETE FROM last_word WHERE id = ANY(%(ids)s) AND received_at < %(before)s"
_FIND_SOURCE_UPDATES = f"""
    SELECT id FROM last_word WHERE received_at < %(before)s AND id > %(after)s ORDER BY id LIMIT {BATCH_SIZE}"""

_INACTIVE = "FROM alert_group WHERE status IN ('open', 'ack') AND last_seen_at < %(before)s"
_FIND_INACTIVE = f"SELECT id {_INACTIVE} AND id > %(after)s ORDER BY id LIMIT {BATCH_SIZE}"
_LOCK_INACTIVE = f"""
    SELECT id {_INACTIVE} AND id = ANY(%(ids)s)
    ORDER BY workspace_id, group_key, id FOR NO KEY UPDATE SKIP LOCKED"""
_RESOLVE_INACTIVE = with_audit_log(
    f"""
    UPDATE alert_group g
    SET status = {status_after(Trigger.LONG_QUIET, "g.status")}, resolved_at = %(now)s, is_current = false,
        version = g.version + 1
    WHERE g.id = ANY(%(ids)s)""",
    Actor.CLOCK,
    by="'AUTO_RESOLVE_DAYS'",
    at="%(now)s::timestamptz",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """What to delete: events received before ``events_before``, payloads of those before ``payloads_before``."""

    events_before: datetime
    payloads_before: datetime


def count(purge: Purge) -> tuple[int, int]:
    """How many events and how many payloads ``purge`` would delete."""
    return (
        _count(_PURGEABLE_EVENTS, purge.events_before),
        _count(_WITH_PAYLOAD, purge.payloads_before),
    )


def delete_events(before: datetime) -> Iterator[int]:
    """Delete dispensable events received before then, a transaction at a time; how many each deleted."""
    return _in_batches(_DELETE_EVENTS, _PURGEABLE_EVENTS, before)


def drop_payloads(before: datetime) -> Iterator[int]:
    """Drop the payloads of events received before then, a transaction at a time; how many each dropped."""
    return _in_batches(_DROP_PAYLOADS, _WITH_PAYLOAD, before)


def purge_source_updates(before: datetime) -> int:
    """Forget what sources said before then: no alert from before it will come; how much that was."""
    return sum(_change(_DELETE_SOURCE_UPDATES, ids, before=before) for ids in _pages(_FIND_SOURCE_UPDATES, before))


def transactions(before: datetime) -> int:
    """How many transactions deleting or dropping what was received before then takes."""
    return len(_steps(before))


def resolve_inactive(before: datetime, now: datetime) -> int:
    """Resolve open and acknowledged groups that have been quiet since ``before``; how many."""
    return sum(_resolve(quiet, before, now) for quiet in _pages(_FIND_INACTIVE, before))


def _resolve(quiet: Sequence[int], before: datetime, now: datetime) -> int:
    """Resolve those of the groups that are quiet still, and in nobody's hands."""
    with _brief_transaction():
        ids = _ids(_LOCK_INACTIVE, before=before, ids=quiet)
        database.execute_sql(_RESOLVE_INACTIVE, {"ids": ids, "now": now})
    return len(ids)


def _ids(statement: str, **parameters: object) -> list[int]:
    return [row_id for (row_id,) in database.execute_sql(statement, parameters).fetchall()]


def _count(which: str, before: datetime) -> int:
    (number,) = database.execute_sql(f"SELECT count(*) {which}", {"before": before}).fetchone()
    return int(number)


def _in_batches(statement: str, which: str, before: datetime) -> Iterator[int]:
    find = _FIND.format(which=which)
    for first in _steps(before):
        ids = _ids(find, before=before, first=first, last=first + BATCH_SIZE - 1)
        yield _change(statement, ids) if ids else 0


def _pages(find: str, before: datetime) -> Iterator[list[int]]:
    """Ids of what is that old, some at a time."""
    after = 0
    while ids := _ids(find, before=before, after=after):
        yield ids
        after = ids[-1]


def _change(statement: str, ids: Sequence[int], **parameters: object) -> int:
    with _brief_transaction():
        return int(database.execute_sql(statement, {"ids": ids, **parameters}).rowcount)


@contextmanager
def _brief_transaction() -> Iterator[None]:
    """One that holds no lock until its commit is on the disk: what a power cut takes back is done again."""
    with database.atomic():
        database.execute_sql("SET LOCAL synchronous_commit = off")
        yield


def _steps(before: datetime) -> range:
    """The ids of old events in steps of ``BATCH_SIZE``; ids and times rise nearly together."""
    oldest, newest = database.execute_sql(_OLDEST, {"before": before}).fetchone()
    return range(0) if oldest is None else range(oldest, newest + 1, BATCH_SIZE)
