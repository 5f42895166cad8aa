"""Normalize bodies that are alerts. One function for all resources; ``fields`` holds the differences."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from signalcraft.domain.alerts import NormalizedAlert, Severity, Vocabulary
from signalcraft.sources import cleaning
from signalcraft.sources.sentry import delivery_keys, fingerprint, identifiers, urls
from signalcraft.sources.sentry.envelope import LEGACY, Envelope
from signalcraft.sources.sentry.field_paths import Reader
from signalcraft.sources.sentry.fields import FIELDS, METRIC_ALERT, AlertFields

SOURCE = "sentry"
MAX_RULES = 20
TIME = "a time we can believe"
HTTP_URL = "an http(s) URL"

#: A metric alert has no level: its action is its severity.
METRIC_SEVERITIES: Final[Mapping[str, Severity]] = {"critical": Severity.CRITICAL, "warning": Severity.MED}
#: ``metric_alert.status`` of a critical incident (Sentry's ``IncidentStatus``); the only severity of an ``open`` one.
CRITICAL_INCIDENT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Input of one normalization: the envelope, its field paths, the workspace's vocabulary, the reader."""

    envelope: Envelope
    fields: AlertFields
    vocabulary: Vocabulary
    reader: Reader

    @classmethod
    def of(cls, envelope: Envelope, reader: Reader, vocabulary: Vocabulary) -> "Reading":
        """Choose the field paths by the envelope's resource."""
        return cls(envelope=envelope, fields=FIELDS[envelope.resource], vocabulary=vocabulary, reader=reader)


def of_event(envelope: Envelope, reader: Reader, vocabulary: Vocabulary) -> Sequence[NormalizedAlert]:
    """Normalize one event: ``event_alert``, ``error`` and the service hook."""
    reading = Reading.of(envelope, reader, vocabulary)
    return [_alert(reading, _source_event_id(reading))]


def of_legacy(envelope: Envelope, reader: Reader, vocabulary: Vocabulary) -> Sequence[NormalizedAlert]:
    """Normalize one event of the legacy plugin.

    The alert is repeated for each rule that sent it. The copies share an id, so they count once.
    """
    reading = Reading.of(envelope, reader, vocabulary)
    alert = _alert(reading, _source_event_id(reading))
    sent_by = envelope.body.get("triggering_rules")
    rules = (
        [cleaning.line(rule, cleaning.RULE_LIMIT) for rule in sent_by[:MAX_RULES]] if isinstance(sent_by, list) else []
    )
    if len(rules) == MAX_RULES < len(sent_by or ()):
        reader.warn(reading.fields.rule[0], f"names more than {MAX_RULES} rules; the first were kept")
    return [replace(alert, triggered_rule=rule) for rule in rules] or [alert]


def of_new_issue(envelope: Envelope, reader: Reader, vocabulary: Vocabulary) -> Sequence[NormalizedAlert]:
    """Normalize a new issue.

    It names no event, so it is one separate alert for each issue.
    """
    reading = Reading.of(envelope, reader, vocabulary)
    issue_id = identifiers.issue_id(reader, reading.fields)
    return [_alert(reading, f"issue:{issue_id}:created" if issue_id else _substitute_id(reading))]


def of_metric(envelope: Envelope, reader: Reader, vocabulary: Vocabulary) -> Sequence[NormalizedAlert]:
    """Normalize a metric alert.

    One incident may rise twice, so the alert's id includes the delivery key.
    """
    reading = Reading.of(envelope, reader, vocabulary)
    incident = identifiers.event_id(reader, reading.fields) or metric_rule_id(reader, reading.fields)
    if incident is None:
        reader.warn(reading.fields.event_id[0], "is missing, and so is the rule; the body's digest stands for them")
    digest = delivery_keys.delivery_key(envelope).partition(":")[2]
    return [_alert(reading, ":".join(filter(None, ("metric", incident, envelope.action, digest))))]


def _source_event_id(reading: Reading) -> str:
    event_id = identifiers.event_id(reading.reader, reading.fields)
    return f"{event_id}:{identifiers.owner(reading.reader, reading.fields)}" if event_id else _substitute_id(reading)


def _substitute_id(reading: Reading) -> str:
    """Return an id for an alert without one: the issue or project and the moment, else the body."""
    reader, fields, delivery = reading.reader, reading.fields, reading.envelope.delivery
    missing = (fields.event_id or fields.issue_id)[0]
    moment = reader.first(fields.occurred_at, cleaning.time, TIME)
    if moment is not None:
        reader.warn(missing, "is missing; the moment stands for it")
        return f"at:{identifiers.owner(reader, fields)}:{moment.isoformat()}"
    reader.warn(missing, "is missing, and so is the time; the body stands for it")
    body = f"body:{hashlib.sha256(delivery.body).hexdigest()}"
    if reading.envelope.resource == LEGACY and identifiers.names_nothing(reader, fields):
        return f"{body}:{delivery.received_at.isoformat()}"
    return body


def metric_rule_id(reader: Reader, fields: AlertFields) -> str | None:
    """Return the id of a metric alert's rule.

    All incidents of the rule share it.
    """
    return reader.first_or_warn(fields.rule_id, cleaning.identifier, "a rule's id")


def metric_fingerprint(reader: Reader) -> str | None:
    """Return the fingerprint of a metric alert: that of its rule, else of its incident."""
    rule = metric_rule_id(reader, METRIC_ALERT)
    if rule:
        return fingerprint.metric_rule(rule)
    incident = identifiers.event_id(reader, METRIC_ALERT)
    return fingerprint.metric_incident(incident) if incident else None


def _alert(reading: Reading, source_event_id: str) -> NormalizedAlert:
    reader, fields, received_at = reading.reader, reading.fields, reading.envelope.delivery.received_at
    issue_id = identifiers.issue_id(reader, fields)
    if issue_id is None and fields.issue_id:
        reader.warn(fields.issue_id[0], "is missing")
    environment = _environment(reading)
    project = identifiers.project(reader, fields)
    description = reader.first(fields.description, _text, "text") or ""
    of_occurrence = reader.first(fields.occurrence_title, headline, "a title")
    title = of_occurrence or reader.first(fields.title, headline, "a title")
    shown = title or _substitute_title(reading, description, project)
    return NormalizedAlert(
        source=SOURCE,
        source_event_id=source_event_id,
        project=project,
        environment=environment,
        severity=_severity(reading, environment),
        fingerprint=_fingerprint(reading, issue_id, shown),
        title=shown,
        description=_with_transaction(reading, of_occurrence, description) if of_occurrence else description,
        tags=_tags(reading),
        occurred_at=reader.first_or_warn(fields.occurred_at, cleaning.time, TIME) or received_at,
        received_at=received_at,
        link=_link(reading, issue_id),
        issue_id=issue_id,
        triggered_rule=_triggered_rule(reading),
        source_count=reader.first(fields.count, cleaning.count, "a count"),
        has_title=title is not None,
        names_environment=bool(fields.environment),
    )


def headline(value: object) -> str | None:
    """Return a title, from text or from an exception.

    An exception gives its type and value.
    """
    if not isinstance(value, dict):
        return cleaning.line(value, cleaning.TITLE_LIMIT)
    parts = (cleaning.line(value.get(key), cleaning.TITLE_LIMIT) for key in ("type", "value"))
    return cleaning.cut(": ".join(filter(None, parts)), cleaning.TITLE_LIMIT) or None


def _text(value: object) -> str | None:
    return cleaning.text(value, cleaning.DESCRIPTION_LIMIT)


def _substitute_title(reading: Reading, description: str, project: str) -> str:
    reader, fields = reading.reader, reading.fields
    reader.warn(fields.title[0], "is missing; another field stands for it")
    found = reader.first(fields.title_substitutes, headline, "text")
    return found or cleaning.line(description, cleaning.TITLE_LIMIT) or f"Untitled alert in {project}"


def _with_transaction(reading: Reading, title: str, description: str) -> str:
    """Add the transaction to the description of an occurrence, whose title does not name it."""
    texts = (title, *description.split("\n"))
    names = reading.reader.each(reading.fields.transaction, headline)
    name = next((name for name in names if name not in texts), None)
    return cleaning.cut("\n".join(filter(None, (description, name))), cleaning.DESCRIPTION_LIMIT)


def _triggered_rule(reading: Reading) -> str | None:
    fields = reading.fields
    if not fields.rule:
        return None
    read = reading.reader.first if "rule" in fields.may_lack else reading.reader.first_or_warn
    return read(fields.rule, _rule, "a rule's label")


def _rule(value: object) -> str | None:
    # Of the legacy plugin's list, of_legacy replaces this first label by each one in turn.
    return cleaning.line(value[0] if isinstance(value, list) and value else value, cleaning.RULE_LIMIT)


def _environment(reading: Reading) -> str:
    reader, fields, vocabulary = reading.reader, reading.fields, reading.vocabulary
    if not fields.environment:
        return vocabulary.default_environment
    read = reader.first if "environment" in fields.may_lack else reader.first_or_warn
    sent = read(fields.environment, cleaning.environment, "an environment's name")
    if sent is None:
        return vocabulary.default_environment
    name, known = cleaning.canonical_environment(sent, vocabulary)
    if not known:
        reader.warn(fields.environment[0], "is an environment that we do not know; it was kept")
    return name


def _severity(reading: Reading, environment: str) -> Severity:
    if reading.envelope.resource == "metric_alert":
        severity = _metric_severity(reading.envelope)
    else:
        reader, fields, expected = reading.reader, reading.fields, "a level that we know"
        of_occurrence = reader.first(fields.occurrence_level, cleaning.severity, expected)
        level = of_occurrence or reader.first_or_warn(fields.level, cleaning.severity, expected)
        severity = level or Severity.MED
    steps = reading.vocabulary.severity_shift.get(environment, 0)
    return severity.shifted(steps) if steps else severity


def _metric_severity(envelope: Envelope) -> Severity:
    is_critical = envelope.data["metric_alert"].get("status") == CRITICAL_INCIDENT
    return METRIC_SEVERITIES.get(envelope.action) or METRIC_SEVERITIES["critical" if is_critical else "warning"]


def _fingerprint(reading: Reading, issue_id: str | None, title: str) -> str:
    reader, fields = reading.reader, reading.fields
    if issue_id is not None:
        return fingerprint.issue(issue_id)
    if reading.envelope.resource == "metric_alert":
        # The title names the action, which changes; the rule's name does not.
        return metric_fingerprint(reader) or fingerprint.made(reader.first(fields.kind, headline, "text") or title)
    texts = (reader.first(paths, headline, "text") or "" for paths in (fields.kind, fields.culprit))
    return fingerprint.of_event(
        reader.first(fields.fingerprint, fingerprint.custom_parts, "a list of 1 to 32 texts"),
        reader.first(fields.hashes, fingerprint.first_hash, "a list of hashes"),
        fingerprint.made(title, *texts),
    )


def _tags(reading: Reading) -> Sequence[tuple[str, str]]:
    for path in reading.fields.tags:
        value = path.follow(reading.reader.body)
        kept, incomplete = cleaning.tags(value, prefix="sentry:")
        if value is None:
            reading.reader.warn(path, "is missing")
        elif incomplete:
            reading.reader.warn(path, "has entries that are no tags, or too many; the others were kept")
        return tuple(kept)
    return ()


def _link(reading: Reading, issue_id: str | None) -> str | None:
    reader, fields = reading.reader, reading.fields
    if not fields.urls:
        return reader.first_or_warn(fields.url_as_link, urls.as_sent, HTTP_URL)
    link = urls.issue_link(reader.each(fields.urls, urls.read), issue_id)
    link = link or reader.first(fields.url_as_link, urls.as_sent, HTTP_URL)
    if link is None and issue_id is not None:
        reader.warn(fields.urls[0], "names no organization to make a link of")
    return link
