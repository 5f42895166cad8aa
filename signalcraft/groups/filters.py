"""Which groups are meant: the filters of lists, exports and changes of many, and what they ask of a row.

A snooze past its end reads as open, here too; nobody writes that down, so the time is an argument.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from peewee import Expression, Field, Node

from signalcraft.domain.alerts import GroupStatus, Severity
from signalcraft.storage.models import AlertGroup

#: What an assignee filter calls nobody.
NOBODY: Final = "none"

_G = AlertGroup
_LIKE_METACHARACTERS = re.compile(r"([\\%_])")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueFilter:
    """Which values of a column to keep: one of ``include`` (empty: any), and none of ``exclude``."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFilter:
    """Which groups to list. ``since`` and ``until`` bound ``last_seen_at``: from, and before; ``q`` is in the title."""

    status: ValueFilter = field(default_factory=ValueFilter)
    severity: ValueFilter = field(default_factory=ValueFilter)
    environment: ValueFilter = field(default_factory=ValueFilter)
    project: ValueFilter = field(default_factory=ValueFilter)
    source: ValueFilter = field(default_factory=ValueFilter)
    assignee: ValueFilter = field(default_factory=ValueFilter)
    severity_min: Severity | None = None
    current: bool | None = None
    q: str = ""
    since: datetime | None = None
    until: datetime | None = None


def conditions(wanted: GroupFilter, now: datetime) -> Iterator[Node]:
    """What must hold of a row of ``alert_group``, all of it."""
    columns = ((_G.severity, wanted.severity), (_G.environment, wanted.environment), (_G.project, wanted.project))
    for column, choice in (*columns, (_G.source, wanted.source)):
        yield from _chosen(column, choice)
    yield from _chosen_status(wanted.status, now)
    yield from _chosen_assignee(wanted.assignee)
    if wanted.severity_min is not None:
        yield _G.severity.in_([severity.value for severity in Severity if severity.rank >= wanted.severity_min.rank])
    if wanted.current is not None:
        yield _G.is_current == wanted.current
    if wanted.q:
        yield title_contains(_G.title, wanted.q)
    if wanted.since is not None:
        yield _G.last_seen_at >= wanted.since
    if wanted.until is not None:
        yield _G.last_seen_at < wanted.until


def title_contains(title: "Field[str]", words: str) -> Expression:
    """Whether ``words`` stand in ``title``, in capitals or not."""
    found: Expression = title ** ("%" + _LIKE_METACHARACTERS.sub(r"\\\1", words) + "%")
    return found


def _chosen(column: "Field[str]", choice: ValueFilter) -> Iterator[Node]:
    if choice.include:
        yield column.in_(list(choice.include))
    if choice.exclude:
        yield column.not_in(list(choice.exclude))


def _chosen_status(choice: ValueFilter, now: datetime) -> Iterator[Node]:
    if choice.include:
        yield _has_status(choice.include, now)
    if choice.exclude:
        yield ~_has_status(choice.exclude, now)


def _has_status(statuses: Sequence[str], now: datetime) -> Expression:
    expired = (
        (_G.status == GroupStatus.SNOOZED.value) & (_G.snoozed_until.is_null(is_null=False)) & (_G.snoozed_until <= now)
    )
    stored: Expression = _G.status.in_(list(statuses))
    if GroupStatus.OPEN in statuses:
        stored = stored | expired
    elif GroupStatus.SNOOZED in statuses:
        stored = stored & ~expired
    return stored


def _chosen_assignee(choice: ValueFilter) -> Iterator[Node]:
    """Not being one of some people is also said of a group that nobody has."""
    nobody = _G.assignee_user_id.is_null()
    if choice.include:
        among = _G.assignee_user_id.in_([name for name in choice.include if name != NOBODY])
        yield (among | nobody) if NOBODY in choice.include else among
    if choice.exclude:
        outside = _G.assignee_user_id.not_in([name for name in choice.exclude if name != NOBODY])
        yield (~nobody & outside) if NOBODY in choice.exclude else (nobody | outside)
