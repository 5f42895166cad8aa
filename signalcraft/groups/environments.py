"""Settle the environment of alerts that cannot name one: one problem is one group.

Such an alert belongs to the newest group of its problem (workspace, source and fingerprint) in any environment. Without
one it opens a group in the default environment, which is marked: the first alert of the problem that names an
environment takes that group over. So as long as a group of a problem is marked, all of them are, and have one key.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Self

from signalcraft.groups.bursts import PendingEvent
from signalcraft.storage.sql import LOCK_ORDER, Columns, Statement, query, query_last

Problem = tuple[int, str, str]

#: The first of two keys. Advisory locks with two keys never meet those with one.
_ADVISORY_LOCK_CLASS: Final = 0x5167_6E63
_LOCK_COLUMNS: Columns = {"workspace_id": "integer", "is_exclusive": "boolean"}
_LOCK = """
    SELECT CASE WHEN r.is_exclusive THEN pg_advisory_xact_lock(%(lock_class)s, r.workspace_id)
                ELSE pg_advisory_xact_lock_shared(%(lock_class)s, r.workspace_id) END
    FROM {rows}"""

_PROBLEM_COLUMNS: Columns = {"workspace_id": "bigint", "source": "text", "fingerprint": "text"}
_SAME_PROBLEM = "g.workspace_id = r.workspace_id AND g.source = r.source AND g.fingerprint = r.fingerprint"

#: A loop over the rows, each by the index of marked groups: with a join, and no statistics, PostgreSQL read all groups.
_FIND_ASSUMED = f"""
    SELECT r.workspace_id, r.source, r.fingerprint, marked.id FROM {{rows}} CROSS JOIN LATERAL (
        SELECT g.id FROM alert_group g WHERE {_SAME_PROBLEM} AND g.environment_is_assumed OFFSET 0
    ) AS marked"""

#: Move marked groups, and their events, to another key. No other group has that key: there are only marked groups of
#: the problem.
_TAKEN_COLUMNS: Columns = {"id": "bigint", "group_key": "text", "project": "text", "environment": "text"}
_TAKE_OVER = f"""
    WITH taken AS MATERIALIZED (
        SELECT r.* FROM alert_group g JOIN {{rows}} ON g.id = r.id
        WHERE g.environment_is_assumed ORDER BY {LOCK_ORDER} FOR NO KEY UPDATE OF g
    ), events AS (
        UPDATE alert_event e SET project = taken.project, environment = taken.environment
        FROM taken WHERE e.alert_group_id = taken.id
    )
    UPDATE alert_group g
    SET group_key = taken.group_key, project = taken.project, environment = taken.environment,
        environment_is_assumed = false
    FROM taken WHERE g.id = taken.id"""

_FIND_NEWEST = f"""
    SELECT DISTINCT ON (g.workspace_id, g.source, g.fingerprint)
           g.workspace_id, g.source, g.fingerprint,
           g.group_key, g.project, g.environment, g.environment_is_assumed, g.last_seen_at
    FROM alert_group g JOIN {{rows}} ON {_SAME_PROBLEM}
    ORDER BY g.workspace_id, g.source, g.fingerprint, g.last_seen_at DESC, g.id DESC"""


@dataclass(frozen=True, slots=True)
class _Home:
    """A key that alerts without an environment can join, and when its last alert was received."""

    group_key: str
    project: str
    environment: str
    is_assumed: bool
    last_seen_at: datetime

    @classmethod
    def of(cls, event: PendingEvent) -> Self:
        alert, is_assumed = event.alert, event.environment_is_assumed
        return cls(event.group_key, alert.project, alert.environment, is_assumed, alert.received_at)

    def take(self, event: PendingEvent) -> PendingEvent:
        """Return the event with this key."""
        alert = replace(event.alert, project=self.project, environment=self.environment)
        return replace(event, group_key=self.group_key, alert=alert, environment_is_assumed=self.is_assumed)


def settle(pending: Sequence[PendingEvent]) -> list[PendingEvent]:
    """Lock the workspaces; return the events, those without an environment with that of a group.

    The outcome is the same as if they were stored one by one in order of receipt. Call it before anything else is
    locked: until the transaction ends, no other alert of a workspace is stored while alerts that cannot name an
    environment are. Of two that come at the same moment, one sees the group of the other.
    """
    problems: dict[Problem, list[PendingEvent]] = defaultdict(list)
    for event in pending:
        problems[event.workspace_id, event.alert.source, event.alert.fingerprint].append(event)
    named = {
        problem: min(events, key=_position)
        for problem, of_problem in problems.items()
        if (events := [event for event in of_problem if event.alert.names_environment])
    }
    _take_over(_lock_workspaces(pending, named), named)
    unnamed = {problem for problem, events in problems.items() if not all(e.alert.names_environment for e in events)}
    found = query(_FIND_NEWEST, _PROBLEM_COLUMNS, sorted(unnamed))
    newest = {(workspace_id, source, fingerprint): _Home(*home) for workspace_id, source, fingerprint, *home in found}
    settled: list[PendingEvent] = []
    for problem, events in problems.items():
        settled += _settle_in_order(events, newest.get(problem), named.get(problem)) if problem in unnamed else events
    return settled


def _lock_workspaces(pending: Iterable[PendingEvent], named: Iterable[Problem]) -> list[tuple[Any, ...]]:
    """Lock the workspaces of the events; return the marked groups of the problems ``named``, found after that."""
    exclusive: dict[int, bool] = defaultdict(bool)
    for event in pending:
        exclusive[event.workspace_id] |= not event.alert.names_environment
    return query_last(
        Statement(_LOCK, _LOCK_COLUMNS, sorted(exclusive.items()), {"lock_class": _ADVISORY_LOCK_CLASS}),
        Statement(_FIND_ASSUMED, _PROBLEM_COLUMNS, sorted(named)),
    )


def _take_over(marked: Iterable[tuple[Any, ...]], named: Mapping[Problem, PendingEvent]) -> None:
    """Give marked groups the project and environment of the first event that names its own."""
    taken = []
    for workspace_id, source, fingerprint, group_id in marked:
        event = named[workspace_id, source, fingerprint]
        taken.append((group_id, event.group_key, event.alert.project, event.alert.environment))
    query(_TAKE_OVER, _TAKEN_COLUMNS, taken)


def _settle_in_order(
    events: Iterable[PendingEvent], newest: _Home | None, first_named: PendingEvent | None
) -> Iterable[PendingEvent]:
    """Yield the events of one problem in order of receipt.

    ``newest`` is its newest group so far. Before there is one, the first event that names its environment would take
    over the group of those before it.
    """
    for event in sorted(events, key=_position):
        settled = event
        if not event.alert.names_environment:
            home = newest or _Home.of(first_named or replace(event, environment_is_assumed=True))
            settled = home.take(event)
        if newest is None or newest.last_seen_at <= settled.alert.received_at:
            newest = _Home.of(settled)
        yield settled


def _position(event: PendingEvent) -> tuple[datetime, str]:
    return event.alert.received_at, event.alert.source_event_id
