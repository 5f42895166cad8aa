"""Counts of groups by status, severity, environment, project and source: the facets of a list."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from peewee import SQL, Case, Select, fn

from signalcraft.domain.alerts import GroupStatus, Severity
from signalcraft.groups.reading import pages
from signalcraft.groups.reading.filters import GroupFilter, ValueFilter, snooze_has_ended
from signalcraft.groups.reading.queries import matching
from signalcraft.storage.database import database
from signalcraft.storage.models import AlertGroup

#: Groups that are counted, the ones seen last: it bounds the time.
MAX_GROUPS: Final = 10_000
#: Values of a facet that are listed, the most frequent ones.
MAX_VALUES: Final = 50

FACETS: Final = ("status", "severity", "environment", "project", "source")
#: Facets of which all values are known: each is counted, also if there is none.
_SCALES: Final[Mapping[str, Sequence[str]]] = {"status": tuple(GroupStatus), "severity": tuple(Severity)}

_G = AlertGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The number of matching groups, and of each facet the values with their numbers.

    ``complete``: fewer than ``MAX_GROUPS`` match, so all were counted.
    """

    groups: int
    complete: bool
    by: Mapping[str, Sequence[tuple[str, int]]]


def summarize(workspace_id: int, group_filter: GroupFilter, *, now: datetime) -> Summary:
    """Count the groups that ``group_filter`` matches.

    A facet ignores its own filter, so that the other values that could be chosen are counted too.
    """
    groups, complete, counts = _count(workspace_id, group_filter, now)
    by = {facet: counts[facet] for facet in FACETS}
    for facet in FACETS:
        others = _without(facet, group_filter)
        if others != group_filter:
            _, others_complete, counts = _count(workspace_id, others, now)
            by[facet], complete = counts[facet], complete and others_complete
    return Summary(groups=groups, complete=complete, by={facet: _sorted(facet, by[facet]) for facet in FACETS})


def _without(facet: str, group_filter: GroupFilter) -> GroupFilter:
    changes: dict[str, Any] = {facet: ValueFilter()} | ({"severity_min": None} if facet == "severity" else {})
    return replace(group_filter, **changes)


def _count(
    workspace_id: int, group_filter: GroupFilter, now: datetime
) -> tuple[int, bool, Mapping[str, Mapping[str, int]]]:
    """Return the number of groups, whether all were counted, and the numbers by facet and value."""
    status = Case(None, [(snooze_has_ended(now), GroupStatus.OPEN.value)], _G.status)
    columns = (status.alias("status"), *(getattr(_G, facet) for facet in FACETS[1:]))
    found, scanned_to = matching(columns, workspace_id, group_filter, limit=MAX_GROUPS, now=now)
    counted = found.alias("counted")
    query = Select([counted], [*(SQL(facet) for facet in FACETS), fn.COUNT(SQL("*")).alias("groups")])
    sets = ", ".join(f"({facet})" for facet in FACETS)
    query = query.group_by(SQL(f"GROUPING SETS ({sets}, ())")).bind(database)
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    total = 0
    for row in pages.fetch(query):
        facet = next((facet for facet in FACETS if row[facet] is not None), None)
        if facet is None:
            total = row["groups"]
        else:
            counts[facet][row[facet]] = row["groups"]
    return total, total < MAX_GROUPS and scanned_to is None, counts


def _sorted(facet: str, counts: Mapping[str, int]) -> Sequence[tuple[str, int]]:
    if facet in _SCALES:
        return [(value, counts.get(value, 0)) for value in _SCALES[facet]]
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_VALUES]
