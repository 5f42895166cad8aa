"""The page about fields of Sentry's webhooks, generated from the tables that the code uses."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from signalcraft.domain.alerts import ENVIRONMENT_ALIASES, NormalizedAlert
from signalcraft.domain.bounded_json import MAX_DEPTH, MAX_VALUES
from signalcraft.sources import cleaning
from signalcraft.sources.sentry import alerts, deliveries, identifiers, samples, status_changes
from signalcraft.sources.sentry.delivery_keys import OF_EVENTS, OF_STATE
from signalcraft.sources.sentry.envelope import PROOFS
from signalcraft.sources.sentry.fields import FIELDS
from signalcraft.sources.sentry.fingerprint import MAX_PARTS
from signalcraft.sources.sentry.samples.issue_types import ERROR, ISSUE_TYPES
from signalcraft.sources.sentry.signature import SECRET_KINDS, Family

FAMILIES: Final[Mapping[Family, str]] = {
    Family.INTEGRATION: "an integration's webhook",
    Family.UI_COMPONENT: "a UI component's request, refused with 422 `ui_component_request`",
    Family.SERVICE_HOOK: "a project's service hook",
    Family.LEGACY: "the legacy WebHooks plugin, which cannot sign; its URL ends in `?token=`",
}

OUTCOMES: Final[Mapping[deliveries.Handler, str]] = {
    alerts.of_event: "an alert",
    alerts.of_legacy: "an alert, once for each of `triggering_rules`; the copies count once",
    alerts.of_new_issue: "a separate alert, in the default environment",
    alerts.of_metric: "an alert",
    status_changes.of_activity: "a status change by `data.activity.type`, else ignored (`no_alert`)",
    status_changes.of_metric: "the rule's group is resolved",
}

#: Normalization of each field of ``NormalizedAlert``, for all resources.
TREATMENT: Final[Mapping[str, str]] = {
    "source": "`sentry`",
    "source_event_id": (
        "`<event_id>:<issue_id>`, the event id as 32 lower-case hex digits; without an issue "
        "`<event_id>:project:<project>`. `issue.created`: `issue:<issue_id>:created`. `metric_alert`: "
        "`metric:<incident, else rule>:<action>:<digest of the delivery key>`. Without an event id: "
        "`at:<issue, else project>:<occurred_at>`; without a time too: `body:<digest of the body>`, and of a "
        "legacy sender without a rule, whose equal bytes are several alerts: `body:<digest>:<received_at>`"
    ),
    "project": (
        "`project` as a slug (of a list, the first by name), else the slug in `urls`, else `project-<project_id>`, "
        f"else `{identifiers.NO_PROJECT}`; lower-case, `[a-z0-9._-]`, {cleaning.SLUG_LIMIT} characters"
    ),
    "environment": (
        "lower-case, blanks as hyphens, "
        f"{cleaning.ENVIRONMENT_LIMIT} characters, then by alias; absent: the workspace's default; unknown: kept"
    ),
    "severity": (
        "`occurrence_level`, else `level`, by the table below, absent or unknown: `med`; metric alerts by action, "
        "`open` by status "
        f"({alerts.CRITICAL_INCIDENT} is critical, else `med`); shifted by environment"
    ),
    "fingerprint": (
        "`issue:<issue_id>`; metric alerts `metric_rule:<rule_id>`, else `metric_incident:<event_id>`, else "
        "`made:` of `kind`; others `custom:` of `fingerprint` "
        f"(1 to {MAX_PARTS} texts, `{{{{ default }}}}` resolved), else `hashes:` and the first of `hashes`, "
        "else `made:` of title, `kind` and `culprit`, in which is masked what varies: numbers, ids, times, "
        "addresses, quoted values"
    ),
    "title": (
        "`occurrence_title`, else `title`; an object is read as `type: value`; one line, no control characters, "
        f"{cleaning.TITLE_LIMIT} characters; absent: `title_substitutes`, else the description's beginning, else "
        "`Untitled alert in <project>`"
    ),
    "description": (
        f"lines kept, no control characters, {cleaning.DESCRIPTION_LIMIT} characters; of an occurrence, the "
        "`transaction` is added; absent: empty"
    ),
    "tags": (
        "pairs, in the order sent, duplicates kept, `sentry:` removed from the key, other types as JSON, "
        f"null as empty text; {cleaning.TAGS_LIMIT} tags, keys of {cleaning.TAG_KEY_LIMIT} and values of "
        f"{cleaning.TAG_VALUE_LIMIT} characters"
    ),
    "occurred_at": (
        f"ISO 8601 or an epoch in s, ms, µs, ns; {cleaning.FIRST_YEAR} to {cleaning.LAST_YEAR}; aware UTC; "
        "absent: `received_at`"
    ),
    "received_at": "set by the web process",
    "link": (
        "`https://sentry.io/organizations/{org}/issues/{issue_id}/`, self-hosted the same path under its host; "
        "without organization or number, `url_as_link` unchanged; http(s) only; absent: none"
    ),
    "issue_id": (
        f"digits, letters, `_`, `-`, {cleaning.IDENTIFIER_LIMIT} characters; absent: from `urls`, else `short_id`, "
        "else none"
    ),
    "triggered_rule": f"`rule`, one line, {cleaning.RULE_LIMIT} characters; absent: none",
    "source_count": "`count`, Sentry's own number of events; absent: none",
    "has_title": "whether the title is neither a substitute nor `Untitled alert`",
    "names_environment": "whether the resource has paths of an environment: all but `issue.created`",
    "runbook_url": "none",
    "is_episode": "no",
    "supersedes": "none",
    "part": "none: one delivery is one alert",
}

_TYPE_HEAD = ("type", "category", "title", "description", "severity", "link")
_RECEIVED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)

_HEAD = """\
# Fields of Sentry's webhooks

<!-- Generated by `python -m signalcraft.dev.docs`; do not edit. -->

A truncated text ends in an ellipsis. A missing or invalid field causes a warning in the worker's log, with the
field's path; no alert is lost for want of a field. Refused (422) are only: a delivery without `action`; one without
`data` whose header names no resource or one that makes alerts; a header that contradicts the body; an unsigned body
that is not the legacy plugin's; requests of UI components. A body over {depth} levels or {values:,} values, or with a
duplicate key in one object, is refused.
"""


def reference() -> str:
    """Return the whole page, in Markdown."""
    parts = [
        _HEAD.format(depth=MAX_DEPTH, values=MAX_VALUES),
        _table("Senders", ("signature header", "kind of secret", "sender"), _families()),
        _table("Outcomes", ("resource", "action", "outcome", "proved by", "delivery key of"), _outcomes()),
        _table("Types of issues", _TYPE_HEAD, _types()),
        _table("Activity alerts", ("`data.activity.type`", "change"), _activities()),
        _table("Fields of an alert", ("field", "treatment"), _quoted(TREATMENT.items())),
        *(
            _table(f"Paths: {resource}", ("field", "paths, the first usable one wins"), _paths(resource))
            for resource in FIELDS
            if resource != "activity_alert"
        ),
        _table("Severity", ("level", "severity"), _quoted([*cleaning.SEVERITIES.items(), *_numbers()])),
        _table("Environments", ("sent", "canonical name"), _quoted(ENVIRONMENT_ALIASES.items())),
    ]
    return "\n".join(parts)


def _table(title: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *rows]
    return f"## {title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _quoted(rows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(f"`{name}`", f"{value}") for name, value in rows]


def _numbers() -> list[tuple[str, str]]:
    return [(str(number), severity) for number, severity in cleaning.NUMERIC_SEVERITIES.items()]


def _families() -> list[tuple[str, str, str]]:
    return [(f"`{family}`" if family else "none", SECRET_KINDS[family], sender) for family, sender in FAMILIES.items()]


def _outcomes() -> list[tuple[str, ...]]:
    known = [(*name, _outcome(name[1], handler), *_identity(*name)) for name, handler in deliveries.DISPATCH.items()]
    no_alerts = [
        (resource, "any", f"ignored (`{deliveries.NO_ALERT}`)", *_identity(resource, ""))
        for resource in PROOFS
        if resource not in FIELDS
    ]
    others = [
        (
            "of the above",
            "any",
            f"without the object or id that proves it: ignored (`{deliveries.BODY_INCOMPLETE}`), stored raw",
            "the resource header",
            "the body",
        ),
        ("of the above", "any other", f"ignored (`{deliveries.ACTION_UNKNOWN}`), stored raw", "", "the body"),
        ("any other", "any", f"ignored (`{deliveries.RESOURCE_UNKNOWN}`), stored raw", "nothing", "the body"),
    ]
    return [*known, *no_alerts, *others]


def _outcome(action: str, handler: deliveries.Handler) -> str:
    if handler is status_changes.of_issue:
        return f"the issue's groups: {status_changes.ISSUE_ACTIONS[action]}"
    return OUTCOMES[handler]


def _identity(resource: str, action: str) -> tuple[str, str]:
    # The proof of the resource, and the parts of its delivery key.
    proof = " and ".join(f"`data.{key}`" for key in sorted(PROOFS.get(resource, ()))) or "the signature header"
    if resource in OF_EVENTS:
        fields = FIELDS[resource]
        names = {"project, issue id, event id": fields.event_id, "rule": fields.rule}
        return proof, ", ".join(name for name, paths in names.items() if paths) + "; without event id, the body"
    if (resource, action) == ("issue", "created"):
        return proof, "project, issue id"
    if resource == "issue":
        return proof, "project, issue id and `Idempotency-Key`, else the body"
    return proof, "the body and `Idempotency-Key`" if resource in OF_STATE else "the body"


def _types() -> list[tuple[str, ...]]:
    # What normalize makes of a sample of each type.
    return [
        (f"`{name}`", ", ".join(kind.categories if kind else (name,)), *_shown(name))
        for name, kind in {ERROR: None, **ISSUE_TYPES}.items()
    ]


def _shown(issue_type: str) -> tuple[str, ...]:
    built = samples.build("event_alert.triggered", secret="", issue="4000000028", issue_type=issue_type)
    (alert,) = deliveries.normalize(built.as_delivery(_RECEIVED_AT)).outcomes
    if not isinstance(alert, NormalizedAlert):
        raise TypeError
    texts = (alert.title, alert.description.replace("\n", "<br>"), alert.severity, f"`{alert.link}`")
    return tuple(text.replace("|", "\\|") for text in texts)


def _activities() -> list[tuple[str, str]]:
    return [
        (f"`{kind}`", f"{change} ({substatus})" if substatus else str(change))
        for kind, (change, substatus) in status_changes.ACTIVITIES.items()
    ]


def _paths(resource: str) -> list[tuple[str, str]]:
    rows = FIELDS[resource].read_in_order().items()
    return [(f"`{name}`", ", ".join(f"`{path.text}`" for path in paths)) for name, paths in rows]
