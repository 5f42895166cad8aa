"""Normalize bodies with a list ``alerts`` of labelled alerts, which several tools around Prometheus send.

An alert is one *episode* of the condition that its labels name: from ``startsAt`` until it is ``resolved``. Alerts that
differ in labels of single machines alone are one group.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from signalcraft.domain.alerts import (
    AlertFailure,
    AlertPart,
    Change,
    FieldWarning,
    Normalization,
    NormalizedAlert,
    Severity,
    StatusChange,
    Vocabulary,
)
from signalcraft.domain.deliveries import CANARY_PROJECT, Delivery
from signalcraft.domain.errors import UnexpectedShape
from signalcraft.sources import cleaning
from signalcraft.sources.digest import digest
from signalcraft.sources.protocol import SourceSetting, comma_separated

RESOURCE: Final = "alerts"
FIRING: Final = "firing"
RESOLVED: Final = "resolved"
NO_PROJECT: Final = "unknown"
#: A label whose name begins so is the sender's own: it names no condition.
INTERNAL: Final = "__"
#: What a label says of severity, besides the names that every source shares.
SEVERITIES: Final[Mapping[str, Severity]] = {
    "page": Severity.HIGH,
    "high": Severity.HIGH,
    "medium": Severity.MED,
    "low": Severity.LOW,
    "none": Severity.INFO,
}
DROP_LABELS: Final = "pod,instance,container,replica,endpoint"
LABELS: Final = "project=project|service|namespace|job,environment=env|environment|cluster,severity=severity"
_NAMES: Final = frozenset({"project", "environment", "severity"})
FINGERPRINTS: Final[Mapping[str, str]] = {"labels": "its labels, without those of single machines, are the same"}


def _no_tags(_alert: Mapping[str, Any], _body: Mapping[str, Any]) -> Mapping[str, object]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one sender uses the format.

    ``version`` is that of its body. ``severities`` are of alerts by their name, whatever their labels say. ``links``
    are fields of an alert with URLs that the description ends with, each with the word before it. ``tags`` returns the
    tags of an alert, in its body, that are no labels; ``tags_are`` says which.
    """

    source: str
    version: str
    drop_labels: SourceSetting
    labels: SourceSetting
    severities: Mapping[str, Severity] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    tags: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, object]] = _no_tags
    tags_are: str = "all labels"


def parse_labels(text: str) -> Mapping[str, Sequence[str]]:
    """Parse where project, environment and severity are read: ``project=service|job,severity=level``."""
    pairs = [item.partition("=") for item in comma_separated(text)]
    found = {name.strip(): tuple(filter(None, map(str.strip, labels.split("|")))) for name, _, labels in pairs}
    if len(found) != len(pairs) or not found.keys() <= _NAMES or not all(found.values()):
        raise ValueError
    return found


#: Of a body, what each of its alerts is stored with, if it is short: the other fields repeat what is in the alerts, and
#: half a megabyte of them with each of 500 alerts would be 250 MB.
_KEPT: Final = ("version", "receiver", "groupKey", "externalURL", "orgId")
_KEPT_LIMIT: Final = 1_000
#: The place that a warning names: one line in the log for all alerts of a delivery that it is true of.
_ANY: Final = "alerts[*]"


def settings(prefix: str, labels: str = LABELS) -> tuple[SourceSetting, SourceSetting]:
    """Return the settings of a sender, ``<prefix>_DROP_LABELS`` and ``<prefix>_LABELS``, by default ``labels``."""
    return (
        SourceSetting(
            variable=f"{prefix}_DROP_LABELS",
            values="names of labels, comma-separated",
            parse=comma_separated,
            purpose="Labels that tell single machines apart: alerts that differ in them alone are one group.",
            default=DROP_LABELS,
        ),
        SourceSetting(
            variable=f"{prefix}_LABELS",
            values="pairs of project, environment or severity and labels, the first that an alert has counts",
            parse=parse_labels,
            purpose="Labels in which the project, the environment and the severity of an alert are.",
            default=labels,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Alert:
    """One alert of a body."""

    is_firing: bool
    condition: str
    event_id: str
    fingerprint: str
    started_at: datetime
    labels: Mapping[str, object]
    annotations: Mapping[str, object]
    link: object
    sent: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Reading:
    """Input of one normalization, and the warnings it gathers."""

    dialect: Dialect
    vocabulary: Vocabulary
    body: Mapping[str, Any]
    received_at: datetime
    warnings: dict[FieldWarning, None] = field(default_factory=dict)

    def warn(self, place: str, problem: str) -> None:
        self.warnings[FieldWarning(field=place, problem=problem)] = None

    def label(self, alert: _Alert, name: str) -> str:
        """Return the first of the labels configured for ``name`` that the alert has, else an empty text."""
        setting = self.dialect.labels
        names = setting.of(self.vocabulary).get(name) or setting.parse(setting.default)[name]
        found = (alert.labels.get(each) for each in names)
        return next((value for value in found if isinstance(value, str) and value.strip()), "")


def normalize(body: Mapping[str, Any], delivery: Delivery, dialect: Dialect, vocabulary: Vocabulary) -> Normalization:
    """Return an alert for each that fires, a status change for each that is over, and those that cannot be read."""
    reading = _Reading(dialect, vocabulary, body, delivery.received_at)
    outcomes: list[NormalizedAlert | StatusChange] = []
    failures: list[AlertFailure] = []
    truncated = cleaning.count(body.get("truncatedAlerts"))
    if truncated:
        reading.warn("truncatedAlerts", "is not 0: the sender left alerts out, raise its max_alerts")
    alerts = body["alerts"]
    for number, alert in enumerate(alerts):
        part = AlertPart(place=f"alerts[{number}]", body=_body_of(body, alert) if len(alerts) > 1 else delivery.body)
        try:
            outcomes.append(_outcome(_read(alert, part.place, reading), part, reading))
        except UnexpectedShape as error:
            failures.append(AlertFailure(part=part, error=error))
    return Normalization(outcomes=outcomes, warnings=tuple(reading.warnings), failures=failures)


def is_canary(body: Mapping[str, Any]) -> bool:
    """Return whether ``body`` is our own: one alert with the canary's name."""
    match body.get("alerts"):
        case [{"labels": {"alertname": name}}]:
            return bool(name == CANARY_PROJECT)
    return False


def _body_of(body: Mapping[str, Any], alert: object) -> bytes:
    """Return a body with this alert alone."""
    kept = {name: value for name in _KEPT if isinstance(value := body.get(name), str | int) and _is_short(value)}
    return json.dumps({**kept, "alerts": [alert]}, separators=(",", ":")).encode()


def _is_short(value: str | int) -> bool:
    return len(str(value)) <= _KEPT_LIMIT


def _read(alert: object, place: str, reading: _Reading) -> _Alert:
    if not isinstance(alert, dict):
        raise UnexpectedShape("must be an object", field=place)
    labels, annotations = alert.get("labels"), alert.get("annotations")
    if not isinstance(labels, dict) or not labels:
        raise UnexpectedShape("must be an object with a label at least", field=f"{place}.labels")
    if alert.get("status") not in (FIRING, RESOLVED):
        raise UnexpectedShape(f"must be {FIRING} or {RESOLVED}", field=f"{place}.status")
    started_at = cleaning.time(alert.get("startsAt"))
    if started_at is None:
        raise UnexpectedShape("must be a time", field=f"{place}.startsAt")
    condition = f"{cleaning.identifier(alert.get('fingerprint')) or digest(labels)}:"
    return _Alert(
        is_firing=alert["status"] == FIRING,
        condition=condition,
        event_id=f"{condition}{started_at.isoformat(timespec='microseconds')}",
        fingerprint=f"labels:{digest(_of_condition(labels, reading))}",
        started_at=started_at,
        labels=labels,
        annotations=annotations if isinstance(annotations, dict) else {},
        link=alert.get("generatorURL"),
        sent=alert,
    )


def _outcome(alert: _Alert, part: AlertPart, reading: _Reading) -> NormalizedAlert | StatusChange:
    if alert.is_firing:
        return _firing(alert, part, reading)
    return StatusChange(
        source=reading.dialect.source,
        change=Change.RESOLVED,
        fingerprint=alert.fingerprint,
        received_at=reading.received_at,
        event_id=alert.event_id,
    )


def _firing(alert: _Alert, part: AlertPart, reading: _Reading) -> NormalizedAlert:
    environment, project = _environment(alert, reading), _project(alert, reading)
    name = cleaning.line(alert.labels.get("alertname"), cleaning.RULE_LIMIT)
    title = cleaning.line(alert.annotations.get("summary"), cleaning.TITLE_LIMIT) or name
    if title is None:
        reading.warn(f"{_ANY}.labels.alertname", "is missing; a title was made")
    tags, incomplete = cleaning.tags({**alert.labels, **reading.dialect.tags(alert.sent, reading.body)})
    if incomplete:
        reading.warn(f"{_ANY}.labels", "has entries that are no labels, or too many; the others were kept")
    return NormalizedAlert(
        source=reading.dialect.source,
        source_event_id=alert.event_id,
        project=project,
        environment=environment,
        severity=_severity(alert, environment, reading),
        fingerprint=alert.fingerprint,
        title=title or f"Untitled alert in {project}",
        description=_description(alert, reading),
        tags=tuple(tags),
        occurred_at=alert.started_at,
        received_at=reading.received_at,
        link=cleaning.link(alert.link),
        triggered_rule=name,
        has_title=title is not None,
        runbook_url=cleaning.link(alert.annotations.get("runbook_url")),
        is_episode=True,
        supersedes=alert.condition,
        part=part,
    )


def _description(alert: _Alert, reading: _Reading) -> str:
    text = alert.annotations.get("description") or alert.annotations.get("message")
    links = [
        f"{word}: {url}" for name, word in reading.dialect.links.items() if (url := cleaning.link(alert.sent.get(name)))
    ]
    limit = cleaning.DESCRIPTION_LIMIT - sum(len(link) + 1 for link in links)
    return "\n".join([*filter(None, [cleaning.text(text, max(limit, 1))]), *links])[: cleaning.DESCRIPTION_LIMIT]


def _project(alert: _Alert, reading: _Reading) -> str:
    if alert.labels.get("alertname") == CANARY_PROJECT:
        return CANARY_PROJECT
    project, was_odd = cleaning.slug(reading.label(alert, "project"))
    if was_odd:
        reading.warn(f"{_ANY}.labels", "names a project that is no slug; it was cleaned")
    return project or NO_PROJECT


def _environment(alert: _Alert, reading: _Reading) -> str:
    sent = cleaning.environment(reading.label(alert, "environment"))
    if sent is None:
        return reading.vocabulary.default_environment
    name, known = cleaning.canonical_environment(sent, reading.vocabulary)
    if not known:
        reading.warn(f"{_ANY}.labels", "names an environment that we do not know; it was kept")
    return name


def _severity(alert: _Alert, environment: str, reading: _Reading) -> Severity:
    word = reading.label(alert, "severity")
    known = cleaning.severity(word) or SEVERITIES.get(word.strip().lower())
    named = alert.labels.get("alertname")
    severity = reading.dialect.severities.get(named) if isinstance(named, str) else None
    if severity is None and known is None:
        reading.warn(f"{_ANY}.labels", "names no severity that we know; it is med")
    severity = severity or known or Severity.MED
    steps = reading.vocabulary.severity_shift.get(environment, 0)
    return severity.shifted(steps) if steps else severity


def _of_condition(labels: Mapping[str, object], reading: _Reading) -> dict[str, object]:
    """Return the labels that name the condition: all, if each only names a machine."""
    dropped = reading.dialect.drop_labels.of(reading.vocabulary)
    kept = {name: value for name, value in labels.items() if name not in dropped and not name.startswith(INTERNAL)}
    return kept or dict(labels)


#: How each field of ``NormalizedAlert`` is read.
_TREATMENT: Final[Mapping[str, str]] = {
    "source_event_id": "`<fingerprint>:<startsAt>`: one episode, however often it is repeated; without a "
    "`fingerprint`, the digest of the labels stands for it",
    "fingerprint": f"`labels:` and the digest of the labels, but for those of `{{drop_labels}}` and those that "
    f"begin with `{INTERNAL}`; of all labels, if none is left",
    "project": f"the label that `{{labels}}` names, as a slug; absent: `{NO_PROJECT}`",
    "environment": "the label that `{labels}` names, then by alias; absent: the workspace's default",
    "severity": "the label that `{labels}` names, by the table below; absent or unknown: `med`; shifted by environment",
    "title": "`annotations.summary`, else the label `alertname`",
    "description": "`annotations.description`, else `annotations.message`{links}; lines are kept",
    "tags": "{tags}",
    "occurred_at": "`startsAt`",
    "link": "`generatorURL`, if it is http(s)",
    "triggered_rule": "the label `alertname`",
    "runbook_url": "`annotations.runbook_url`, if it is http(s): that of a group is of the alert that opened it",
}


def tables(dialect: Dialect) -> str:
    """Return the sections of a reference page that all senders of this family share."""
    names = {
        "drop_labels": dialect.drop_labels.variable,
        "labels": dialect.labels.variable,
        "tags": dialect.tags_are,
        "links": "".join(f", then `{name}`" for name in dialect.links),
    }
    severities = {**cleaning.SEVERITIES, **SEVERITIES}
    sections = {
        ("Outcomes", "status", "outcome"): {
            f"`{FIRING}`": "an alert, which lasts until it is over; again: the same alert, it keeps its group alive",
            f"`{RESOLVED}`": "this alert is over; its group is resolved when all of its alerts are",
        },
        ("Fields of an alert", "field", "is"): {
            f"`{name}`": treatment.format(**names) for name, treatment in _TREATMENT.items()
        },
        ("Severity", "label", "severity"): {f"`{name}`": severity.value for name, severity in severities.items()},
        ("Severity by name", "`alertname`", "severity"): {
            f"`{name}`": severity.value for name, severity in dialect.severities.items()
        },
    }
    return "\n".join(
        f"## {title}\n\n| {head} | {body} |\n| --- | --- |\n" + "".join(f"| {a} | {b} |\n" for a, b in rows.items())
        for (title, head, body), rows in sections.items()
        if rows
    )
