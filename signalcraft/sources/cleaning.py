"""Clean the values of any sender before they are stored: text, slugs, severities, times, tags.

Every function takes any JSON value and returns a value that PostgreSQL can store and a person
can read, or ``None`` for an unusable value. None of them raises.
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from signalcraft.domain.alerts import Severity, Vocabulary

TITLE_LIMIT = 500
DESCRIPTION_LIMIT = 8_000
RULE_LIMIT = 200
TAG_KEY_LIMIT = 200
TAG_VALUE_LIMIT = 200
TAGS_LIMIT = 500
ENVIRONMENT_LIMIT = 64
SLUG_LIMIT = 100
IDENTIFIER_LIMIT = 64
LINK_LIMIT = 2_000

#: A time outside of these years is treated as a mistake.
FIRST_YEAR, LAST_YEAR = 2000, 2100

#: A count is stored as a bigint.
COUNT_LIMIT = 2**63 - 1

_ELLIPSIS = "…"
# C0 except tab and line feed, DEL, C1 and lone surrogates. In titles, blanks replace line breaks first.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANKS = re.compile(r"\s+")
_IDENTIFIER = re.compile(rf"[0-9A-Za-z_-]{{1,{IDENTIFIER_LIMIT}}}")
_SLUG = re.compile(rf"[a-z0-9._-]{{1,{SLUG_LIMIT}}}")
_NOT_SLUG = re.compile(r"[^a-z0-9._-]+")
_UNSAFE = re.compile(r'[ <>"\\`]')
_DIGITS = re.compile(r"[0-9]{1,19}")
_EPOCH = re.compile(r"[0-9]{1,19}(?:\.[0-9]{1,9})?")


def text(value: object, limit: int) -> str | None:
    """Return ``value`` without control characters, cut to ``limit``.

    Its lines are kept, and HTML stays as it is.
    """
    if not isinstance(value, str):
        return None
    # Cut first, so that a text of megabytes costs no more than a short one.
    short = value[: 2 * limit]
    if "\r" in short:
        short = short.replace("\r\n", "\n").replace("\r", "\n")
    return cut(_printable(short).strip(), limit, more=len(value) > 2 * limit) or None


def line(value: object, limit: int) -> str | None:
    """Return ``value`` like :func:`text`, on one line.

    A run of blanks and line breaks becomes one space.
    """
    if not isinstance(value, str):
        return None
    if len(value) <= limit and value.isprintable() and "  " not in value:
        return value.strip() or None
    short = value[: 2 * limit]
    if not short.isprintable():
        short = _printable(_BLANKS.sub(" ", short))
    return cut(" ".join(short.split()), limit, more=len(value) > 2 * limit) or None


def _printable(value: str) -> str:
    # PostgreSQL refuses NUL and lone surrogates; a terminal executes control characters.
    if value.isprintable():
        return value
    return _UNPRINTABLE.sub("", _SURROGATE.sub("\ufffd", value))


def cut(value: str, limit: int, *, more: bool = False) -> str:
    """Cut ``value`` to ``limit`` characters.

    The last is an ellipsis if anything is missing. The cut never separates a character from its combining marks.
    ``more``: the value was cut before.
    """
    if len(value) <= limit and not more:
        return value
    end = min(limit - 1, len(value))
    while 0 < end < len(value) and (unicodedata.combining(value[end]) or "\u200d" in value[end - 1 : end + 1]):
        end -= 1
    return value[:end].rstrip() + _ELLIPSIS


def identifier(value: object) -> str | None:
    """Return an id as text, from text or a number.

    Anything but a plain id is ``None``.
    """
    if type(value) is int and 0 <= value <= COUNT_LIMIT:
        return str(value)
    if isinstance(value, str) and _IDENTIFIER.fullmatch(value):
        return value
    return None


def slug(value: object) -> tuple[str, bool]:
    """Return a project's slug, and whether it needed cleaning.

    The slug is trimmed and lower-cased, which does not count as cleaning.
    """
    if not isinstance(value, str):
        return "", False
    lowered = value[: 2 * SLUG_LIMIT].strip().lower()
    if _SLUG.fullmatch(lowered):
        return lowered, False
    return _NOT_SLUG.sub("-", lowered).strip("-")[:SLUG_LIMIT], True


def environment(value: object) -> str | None:
    """Return an environment's name: one line, lower-cased, blanks as hyphens."""
    name = line(value, ENVIRONMENT_LIMIT)
    return name.lower().replace(" ", "-")[:ENVIRONMENT_LIMIT] if name else None


def canonical_environment(name: str, vocabulary: Vocabulary) -> tuple[str, bool]:
    """Resolve the workspace's aliases of ``name``.

    Also returns whether the name is known.
    """
    aliases = vocabulary.environment_aliases
    if name in aliases:
        return aliases[name], True
    return name, name == vocabulary.default_environment or name in aliases.values()


#: Names of severities that senders share.
SEVERITIES: Final[Mapping[str, Severity]] = {
    "fatal": Severity.CRITICAL,
    "error": Severity.HIGH,
    "warning": Severity.MED,
    "info": Severity.LOW,
    "debug": Severity.INFO,
    "sample": Severity.INFO,
    "critical": Severity.CRITICAL,
    "warn": Severity.MED,
    "log": Severity.LOW,
}

#: The levels of Python's ``logging``, which old senders use.
NUMERIC_SEVERITIES: Final[Mapping[float, Severity]] = {
    0: Severity.INFO,
    10: Severity.INFO,
    20: Severity.LOW,
    30: Severity.MED,
    40: Severity.HIGH,
    50: Severity.CRITICAL,
}


def severity(value: object) -> Severity | None:
    """Return the severity of a level.

    A level is a name, a number, or a number in text.
    """
    if isinstance(value, str):
        name = value[:20].strip().lower()
        if not (name.isascii() and name.isdigit()):
            return SEVERITIES.get(name)
        value = int(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return NUMERIC_SEVERITIES.get(value)


def link(value: object) -> str | None:
    """Return an http(s) URL as it was sent; anything that a page could not safely link to is ``None``."""
    if not isinstance(value, str) or len(value) > LINK_LIMIT or not value.isprintable() or _UNSAFE.search(value):
        return None
    try:
        parts = urlsplit(value)
    except ValueError:  # brackets that hold no address
        return None
    return value if parts.scheme in ("http", "https") and parts.hostname else None


def count(value: object) -> int | None:
    """Return a count, from a number or digits in text."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    return value if type(value) is int and 0 <= value <= COUNT_LIMIT else None


def time(value: object) -> datetime | None:
    """Parse a time into aware UTC.

    Accepts ISO 8601 (any offset; without one it is UTC), or an epoch in s, ms, µs or ns, as number or text.
    """
    try:
        if isinstance(value, str):
            moment = _time_in_text(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            moment = _since_epoch(value)
        else:
            return None
    except (ValueError, OverflowError, OSError):  # not ISO 8601; NaN, infinity; a year that datetime does not have
        return None
    return moment if FIRST_YEAR <= moment.year <= LAST_YEAR else None


def _time_in_text(value: str) -> datetime:
    if _EPOCH.fullmatch(value):
        return _since_epoch(float(value))
    moment = datetime.fromisoformat(value[:40])
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _since_epoch(value: float) -> datetime:
    # 1e11 seconds are the year 5138, 1e11 milliseconds are 1973: the size determines the unit.
    seconds = float(value)
    for _ in range(3):
        if seconds < 1e11:
            break
        seconds /= 1000
    return datetime.fromtimestamp(seconds, UTC)


def tags(value: object, *, prefix: str = "") -> tuple[list[tuple[str, str]], bool]:
    """Return tags as pairs, and whether any were dropped.

    The pairs are in the order sent. Accepts pairs (``[["browser", "Firefox"]]``), dictionaries
    (``[{"key": …, "value": …}]``) or one object; duplicates are kept. ``prefix`` is what
    a sender may put before the names of its own tags; it is removed.
    """
    if value is None:
        return [], False
    entries = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(entries, list):
        return [], True
    kept = [pair for entry in entries[:TAGS_LIMIT] if (pair := _tag(entry, prefix)) is not None]
    return kept, len(kept) != len(entries)


def _tag(entry: object, prefix: str) -> tuple[str, str] | None:
    if isinstance(entry, dict):
        entry = (entry.get("key"), entry.get("value"))
    if not isinstance(entry, (list, tuple)) or len(entry) != 2:
        return None
    name, value = entry
    key = (line(name, TAG_KEY_LIMIT) or "").removeprefix(prefix)
    if not key:
        return None
    return key, line(value if isinstance(value, str) else as_text(value), TAG_VALUE_LIMIT) or ""


def as_text(value: object) -> str:
    """Return ``value`` as JSON; nothing for null."""
    try:
        return "" if value is None else json.dumps(value, ensure_ascii=False)
    except RecursionError:  # the parser, a few calls higher up the stack, was just within the recursion limit
        return "…"
