"""Normalize bodies that are alerts. One function for all resources; ``fields`` holds the differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from signalcraft.domain.alerts import NormalizedAlert, Severity, Vocabulary
from signalcraft.domain.errors import MissingIdentity, MissingTitle
from signalcraft.sources import cleaning
from signalcraft.sources.sentry import delivery_keys, fingerprint, identifiers, urls
from signalcraft.sources.sentry.envelope import Envelope
from signalcraft.sources.sentry.field_paths import Reader
from signalcraft.sources.sentry.fields import FIELDS, AlertFields

SOURCE = "sentry"
NO_PROJECT = "unknown"
MAX_RULES = 20

#: A metric alert has no level: its action is its severity.
METRIC_SEVERITIES: Mapping[str, Severity] = MappingProxyType({"critical": Severity.CRITICAL, "warning": Severity.MED})
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
    event_id = identifiers.event_id(reader, reading.fields)
    if event_id is None:
        raise MissingIdentity("there is no event id", field=reading.fields.event_id[0].text)
    issue_id = identifiers.issue_of_occurrence(reader, reading.fields)
    return [_alert(reading, f"{event_id}:{issue_id}" if issue_id else event_id)]


def of_legacy(envelope: Envelope, reader: Reader, vocabulary: Vocabulary) -> Sequence[NormalizedAlert]:
    """Normalize one event of the legacy plugin.

    The alert is repeated for each rule that sent it. The copies share an id, so they count once.
    """
    reading = Reading.of(envelope, reader, vocabulary)
    event_id = identifiers.event_id(reader, reading.fields)
    if event_id is None:
        issue_id = identifiers.issue_id(reader, reading.fields)
        if issue_id is None:
            raise MissingIdentity("there is neither an event id nor an issue id", field="event.event_id")
        # The oldest senders name no event and send the same bytes each time: only the time distinguishes two events.
        event_id = f"legacy:{issue_id}:{envelope.delivery.received_at.isoformat()}"
    alert = _alert(reading, event_id)
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
    if issue_id is None:
        raise MissingIdentity("there is no issue id", field="data.issue.id")
    return [_alert(reading, f"issue:{issue_id}:created")]


def of_metric(envelope: Envelope, reader: Reader, vocabulary: Vocabulary) -> Sequence[NormalizedAlert]:
    """Normalize a metric alert.

    One incident may rise twice, so the alert's id includes the delivery key.
    """
    reading = Reading.of(envelope, reader, vocabulary)
    incident = identifiers.event_id(reader, reading.fields) or metric_rule_id(reader, reading.fields)
    if incident is None:
        raise MissingIdentity("there is neither an incident nor a rule", field="data.metric_alert.id")
    delivery = delivery_keys.delivery_key(envelope).partition(":")[2]
    return [_alert(reading, f"metric:{incident}:{envelope.action}:{delivery}")]


def metric_rule_id(reader: Reader, fields: AlertFields) -> str | None:
    """Return the id of a metric alert's rule.

    All incidents of the rule share it.
    """
    return reader.first_or_warn(fields.rule_id, cleaning.identifier, "a rule's id")


def _alert(reading: Reading, source_event_id: str) -> NormalizedAlert:
    reader, fields, received_at = reading.reader, reading.fields, reading.envelope.delivery.received_at
    issue_id = identifiers.issue_id(reader, fields)
    if issue_id is None and fields.issue_id:
        reader.warn(fields.issue_id[0], "is missing")
    environment = _environment(reading)
    title = reader.first(fields.title, headline, "a title")
    if title is None:
        raise MissingTitle("there is no title, and no type to make one of", field=fields.title[0].text)
    return NormalizedAlert(
        source=SOURCE,
        source_event_id=source_event_id,
        project=_project(reading),
        environment=environment,
        severity=_severity(reading, environment),
        fingerprint=_fingerprint(reading, issue_id, title),
        title=title,
        description=reader.first(fields.description, _description, "text") or "",
        tags=_tags(reading),
        occurred_at=reader.first_or_warn(fields.occurred_at, cleaning.time, "a time we can believe") or received_at,
        received_at=received_at,
        link=_link(reading, issue_id),
        issue_id=issue_id,
        triggered_rule=_triggered_rule(reading),
        source_count=reader.first(fields.count, cleaning.count, "a count"),
    )


def headline(value: object) -> str | None:
    """Return a title, from text or from an exception.

    An exception gives its type and value.
    """
    if not isinstance(value, dict):
        return cleaning.line(value, cleaning.TITLE_LIMIT)
    parts = (cleaning.line(value.get(key), cleaning.TITLE_LIMIT) for key in ("type", "value"))
    return cleaning.cut(": ".join(filter(None, parts)), cleaning.TITLE_LIMIT) or None


def _description(value: object) -> str | None:
    return cleaning.text(value, cleaning.DESCRIPTION_LIMIT)


def _triggered_rule(reading: Reading) -> str | None:
    fields = reading.fields
    if not fields.rule:
        return None
    read = reading.reader.first if "rule" in fields.may_lack else reading.reader.first_or_warn
    return read(fields.rule, _rule, "a rule's label")


def _rule(value: object) -> str | None:
    # Of the legacy plugin's list, of_legacy replaces this first label by each one in turn.
    return cleaning.line(value[0] if isinstance(value, list) and value else value, cleaning.RULE_LIMIT)


def _project(reading: Reading) -> str:
    reader, fields = reading.reader, reading.fields
    slug = identifiers.project_slug(reader, fields)
    if slug:
        return slug
    number = identifiers.project_id(reader, fields)
    reader.warn(fields.project[0], "is missing; the project goes by its number" if number else "is missing")
    return f"project-{number}".lower() if number else NO_PROJECT


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
        level = reading.reader.first_or_warn(reading.fields.level, cleaning.severity, "a level that we know")
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
    if reading.envelope.resource == "metric_alert" and (rule := metric_rule_id(reader, fields)):
        return fingerprint.metric_rule(rule)
    texts = (reader.first(paths, headline, "text") or "" for paths in (fields.kind, fields.culprit))
    return fingerprint.of_event(
        reader.first(fields.fingerprint, fingerprint.custom_parts, "a list of 1 to 32 texts"),
        reader.first(fields.hashes, fingerprint.first_hash, "a list of hashes"),
        fingerprint.made(title, *texts),
    )


def _tags(reading: Reading) -> Sequence[tuple[str, str]]:
    for path in reading.fields.tags:
        value = path.follow(reading.reader.body)
        kept, incomplete = cleaning.tags(value)
        if value is None:
            reading.reader.warn(path, "is missing")
        elif incomplete:
            reading.reader.warn(path, "has entries that are no tags, or too many; the others were kept")
        return tuple(kept)
    return ()


def _link(reading: Reading, issue_id: str | None) -> str | None:
    reader, fields = reading.reader, reading.fields
    if fields.url_as_link:
        return reader.first_or_warn(fields.url_as_link, urls.as_sent, "an http(s) URL")
    link = urls.issue_link(reader.each(fields.urls, urls.read), issue_id)
    if link is None:
        reader.warn(fields.urls[0], "names no organization to make a link of")
    return link
