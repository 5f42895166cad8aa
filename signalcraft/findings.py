"""What ``doctor`` finds: a line each, with a grade."""

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """How bad a finding is. Only a failure makes ``doctor`` fail."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: what was looked at, what is the case, and what to do about it."""

    grade: Grade
    about: str
    says: str
    advice: str = ""


def ok(about: str, says: str) -> Finding:
    """All is well."""
    return Finding(grade=Grade.OK, about=about, says=says)


def warning(about: str, says: str, advice: str) -> Finding:
    """It works, and could be better or soon will not."""
    return Finding(grade=Grade.WARNING, about=about, says=says, advice=advice)


def failure(about: str, says: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(grade=Grade.FAILURE, about=about, says=says, advice=advice)
