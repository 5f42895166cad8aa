"""The history of answers against the tables: what was acknowledged is there, once, and the groups' counts say so."""

import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class with a variable's name

from systemtest.senders import Attempt

_STORED: Final = "SELECT source_event_id FROM alert_event WHERE source_event_id = ANY(%s)"
_SET_ASIDE: Final = "SELECT convert_from(body, 'UTF8') FROM failed_delivery"
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
    """What a run came to. ``seconds`` is how long after the last delivery the last acknowledged one was stored."""

    sent: int
    answers: Counter[int]
    acknowledged: int
    stored: int
    lost: int
    set_aside: int
    miscounted: int
    several_current: int
    late: int
    on_the_shelf: int
    p50_ms: float
    p99_ms: float
    slowest_ms: float
    seconds: float

    @property
    def held(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.miscounted or self.several_current or self.late or self.set_aside)

    def lines(self) -> Iterator[str]:
        """For people."""
        statuses = ", ".join(f"{status or 'none'}: {times}" for status, times in sorted(self.answers.items()))
        yield f"attempts                  {self.sent} (answers {statuses})"
        figures = (self.p50_ms, self.p99_ms, self.slowest_ms)
        yield "answer                    p50 {:.0f} ms, p99 {:.0f} ms, max {:.0f} ms".format(*figures)
        yield f"alerts acknowledged       {self.acknowledged}"
        yield f"alerts stored             {self.stored}, the last {self.seconds:.1f} s after the last was sent"
        yield f"acknowledged and lost     {self.lost}"
        yield f"issues counted wrong      {self.miscounted}"
        yield f"set aside                 {self.set_aside}"
        yield f"keys with several current {self.several_current}"
        yield f"answers over 1 s          {self.late}"


def check(history: Sequence[Attempt], database_url: str, *, patience_seconds: float) -> Findings:
    """Wait until all that was acknowledged is stored, or for so long; then compare."""
    began = time.monotonic()
    acknowledged = {attempt.alert.event_id for attempt in history if attempt.acknowledged}
    everything = {attempt.alert.event_id for attempt in history}
    with closing(psycopg2.connect(database_url)) as connection:
        connection.autocommit = True
        while True:
            stored = {row[0] for row in _ask(connection, _STORED, list(everything))}
            on_the_shelf = _ask(connection, _LEFT)[0][0]
            waited = time.monotonic() - began
            if (acknowledged <= stored and not on_the_shelf) or waited > patience_seconds:
                break
            time.sleep(0.2)
        issues = sorted({attempt.alert.issue for attempt in history})
        bodies = "\n".join(row[0] for row in _ask(connection, _SET_ASIDE))
        seconds = sorted(attempt.seconds for attempt in history if attempt.status)
        return Findings(
            sent=len(history),
            answers=Counter(attempt.status for attempt in history),
            acknowledged=len(acknowledged),
            stored=len(stored),
            lost=len(_missing(acknowledged - stored, bodies)),
            set_aside=sum(event_id in bodies for event_id in everything),
            miscounted=_miscounted(connection, issues, history, stored),
            several_current=_ask(connection, _SEVERAL_CURRENT)[0][0],
            late=sum(attempt.late for attempt in history),
            on_the_shelf=on_the_shelf,
            p50_ms=_quantile(seconds, 0.5) * 1000,
            p99_ms=_quantile(seconds, 0.99) * 1000,
            slowest_ms=_quantile(seconds, 1.0) * 1000,
            seconds=waited,
        )


def _missing(unstored: Collection[str], set_aside: str) -> set[str]:
    """What is set aside is not lost: its bytes are there."""
    return {event_id for event_id in unstored if event_id not in set_aside}


def _miscounted(
    connection: Connection, issues: Sequence[str], history: Sequence[Attempt], stored: Collection[str]
) -> int:
    """How many issues have groups whose counts are not the number of their different stored events."""
    counts, events = dict(_ask(connection, _COUNTS, issues)), dict(_ask(connection, _EVENTS, issues))
    alerts = {attempt.alert for attempt in history}
    expected = Counter(alert.issue for alert in alerts if alert.event_id in stored)
    return sum(not counts.get(issue, 0) == events.get(issue, 0) == expected[issue] for issue in issues)


def _ask(connection: Connection, sql: str, *parameters: Sequence[str]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def _quantile(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0
