"""Paths of fields in a body, and a reader that tries them in order and records warnings.

A path is written like ``data.event.exception.values[-1].type``: names, ``[-1]`` for
the last entry of a list, ``[name]`` for the list entry of that name (a tag's value, whether
tags are pairs or dictionaries; the service hook's entry of that ``type``).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from signalcraft.domain.alerts import FieldWarning

T = TypeVar("T")

_STEP = re.compile(r"[^.\[\]]+|\[[^\[\]]+\]")


@dataclass(frozen=True, slots=True)
class Path:
    """The path of one field in a body."""

    text: str
    steps: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Split the text once.

        Following the path then needs only look-ups.
        """
        object.__setattr__(self, "steps", tuple(step.strip("[]") for step in _STEP.findall(self.text)))

    def follow(self, body: object) -> object:
        """Return the value at this path.

        It is ``None`` if it is missing or a step does not fit.
        """
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
    """Return the paths of one field, the best first."""
    return tuple(map(Path, texts))


def _in_list(entries: list[Any], name: str) -> object:
    if name == "-1":
        return entries[-1] if entries else None
    for entry in entries:
        if isinstance(entry, list):
            if len(entry) == 2 and entry[0] in (name, f"sentry:{name}"):
                return entry[1]
        elif isinstance(entry, dict):
            if entry.get("type") == name:
                return entry
            if entry.get("key") in (name, f"sentry:{name}"):
                return entry.get("value")
    return None


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the fields of one body and collects warnings. Never raises."""

    body: Mapping[str, Any]
    warnings: list[FieldWarning] = field(default_factory=list)

    def warn(self, path: Path, problem: str) -> None:
        """Add a warning about the field at ``path``.

        ``problem`` quotes nothing from the body.
        """
        self.warnings.append(FieldWarning(field=path.text, problem=problem))

    def first(self, candidates: Paths, read: Callable[[object], T | None], expected: str) -> T | None:
        """Return the first value that ``read`` accepts.

        Each value that it rejects adds a warning.
        """
        for path in candidates:
            value = path.follow(self.body)
            if value is None or value == "":
                continue
            result = read(value)
            if result is not None:
                return result
            self.warn(path, f"is not {expected}")
        return None

    def first_or_warn(self, candidates: Paths, read: Callable[[object], T | None], expected: str) -> T | None:
        """Read like :meth:`first`; also warn if the field is missing."""
        warnings_before = len(self.warnings)
        result = self.first(candidates, read, expected)
        if result is None and len(self.warnings) == warnings_before:
            self.warn(candidates[0], "is missing")
        return result

    def each(self, candidates: Paths, read: Callable[[object], T | None]) -> Iterable[T]:
        """Yield every value that ``read`` accepts, lazily."""
        for path in candidates:
            result = read(path.follow(self.body))
            if result is not None:
                yield result
