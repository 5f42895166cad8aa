"""Routes: which receivers are told of which groups, when. Pure: the configuration is read in ``config``.

The first route that matches decides; one with ``go_on`` lets the next ones decide as well. Patterns are globs
(``pay*``), case-folded; ``!`` before one excludes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from fnmatch import fnmatchcase
from typing import Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from signalcraft.domain.alerts import Severity

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))? )?(\d{2}:\d{2})-(\d{2}:\d{2})(?: (\S+))?")

#: Conditions on the fields of a group that are patterns.
_FIELDS: Final = ("workspace", "source", "project", "environment")

_WILDCARDS: Final = frozenset("*?[")

Patterns = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What routes are matched with: a group, and the tags of the alert that caused the happening."""

    workspace: str
    source: str
    project: str
    environment: str
    severity: Severity
    tags: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The conditions of a route; empty ones match everything."""

    workspace: Patterns = ()
    source: Patterns = ()
    project: Patterns = ()
    environment: Patterns = ()
    severity_min: Severity | None = None
    tags: Mapping[str, Patterns] = field(default_factory=dict)

    @property
    def is_impossible(self) -> bool:
        """Whether no subject can meet the conditions: each value that one of them wants is excluded by it."""
        return any(map(_is_impossible, self._patterns().values()))

    def covers(self, other: Self) -> bool:
        """Return whether all that meets ``other`` surely meets this."""
        if self.severity_min is not None and self.severity_min.rank > (other.severity_min or Severity.INFO).rank:
            return False
        theirs = other._patterns()
        return all(_covers(patterns, theirs.get(name, ())) for name, patterns in self._patterns().items())

    def _patterns(self) -> dict[str, Patterns]:
        """Return the patterns of each condition; each subject has a value of its fields, but not of each tag."""
        of_fields = {name: getattr(self, name) for name in _FIELDS}
        filled = {name: patterns if _wanted(patterns) else ("*", *patterns) for name, patterns in of_fields.items()}
        return filled | {f"tags.{name}": patterns for name, patterns in self.tags.items()}

    def mismatch(self, subject: Subject) -> str | None:
        """Return the first condition that ``subject`` does not meet, in words.

        ``None``: it meets all.
        """
        for name in _FIELDS:
            patterns, value = getattr(self, name), getattr(subject, name)
            if not _matches(patterns, [value]):
                return f"{name} is {value}, not {_list(patterns)}"
        if self.severity_min is not None and subject.severity.rank < self.severity_min.rank:
            return f"severity is {subject.severity.value}, under {self.severity_min.value}"
        for tag, patterns in self.tags.items():
            values = [value for name, value in subject.tags if name == tag]
            if not _matches(patterns, values):
                return f"tag {tag} is {_list(values) or 'missing'}, not {_list(patterns)}"
        return None


def _matches(patterns: Patterns, values: Sequence[str]) -> bool:
    """Return whether a value matches one of ``patterns`` and none matches an excluding one."""
    folded = [value.casefold() for value in values]
    wanted = _wanted(patterns)
    if any(fnmatchcase(value, pattern) for value in folded for pattern in _excluded(patterns)):
        return False
    return not wanted or any(fnmatchcase(value, pattern) for value in folded for pattern in wanted)


def _wanted(patterns: Patterns) -> list[str]:
    return [pattern.casefold() for pattern in patterns if not pattern.startswith("!")]


def _excluded(patterns: Patterns) -> list[str]:
    return [pattern[1:].casefold() for pattern in patterns if pattern.startswith("!")]


def _is_impossible(patterns: Patterns) -> bool:
    wanted, excluded = _wanted(patterns), _excluded(patterns)
    return bool(wanted) and all(any(_is_within(one, other) for other in excluded) for one in wanted)


def _covers(patterns: Patterns, narrower: Patterns) -> bool:
    """Return whether values that match ``narrower`` surely match ``patterns``."""
    wanted, theirs = _wanted(patterns), _wanted(narrower)
    if wanted and not (theirs and all(any(_is_within(one, other) for other in wanted) for one in theirs)):
        return False
    return all(any(_is_within(one, other) for other in _excluded(narrower)) for one in _excluded(patterns))


def _is_within(pattern: str, other: str) -> bool:
    """Return whether all that matches ``pattern`` surely matches ``other``.

    Only ``*`` can stand for another pattern's ``*``, ``?`` or ``[...]``.
    """
    is_comparable = not _WILDCARDS.intersection(pattern) or not {"?", "["}.intersection(other)
    return pattern == other or (is_comparable and fnmatchcase(pattern, other))


def _list(values: Sequence[str]) -> str:
    return " or ".join(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """A weekly window, in a time zone. An end before the start is on the next day."""

    days: frozenset[int]
    start: time
    end: time
    zone: ZoneInfo
    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``mon-fri 08:00-18:00 Europe/Berlin``; days and zone may be left out.

        Raises:
            ValueError: with what is wrong.
        """
        match = _HOURS.fullmatch(text)
        if match is None:
            raise ValueError("must look like mon-fri 08:00-18:00 Europe/Berlin")
        first, last, start, end, zone = match.groups()
        if any(day is not None and day not in DAYS for day in (first, last)):
            raise ValueError(f"names a day that is not one of {', '.join(DAYS)}")
        try:
            hours = time.fromisoformat(start), time.fromisoformat(end)
        except ValueError:
            raise ValueError("names a time of day that is none") from None
        if hours[0] == hours[1]:
            raise ValueError("begins and ends at the same time")
        try:
            found = ZoneInfo(zone or "UTC")
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"names the unknown time zone {zone}") from None
        return cls(days=_days(first, last), start=hours[0], end=hours[1], zone=found, text=text)

    def opens_at(self, moment: datetime) -> datetime:
        """Return ``moment`` if it is within the window, else when the next window begins."""
        local = moment.astimezone(self.zone)
        starts = (
            datetime.combine(local.date() + timedelta(days=offset), self.start, self.zone)
            for offset in range(-1, 8)
            if (local.date() + timedelta(days=offset)).weekday() in self.days
        )
        for start in starts:
            days = 0 if self.start < self.end else 1
            end = datetime.combine(start.date() + timedelta(days=days), self.end, self.zone)
            if moment < end:
                return max(moment, start.astimezone(moment.tzinfo))
        raise AssertionError("a week has a window")  # pragma: no cover


def _days(first: str | None, last: str | None) -> frozenset[int]:
    if first is None:
        return frozenset(range(7))
    begin = DAYS.index(first)
    length = (DAYS.index(last) - begin) % 7 if last else 0
    return frozenset((begin + offset) % 7 for offset in range(length + 1))


#: The happenings that a route tells of unless it says otherwise.
DEFAULT_ON: Final = frozenset({"opened", "regressed", "escalated", "resolved"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route. ``on`` are kinds of happenings; ``remind_after`` is ``None`` for no reminders."""

    name: str
    to: Patterns
    match: Match = field(default_factory=Match)
    on: frozenset[str] = DEFAULT_ON
    go_on: bool = False
    wait: timedelta = timedelta()
    update_every: timedelta = timedelta(seconds=30)
    hours: Hours | None = None
    remind_after: timedelta | None = None
    recurrence: timedelta = timedelta(hours=24)

    def due_at(self, moment: datetime) -> datetime:
        """Return when something that happened at ``moment`` is told."""
        due = moment + self.wait
        return self.hours.opens_at(due) if self.hours else due


def select(routes: Sequence[Route], subject: Subject) -> Iterator[Route]:
    """Yield the routes that decide about ``subject``, in order."""
    for route in routes:
        if route.match.mismatch(subject) is None:
            yield route
            if not route.go_on:
                return


def never_deciding(routes: Sequence[Route]) -> Iterator[tuple[Route, str]]:
    """Yield the routes that can never decide, each with the reason in words."""
    for position, route in enumerate(routes):
        if route.match.is_impossible:
            yield route, "it can never match, since it excludes all that it asks for"
            continue
        for earlier in routes[:position]:
            if not earlier.go_on and earlier.match.covers(route.match):
                yield route, f"it is never reached, since {earlier.name} matches all that it would"
                break
