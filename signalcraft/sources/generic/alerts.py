"""The fields of our own body, and the alerts and status changes that they are.

With an ``id``, an alert is an episode: it lasts until one with the same id is resolved. Without, it is an alert of its
own, and the next resolved one of the same fingerprint resolves the whole group.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from signalcraft.domain.alerts import (
    AlertPart,
    Change,
    FieldWarning,
    NormalizedAlert,
    Severity,
    StatusChange,
    Vocabulary,
)
from signalcraft.sources import cleaning, labelled_alerts
from signalcraft.sources.digest import digest

SOURCE: Final = "generic"
FIRING: Final = "firing"
RESOLVED: Final = "resolved"
#: What a mapping may make of a status that is neither of the two.
IGNORED: Final = "ignored"
NO_PROJECT: Final = "unknown"
TAGS: Final = "tags"
#: Each field, with how it is read.
TREATMENT: Final[Mapping[str, str]] = {
    "title": "text; required, but not of a resolved alert with an `id` or a `fingerprint`",
    "status": f"`{FIRING}` or `{RESOLVED}`; required",
    "id": "text or a number that names this one time; the same when it is repeated or over, another the next time",
    "fingerprint": "text or a number: alerts of a project and environment with the same are one group; absent: the "
    "title",
    "severity": "by the table below; absent or unknown: `med`; shifted by environment",
    "project": f"as a slug; absent: `{NO_PROJECT}`",
    "environment": "by alias; absent: the workspace's default",
    "description": "text; lines are kept",
    "link": "an http(s) URL",
    "tags": "an object, or pairs",
    "occurred_at": "ISO 8601, or seconds, milliseconds, microseconds or nanoseconds since 1970; absent or "
    "unusable: the time of receipt",
}
FIELDS: Final = frozenset(TREATMENT)
FINGERPRINTS: Final[Mapping[str, str]] = {
    "given": "project, environment and the fingerprint that the sender gave are the same",
    "title": "project, environment and title are the same",
}
SEVERITIES: Final[Mapping[str, Severity]] = {
    **cleaning.SEVERITIES,
    **labelled_alerts.SEVERITIES,
    **{severity.value: severity for severity in Severity},
}
#: A longer text is replaced by its digest.
_MAX_KEY: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One alert of a delivery, whatever it came in.

    ``path`` is where its fields are, ``event_key`` the identity of the event that holds it, if it has one of its own.
    """

    fields: Mapping[str, Any]
    part: AlertPart
    path: str
    event_key: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """Input of one normalization, and the warnings it gathers."""

    vocabulary: Vocabulary
    received_at: datetime
    warnings: dict[FieldWarning, None] = field(default_factory=dict)

    def warn(self, place: str, problem: str) -> None:
        """Add a warning, once for all alerts that it is true of."""
        self.warnings[FieldWarning(field=place, problem=problem)] = None


def problem(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return what keeps ``fields`` from being an alert: a field, and what it must be."""
    if fields.get("status") not in (FIRING, RESOLVED):
        return "status", f"must be {FIRING} or {RESOLVED}"
    for name in ("id", "fingerprint"):
        if fields.get(name) is not None and _key(fields[name]) is None:
            return name, "must be a text that is not empty, or a number"
    is_known = fields["status"] == RESOLVED and any(fields.get(name) is not None for name in ("id", "fingerprint"))
    if not is_known and _title(fields) is None:
        return "title", "must be a text that is not empty"
    return None


def outcome(element: Element, reading: Reading) -> NormalizedAlert | StatusChange:
    """Return the alert, or the end of one, that fields without a :func:`problem` are."""
    fields = element.fields
    if fields.keys() - FIELDS:
        reading.warn("body", "has fields that we do not know; they were left out")
    project, environment = _project(fields, reading), _environment(fields, reading)
    given, title, key = _key(fields.get("fingerprint")), _title(fields), _key(fields.get("id"))
    same = [project, environment, given if given is not None else title or key]
    fingerprint = f"{'title' if given is None else 'given'}:{digest(same)}"
    event_id = "" if key is None else f"id:{project}:{key}"
    if fields["status"] == RESOLVED:
        return StatusChange(
            source=SOURCE,
            change=Change.RESOLVED,
            fingerprint=fingerprint,
            received_at=reading.received_at,
            event_id=event_id,
        )
    tags, incomplete = cleaning.tags(fields.get(TAGS))
    if incomplete:
        reading.warn(TAGS, "has entries that are no tags, or too many; the others were kept")
    minute = reading.received_at.strftime("%Y-%m-%dT%H:%M")
    return NormalizedAlert(
        source=SOURCE,
        source_event_id=event_id or element.event_key or f"body:{digest(dict(fields))}:{minute}",
        project=project,
        environment=environment,
        severity=_severity(fields, environment, reading),
        fingerprint=fingerprint,
        title=title or "",
        description=cleaning.text(fields.get("description"), cleaning.DESCRIPTION_LIMIT) or "",
        tags=tuple(tags),
        occurred_at=_time(fields, reading),
        received_at=reading.received_at,
        link=cleaning.link(fields.get("link")),
        is_episode=key is not None,
        part=element.part,
    )


def event_key(*parts: str) -> str:
    """Return the identity of an event that has one of its own."""
    return f"event:{digest(parts)}"


def _key(value: object) -> str | None:
    """Return an id or fingerprint of the sender's as a short text; None: it is neither text nor number."""
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        return None
    text = value.strip()
    return text if len(text) <= _MAX_KEY and text.isprintable() else digest(text)


def _title(fields: Mapping[str, Any]) -> str | None:
    return cleaning.line(fields.get("title"), cleaning.TITLE_LIMIT)


def _project(fields: Mapping[str, Any], reading: Reading) -> str:
    project, was_odd = cleaning.slug(fields.get("project"))
    if was_odd:
        reading.warn("project", "is no slug; it was cleaned")
    return project or NO_PROJECT


def _environment(fields: Mapping[str, Any], reading: Reading) -> str:
    sent = cleaning.environment(fields.get("environment"))
    if sent is None:
        return reading.vocabulary.default_environment
    name, known = cleaning.canonical_environment(sent, reading.vocabulary)
    if not known:
        reading.warn("environment", "is none that we know; it was kept")
    return name


def _severity(fields: Mapping[str, Any], environment: str, reading: Reading) -> Severity:
    sent = fields.get("severity")
    known = SEVERITIES.get(sent.strip().lower()) if isinstance(sent, str) else None
    if known is None and sent is not None:
        reading.warn("severity", "is none that we know; it is med")
    return (known or Severity.MED).shifted(reading.vocabulary.severity_shift.get(environment, 0))


def _time(fields: Mapping[str, Any], reading: Reading) -> datetime:
    sent = fields.get("occurred_at")
    moment = cleaning.time(sent)
    if moment is None and sent is not None:
        reading.warn("occurred_at", "is no time; that of receipt was taken")
    return moment or reading.received_at
