"""Where in a body a field is looked for, in which order, and what was odd about it.

A path is written as people write it, ``data.event.exception.values[-1].type``: names, ``[-1]`` for
the last of a list, ``[word]`` for the entry of a list that goes by that word (a tag's value, whether
tags are pairs or dictionaries; the service hook's entry of that ``type``).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from signalcraft.domain.alerts import FieldWarning

T = TypeVar("T")

_STEP = re.compile(r"[^.\[\]]+|\[[^\]]+\]")


@dataclass(frozen=True, slots=True)
class Path:
    """One place in a body."""

    text: str
    steps: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Take the text apart once, so that following the path is only look-ups."""
        object.__setattr__(self, "steps", tuple(step.strip("[]") for step in _STEP.findall(self.text)))

    def follow(self, body: object) -> object:
        """What stands there; ``None`` where nothing does, or something else does on the way."""
        for step in self.steps:
            if isinstance(body, dict):
                body = body.get(step)
            elif isinstance(body, list):
                body = _in_list(body, step)
            else:
                return None
        return body


Paths = tuple[Path, ...]


def paths(*texts: str) -> Paths:
    """Places to look, the best first."""
    return tuple(map(Path, texts))


def _in_list(entries: list[Any], word: str) -> object:
    if word == "-1":
        return entries[-1] if entries else None
    for entry in entries:
        if isinstance(entry, list):
            if len(entry) == 2 and entry[0] in (word, f"sentry:{word}"):
                return entry[1]
        elif isinstance(entry, dict):
            if entry.get("type") == word:
                return entry
            if entry.get("key") in (word, f"sentry:{word}"):
                return entry.get("value")
    return None


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads fields out of one body and gathers warnings about them. Never raises."""

    body: Mapping[str, Any]
    warnings: list[FieldWarning] = field(default_factory=list)

    def warn(self, path: Path, problem: str) -> None:
        """Note that what stands at ``path`` is not as it should be. ``problem`` quotes nothing of it."""
        self.warnings.append(FieldWarning(field=path.text, problem=problem))

    def first(self, places: Paths, read: Callable[[object], T | None], expected: str) -> T | None:
        """The first of ``places`` out of which ``read`` makes something; one that holds anything else is noted."""
        for path in places:
            value = path.follow(self.body)
            if value is None or value == "":
                continue
            result = read(value)
            if result is not None:
                return result
            self.warn(path, f"is not {expected}")
        return None

    def wanted(self, places: Paths, read: Callable[[object], T | None], expected: str) -> T | None:
        """Like :meth:`first`, for a field that should be there: its absence is noted too."""
        noted = len(self.warnings)
        result = self.first(places, read, expected)
        if result is None and len(self.warnings) == noted:
            self.warn(places[0], "is missing")
        return result

    def each(self, places: Paths, read: Callable[[object], T | None]) -> Iterable[T]:
        """All that ``read`` makes of the ``places``, lazily."""
        for path in places:
            result = read(path.follow(self.body))
            if result is not None:
                yield result
