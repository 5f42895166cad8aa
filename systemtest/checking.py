"""Compare the responses with the tables: every acknowledged alert is stored once, and the counts are right."""

import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class with a variable's name

from systemtest.senders import Attempt

#: An alert's id is Sentry's event id and its issue.
_STORED: Final = "SELECT split_part(source_event_id, ':', 1) FROM alert_event WHERE source_event_id = ANY(%s)"
_DEAD_LETTERED: Final = "SELECT convert_from(body, 'UTF8') FROM failed_delivery"
_COUNTS: Final = """
    SELECT issue_id, sum(count)::bigint FROM alert_group WHERE issue_id = ANY(%s) GROUP BY issue_id"""
_EVENTS: Final = """
    SELECT issue_id, count(*) FROM alert_event WHERE issue_id = ANY(%s) GROUP BY issue_id"""
_SEVERAL_CURRENT: Final = """
    SELECT count(*) FROM (
        SELECT 1 FROM alert_group WHERE is_current GROUP BY workspace_id, group_key HAVING count(*) > 1
    ) AS several"""
_LEFT: Final = "SELECT count(*) FROM inbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Results of a run. ``seconds`` is the time from the last delivery until all acknowledged ones were stored."""

    sent: int
    responses: Counter[int]
    acknowledged: int
    stored: int
    lost: int
    dead_lettered: int
    miscounted: int
    several_current: int
    late: int
    in_inbox: int
    p50_ms: float
    p99_ms: float
    slowest_ms: float
    seconds: float

    @property
    def guarantees_hold(self) -> bool:
        """Return whether every guarantee holds."""
        return self.is_all_stored and not self.late

    @property
    def is_all_stored(self) -> bool:
        """Return whether everything acknowledged is stored and counted once, however late the responses were."""
        return not (self.lost or self.miscounted or self.several_current or self.dead_lettered)

    def lines(self) -> Iterator[str]:
        """Yield the findings as text."""
        statuses = ", ".join(f"{status or 'none'}: {times}" for status, times in sorted(self.responses.items()))
        yield f"attempts                  {self.sent} (responses {statuses})"
        figures = (self.p50_ms, self.p99_ms, self.slowest_ms)
        yield "response                  p50 {:.0f} ms, p99 {:.0f} ms, max {:.0f} ms".format(*figures)
        yield f"alerts acknowledged       {self.acknowledged}"
        yield f"alerts stored             {self.stored}, the last {self.seconds:.1f} s after the last was sent"
        yield f"acknowledged and lost     {self.lost}"
        yield f"issues counted wrong      {self.miscounted}"
        yield f"dead-lettered             {self.dead_lettered}"
        yield f"keys with several current {self.several_current}"
        yield f"responses over 1 s        {self.late}"


def check(history: Sequence[Attempt], database_url: str, *, timeout_seconds: float) -> Findings:
    """Wait until all acknowledged alerts are stored, at most ``timeout_seconds``; then compare."""
    began = time.monotonic()
    acknowledged = {attempt.alert.event_id for attempt in history if attempt.acknowledged}
    everything = {attempt.alert.event_id for attempt in history}
    ids = list({f"{attempt.alert.event_id}:{attempt.alert.issue}" for attempt in history})
    with closing(psycopg2.connect(database_url)) as connection:
        connection.autocommit = True
        while True:
            stored = {row[0] for row in _select(connection, _STORED, ids)}
            in_inbox = _select(connection, _LEFT)[0][0]
            waited = time.monotonic() - began
            if (acknowledged <= stored and not in_inbox) or waited > timeout_seconds:
                break
            time.sleep(0.2)
        issues = sorted({attempt.alert.issue for attempt in history})
        bodies = "\n".join(row[0] for row in _select(connection, _DEAD_LETTERED))
        seconds = sorted(attempt.seconds for attempt in history if attempt.status)
        return Findings(
            sent=len(history),
            responses=Counter(attempt.status for attempt in history),
            acknowledged=len(acknowledged),
            stored=len(stored),
            lost=len(_lost(acknowledged - stored, bodies)),
            dead_lettered=sum(event_id in bodies for event_id in everything),
            miscounted=_miscounted(connection, issues, history, stored),
            several_current=_select(connection, _SEVERAL_CURRENT)[0][0],
            late=sum(attempt.late for attempt in history),
            in_inbox=in_inbox,
            p50_ms=_quantile(seconds, 0.5) * 1000,
            p99_ms=_quantile(seconds, 0.99) * 1000,
            slowest_ms=_quantile(seconds, 1.0) * 1000,
            seconds=waited,
        )


def _lost(unstored: Collection[str], dead_lettered: str) -> set[str]:
    """Return unstored events that are not in a dead letter either, whose bytes would still be there."""
    return {event_id for event_id in unstored if event_id not in dead_lettered}


def _miscounted(
    connection: Connection, issues: Sequence[str], history: Sequence[Attempt], stored: Collection[str]
) -> int:
    """Count issues whose groups' counts are not the number of their distinct stored events."""
    counts, events = dict(_select(connection, _COUNTS, issues)), dict(_select(connection, _EVENTS, issues))
    alerts = {attempt.alert for attempt in history}
    expected = Counter(alert.issue for alert in alerts if alert.event_id in stored)
    return sum(not counts.get(issue, 0) == events.get(issue, 0) == expected[issue] for issue in issues)


def _select(connection: Connection, sql: str, *parameters: Sequence[str]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def _quantile(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0
