"""What an event belongs to, typed so that two kinds never meet.

Sentry's own grouping is its issue, custom fingerprints included, so an issue id wins. Only where a
delivery has none does the event's fingerprint speak, and ``{{ default }}`` in it means "as Sentry
would": it is resolved from the hashes, since taken literally it puts a whole project into one group.
"""

import hashlib
import json
import re
from collections.abc import Sequence

MAX_PARTS = 32

_DEFAULT = re.compile(r"\{\{\s*default\s*\}\}")
_HASH = re.compile(r"[0-9a-fA-F]{32,64}")
# Ids and numbers, which differ between two occurrences of one error: hex of 8 or of 12 and more, UUIDs. One way to
# match each text: with the dashes optional, 150 letters took 300 ms, and each one more took longer than the last.
_CHANGING = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8}(?:[0-9a-f]{4,})?(?:-[0-9a-f]{4,}){0,4}\b|[0-9]+", re.IGNORECASE)


def issue(issue_id: str) -> str:
    """Of an issue and all that happens to it."""
    return f"issue:{issue_id}"


def metric_rule(rule_id: str) -> str:
    """Of a metric alert: the rule, whichever of its incidents."""
    return f"metric_rule:{rule_id}"


def made(*parts: str) -> str:
    """Made from words (type, title, culprit) where a sender gives nothing better."""
    return f"made:{_digest([_CHANGING.sub('#', part) for part in parts])}"


def custom_parts(value: object) -> list[str] | None:
    """A custom fingerprint: 1 to 32 texts, else ``None``."""
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_PARTS:
        return None
    return value if all(isinstance(part, str) for part in value) else None


def first_hash(value: object) -> str | None:
    """Sentry's primary grouping hash. Others follow it; any of them joins, the first is the most specific."""
    if not isinstance(value, list):
        return None
    return next((each.lower() for each in value if isinstance(each, str) and _HASH.fullmatch(each)), None)


def of_event(parts: Sequence[str] | None, grouping_hash: str | None, fallback: str) -> str:
    """From a custom fingerprint, else the hash, else ``fallback``, which is of the kind that :func:`made` makes."""
    default = f"hashes:{grouping_hash}" if grouping_hash else fallback
    if parts is None or all(map(_DEFAULT.fullmatch, parts)):
        return default
    return f"custom:{_digest([default if _DEFAULT.fullmatch(part) else part for part in parts])}"


def _digest(parts: list[str]) -> str:
    """A hash over an unambiguous encoding; ASCII, so that a lone surrogate cannot break it."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
