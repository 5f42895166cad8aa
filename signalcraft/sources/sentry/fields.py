"""Paths of each field of an alert, by resource, best path first.

``docs/sentry.md`` is generated from these tables.
"""

from dataclasses import dataclass, fields, replace

from signalcraft.sources.sentry.field_paths import Paths, paths


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFields:
    """The paths of one resource. An empty tuple: the resource never has the field, so its absence is no warning.

    ``urls`` are any URLs of Sentry's; organization, project, issue and event are read from them where no field
    has them. ``short_id`` stands for an issue's id where nothing else names it. An occurrence is what Sentry's issues
    that are no errors consist of; its title and level are the issue's, so they come first, and its ``transaction``,
    which is the event's own title, is added to the description. ``title_substitutes`` are read if there is no title.
    ``kind`` is the exception's type, or the closest equivalent; ``url_as_link`` is the link, unchanged, if none can be
    made of ``urls``. ``may_lack`` names the fields whose absence is normal and causes no warning.
    """

    event_id: Paths = ()
    issue_id: Paths = ()
    short_id: Paths = ()
    project: Paths = ()
    project_id: Paths = ()
    urls: Paths = ()
    url_as_link: Paths = ()
    environment: Paths = ()
    occurrence_level: Paths = ()
    level: Paths = ()
    occurrence_title: Paths = ()
    title: Paths
    title_substitutes: Paths = ()
    description: Paths = ()
    transaction: Paths = ()
    occurred_at: Paths = ()
    tags: Paths = ()
    fingerprint: Paths = ()
    hashes: Paths = ()
    kind: Paths = ()
    culprit: Paths = ()
    rule_id: Paths = ()
    rule: Paths = ()
    count: Paths = ()
    may_lack: frozenset[str] = frozenset()

    def read_in_order(self) -> dict[str, Paths]:
        """Return the paths by field, without the empty ones."""
        rows = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "may_lack"}
        return {name: candidates for name, candidates in rows.items() if candidates}


def _event(at: str) -> AlertFields:
    # A stored event and its extras: Sentry's _webhook_event_data.
    return AlertFields(
        event_id=paths(f"{at}.event_id"),
        issue_id=paths(f"{at}.issue_id"),
        project=paths(f"{at}.project_slug", f"{at}.project"),
        project_id=paths(f"{at}.project"),
        urls=paths(f"{at}.url", f"{at}.web_url", f"{at}.webUrl", f"{at}.issue_url"),
        url_as_link=paths(f"{at}.web_url", f"{at}.webUrl"),
        environment=paths(f"{at}.environment", f"{at}.tags[environment]"),
        occurrence_level=paths(f"{at}.occurrence.level"),
        level=paths(f"{at}.level", f"{at}.tags[level]"),
        occurrence_title=paths(f"{at}.occurrence.issueTitle"),
        title=paths(
            f"{at}.title",
            f"{at}.metadata.title",
            f"{at}.exception.values[-1]",
            f"{at}.metadata",
            f"{at}.message",
            f"{at}.logentry.formatted",
        ),
        title_substitutes=paths(f"{at}.culprit", f"{at}.location", f"{at}.transaction", f"{at}.tags[transaction]"),
        description=paths(
            f"{at}.occurrence.subtitle",
            f"{at}.message",
            f"{at}.logentry.formatted",
            f"{at}.exception.values[-1].value",
            f"{at}.metadata.value",
            f"{at}.culprit",
        ),
        transaction=paths(f"{at}.title", f"{at}.transaction", f"{at}.tags[transaction]"),
        occurred_at=paths(f"{at}.datetime", f"{at}.timestamp", f"{at}.received"),
        tags=paths(f"{at}.tags"),
        fingerprint=paths(f"{at}.fingerprint"),
        hashes=paths(f"{at}.hashes"),
        kind=paths(f"{at}.exception.values[-1].type", f"{at}.metadata.type"),
        culprit=paths(f"{at}.culprit", f"{at}.location"),
    )


EVENT_ALERT = replace(
    _event("data.event"),
    rule_id=paths("data.issue_alert.id"),
    rule=paths("data.triggered_rule", "data.issue_alert.title"),
)
ERROR = _event("data.error")

#: Sentry's group serializer. No event, no environment, no tags.
ISSUE = AlertFields(
    issue_id=paths("data.issue.id"),
    short_id=paths("data.issue.shortId"),
    project=paths("data.issue.project.slug"),
    project_id=paths("data.issue.project.id"),
    urls=paths("data.issue.web_url", "data.issue.webUrl", "data.issue.permalink", "data.issue.url"),
    url_as_link=paths("data.issue.web_url", "data.issue.webUrl", "data.issue.permalink"),
    level=paths("data.issue.level"),
    title=paths("data.issue.title", "data.issue.metadata.title", "data.issue.metadata"),
    title_substitutes=paths("data.issue.culprit", "data.issue.shortId"),
    description=paths("data.issue.metadata.value", "data.issue.culprit"),
    occurred_at=paths("data.issue.firstSeen", "data.issue.lastSeen"),
    kind=paths("data.issue.metadata.type"),
    culprit=paths("data.issue.culprit"),
    count=paths("data.issue.count"),
)

#: Sentry's ``build_incident_attachment``. No issue, no event, no level; ``event_id`` is the incident.
METRIC_ALERT = AlertFields(
    event_id=paths("data.metric_alert.id", "data.metric_alert.identifier"),
    project=paths("data.metric_alert.projects", "data.metric_alert.alert_rule.projects"),
    url_as_link=paths("data.web_url", "data.webUrl", "data.url"),
    environment=paths("data.metric_alert.alert_rule.environment"),
    title=paths("data.description_title", "data.title", "data.metric_alert.title", "data.metric_alert.alert_rule.name"),
    description=paths("data.description_text", "data.metric_alert.alert_rule.query"),
    occurred_at=paths(
        "data.metric_alert.date_detected",
        "data.metric_alert.date_started",
        "data.metric_alert.date_created",
    ),
    kind=paths("data.metric_alert.alert_rule.name", "data.metric_alert.title"),
    rule_id=paths("data.metric_alert.alert_rule.id"),
    rule=paths("data.metric_alert.alert_rule.name"),
    may_lack=frozenset({"environment"}),
)

#: Sentry's ``LegacyWebhookPayload``; the oldest senders have only the flat keys.
LEGACY = AlertFields(
    event_id=paths("event.event_id", "event.id"),
    issue_id=paths("id", "event.issue_id"),
    project=paths("project_slug", "project"),
    urls=paths("url"),
    url_as_link=paths("url"),
    environment=paths("event.environment", "event.tags[environment]"),
    occurrence_level=paths("event.occurrence.level"),
    level=paths("level", "event.level", "event.tags[level]"),
    occurrence_title=paths("event.occurrence.issueTitle"),
    title=paths(
        "event.title",
        "event.metadata.title",
        "event.exception.values[-1]",
        "event[sentry.interfaces.Exception].values[-1]",
        "event.metadata",
        "message",
        "event.message",
        "event.logentry.formatted",
        "event[sentry.interfaces.Message].message",
    ),
    title_substitutes=paths("culprit", "event.culprit", "event.location", "event.transaction"),
    description=paths(
        "event.occurrence.subtitle",
        "message",
        "event.message",
        "event.logentry.formatted",
        "event[sentry.interfaces.Message].message",
        "event.exception.values[-1].value",
        "event[sentry.interfaces.Exception].values[-1].value",
        "event.metadata.value",
        "culprit",
    ),
    transaction=paths("event.title", "event.transaction"),
    occurred_at=paths("event.datetime", "event.timestamp", "event.received"),
    tags=paths("event.tags"),
    fingerprint=paths("event.fingerprint"),
    hashes=paths("event.hashes"),
    kind=paths(
        "event.exception.values[-1].type",
        "event[sentry.interfaces.Exception].values[-1].type",
        "event.metadata.type",
    ),
    culprit=paths("culprit", "event.culprit"),
    rule=paths("triggering_rules"),
    may_lack=frozenset({"rule"}),
)

#: Sentry's ``get_payload_v0``: the event in the API's format.
SERVICE_HOOK = AlertFields(
    event_id=paths("event.eventID", "event.id"),
    issue_id=paths("group.id", "event.groupID"),
    short_id=paths("group.shortId"),
    project=paths("project.slug", "group.project.slug"),
    project_id=paths("group.project.id", "event.projectID"),
    urls=paths("group.url", "group.permalink", "event.url"),
    url_as_link=paths("group.url", "group.permalink", "event.url"),
    environment=paths("event.environment", "event.tags[environment]"),
    occurrence_level=paths("event.occurrence.level"),
    level=paths("event.tags[level]", "event.level", "group.level"),
    occurrence_title=paths("event.occurrence.issueTitle"),
    title=paths(
        "event.title",
        "event.metadata.title",
        "event.entries[exception].data.values[-1]",
        "event.metadata",
        "event.message",
        "group.title",
        "group.metadata.title",
        "group.metadata",
    ),
    title_substitutes=paths(
        "event.culprit", "group.culprit", "event.location", "event.tags[transaction]", "group.shortId"
    ),
    description=paths(
        "event.occurrence.subtitle",
        "event.message",
        "event.entries[message].data.formatted",
        "event.entries[exception].data.values[-1].value",
        "event.metadata.value",
        "group.metadata.value",
        "event.culprit",
        "group.culprit",
    ),
    transaction=paths("event.title", "event.tags[transaction]"),
    occurred_at=paths("event.dateCreated", "event.dateReceived", "group.lastSeen"),
    tags=paths("event.tags"),
    fingerprint=paths("event.fingerprint"),
    kind=paths("event.entries[exception].data.values[-1].type", "event.metadata.type", "group.metadata.type"),
    culprit=paths("event.culprit", "group.culprit"),
    count=paths("group.count"),
)

#: Other resources may name their project.
OTHER = AlertFields(
    title=(),
    project_id=paths("data.projectId"),
    project=paths("data.project_slug", "data.projectSlug"),
)

#: By proved resource.
FIELDS = {
    "event_alert": EVENT_ALERT,
    "error": ERROR,
    "issue": ISSUE,
    "activity_alert": ISSUE,
    "metric_alert": METRIC_ALERT,
    "legacy": LEGACY,
    "servicehook": SERVICE_HOOK,
}
