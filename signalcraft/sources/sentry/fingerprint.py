"""Fingerprints of alerts, typed so that two kinds are never equal.

Sentry's own grouping is its issue, custom fingerprints included, so an issue id has priority. The event's
fingerprint counts only if the delivery has no issue id. ``{{ default }}`` in it means Sentry's own grouping:
it is resolved from the hashes, since taken literally it would put a whole project into one group.
"""

import re
from collections.abc import Sequence

from signalcraft.sources.digest import digest
from signalcraft.sources.masking import mask

MAX_PARTS = 32

_DEFAULT = re.compile(r"\{\{\s*default\s*\}\}")
_HASH = re.compile(r"[0-9a-fA-F]{32,64}")


def issue(issue_id: str) -> str:
    """Return the fingerprint of an issue."""
    return f"issue:{issue_id}"


def metric_rule(rule_id: str) -> str:
    """Return the fingerprint of a metric alert.

    It is that of its rule, equal for all incidents.
    """
    return f"metric_rule:{rule_id}"


def metric_incident(incident: str) -> str:
    """Return the fingerprint of a metric alert without a rule: that of its incident."""
    return f"metric_incident:{incident}"


def made(*parts: str) -> str:
    """Return a fingerprint of texts, the last resort.

    The texts are the title, the type and the culprit. What varies in them is masked.
    """
    return f"made:{digest([mask(part) for part in parts])}"


def custom_parts(value: object) -> list[str] | None:
    """Return the parts of a custom fingerprint, else ``None``.

    The parts are 1 to 32 texts.
    """
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_PARTS:
        return None
    return value if all(isinstance(part, str) for part in value) else None


def first_hash(value: object) -> str | None:
    """Return Sentry's primary grouping hash, else ``None``.

    Others follow it; Sentry groups by any of them, and the first is the most specific.
    """
    if not isinstance(value, list):
        return None
    return next((each.lower() for each in value if isinstance(each, str) and _HASH.fullmatch(each)), None)


def of_event(parts: Sequence[str] | None, grouping_hash: str | None, fallback: str) -> str:
    """Return the fingerprint of an event.

    It is that of ``parts``, else of the hash, else ``fallback`` (from :func:`made`).
    """
    default = f"hashes:{grouping_hash}" if grouping_hash else fallback
    if parts is None or all(map(_DEFAULT.fullmatch, parts)):
        return default
    return f"custom:{digest([default if _DEFAULT.fullmatch(part) else part for part in parts])}"
