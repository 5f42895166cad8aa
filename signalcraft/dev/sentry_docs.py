"""The reference page on Sentry, from the tables that the code runs on. ``make docs`` writes it, a test compares it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from signalcraft.dev.local_stack import ROOT
from signalcraft.domain.alerts import ENVIRONMENT_ALIASES
from signalcraft.domain.bounded_json import MAX_DEPTH, MAX_VALUES
from signalcraft.sources import cleaning, sentry
from signalcraft.sources.sentry import alerts, status_changes
from signalcraft.sources.sentry.delivery_keys import OF_EVENTS, OF_STATE
from signalcraft.sources.sentry.envelope import PROOFS
from signalcraft.sources.sentry.fields import FIELDS
from signalcraft.sources.sentry.fingerprint import MAX_PARTS
from signalcraft.sources.sentry.signature import SECRET_KINDS, Family

FAMILIES: Mapping[Family, str] = MappingProxyType(
    {
        Family.INTEGRATION: "an integration's webhook",
        Family.UI_COMPONENT: "a UI component's request, refused with 422 `ui_component_request`",
        Family.SERVICE_HOOK: "a project's service hook",
        Family.LEGACY: "the legacy WebHooks plugin, which cannot sign; its URL ends in `?token=`",
    }
)

OUTCOMES: Mapping[sentry.Handler, str] = MappingProxyType(
    {
        alerts.of_event: "an alert",
        alerts.of_legacy: "an alert, once for each of `triggering_rules`; the copies count once",
        alerts.of_new_issue: "an alert of its own, in the default environment",
        alerts.of_metric: "an alert",
        status_changes.of_activity: "a change of state by `data.activity.type`, else ignored (`no_alert`)",
        status_changes.of_metric: "the rule's group is resolved",
    }
)

#: What becomes of each field of ``NormalizedAlert``, whichever body it is from.
TREATMENT: Mapping[str, str] = MappingProxyType(
    {
        "source": "`sentry`",
        "source_event_id": (
            "`event_id`, as 32 lower-case hex digits, with an `occurrence` `<event>:<issue>`. `issue.created`: "
            "`issue:<id>:created`. `metric_alert`: "
            "`metric:<incident>:<action>:<digest of the delivery key>`. Legacy without an event: "
            "`legacy:<issue>:<received_at>`. None of these: `identity_missing`, set aside"
        ),
        "project": (
            "`project` as a slug (of a list, the first by name), else the slug in `urls`, else `project-<project_id>`, "
            f"else `{alerts.NO_PROJECT}`; lower-case, `[a-z0-9._-]`, {cleaning.SLUG_LIMIT} characters"
        ),
        "environment": (
            "lower-case, blanks as hyphens, "
            f"{cleaning.ENVIRONMENT_LIMIT} characters, then by alias; absent: the workspace's default; unknown: kept"
        ),
        "severity": (
            "`level` by the table below, absent or unknown: `med`; metric alerts by action, `open` by status "
            f"({alerts.CRITICAL_INCIDENT} is critical, else `med`); shifted by environment"
        ),
        "fingerprint": (
            "`issue:<issue_id>`; metric alerts `metric_rule:<rule_id>`; else `custom:` of `fingerprint` "
            f"(1 to {MAX_PARTS} texts, `{{{{ default }}}}` resolved), else `hashes:` and the first of `hashes`, "
            "else `made:` of title (numbers and ids masked), `kind` and `culprit`"
        ),
        "title": (
            "an object is read as `type: value`; one line, no control characters, "
            f"{cleaning.TITLE_LIMIT} characters; absent: `title_missing`, set aside"
        ),
        "description": f"lines kept, no control characters, {cleaning.DESCRIPTION_LIMIT} characters; absent: empty",
        "tags": (
            "pairs, in the order sent, duplicates kept, `sentry:` off the key, other types in JSON's spelling, "
            f"null empty; {cleaning.TAGS_LIMIT} tags, keys of {cleaning.TAG_KEY_LIMIT} and values of "
            f"{cleaning.TAG_VALUE_LIMIT} characters"
        ),
        "occurred_at": (
            f"ISO 8601 or an epoch in s, ms, µs, ns; {cleaning.FIRST_YEAR} to {cleaning.LAST_YEAR}; aware UTC; "
            "absent: `received_at`"
        ),
        "received_at": "stamped by the web process",
        "link": (
            "`https://sentry.io/organizations/{org}/issues/{issue_id}/`, self-hosted the same path under its host; "
            "`url_as_link` as it is; http(s) only; absent: none"
        ),
        "issue_id": (
            f"digits, letters, `_`, `-`, {cleaning.IDENTIFIER_LIMIT} characters; absent: out of `urls`, else none"
        ),
        "triggered_rule": f"`rule`, one line, {cleaning.RULE_LIMIT} characters; absent: none",
        "source_count": "`count`, Sentry's own number of events; absent: none",
    }
)

_HEAD = """\
# What is read out of Sentry's webhooks

<!-- Written by `python -m signalcraft.sources.sentry.reference`; do not edit. -->

A text that is cut ends in an ellipsis. What is missing or odd and does not matter enough is a warning in the
worker's log, with the field's path. A body over {depth} levels or {values:,} values, or with a
key twice in one object, is refused.
"""


def page() -> str:
    """The whole page, in Markdown."""
    parts = [
        _HEAD.format(depth=MAX_DEPTH, values=MAX_VALUES),
        _table("Who sends", ("signature header", "kind of secret", "sender"), _families()),
        _table("What becomes of it", ("resource", "action", "outcome", "proved by", "delivery key of"), _outcomes()),
        _table("Activity alerts", ("`data.activity.type`", "change"), _activities()),
        _table("Every field of an alert", ("field", "treatment"), _quoted(TREATMENT.items())),
        *(
            _table(f"Where: {resource}", ("field", "places, the first usable one wins"), _places(resource))
            for resource in FIELDS
            if resource != "activity_alert"
        ),
        _table("Severity", ("level", "severity"), _quoted([*cleaning.SEVERITIES.items(), *_numbers()])),
        _table("Environments", ("sent", "ours"), _quoted(ENVIRONMENT_ALIASES.items())),
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
    return [(f"`{family}`" if family else "none", SECRET_KINDS[family], said) for family, said in FAMILIES.items()]


def _outcomes() -> list[tuple[str, ...]]:
    known = [(*name, _outcome(name[1], handler), *_identity(*name)) for name, handler in sentry.DISPATCH.items()]
    quiet = [
        (resource, "any", f"ignored (`{sentry.NO_ALERT}`)", *_identity(resource, ""))
        for resource in PROOFS
        if resource not in FIELDS
    ]
    others = [
        ("of the above", "any other", f"ignored (`{sentry.ACTION_UNKNOWN}`), kept raw", "", "the body"),
        ("any other", "any", f"ignored (`{sentry.RESOURCE_UNKNOWN}`), kept raw", "nothing", "the body"),
    ]
    return [*known, *quiet, *others]


def _outcome(action: str, handler: sentry.Handler) -> str:
    if handler is status_changes.of_issue:
        return f"the issue's groups: {status_changes.ISSUE_ACTIONS[action]}"
    return OUTCOMES[handler]


def _identity(resource: str, action: str) -> tuple[str, str]:
    """What proves a resource, and what its delivery key is made of."""
    proof = " and ".join(f"`data.{key}`" for key in sorted(PROOFS.get(resource, ()))) or "the signature header"
    if resource in OF_EVENTS:
        fields = FIELDS[resource]
        names = {"event id": fields.event_id, "issue id of an occurrence": fields.occurrence, "rule": fields.rule}
        return proof, ", ".join(name for name, places in names.items() if places)
    if (resource, action) == ("issue", "created"):
        return proof, "issue id"
    if resource == "issue":
        return proof, "issue id and `Idempotency-Key`, else the body"
    return proof, "the body and `Idempotency-Key`" if resource in OF_STATE else "the body"


def _activities() -> list[tuple[str, str]]:
    return [
        (f"`{kind}`", f"{change} ({substatus})" if substatus else str(change))
        for kind, (change, substatus) in status_changes.ACTIVITIES.items()
    ]


def _places(resource: str) -> list[tuple[str, str]]:
    rows = FIELDS[resource].read_in_order().items()
    return [(f"`{name}`", ", ".join(f"`{path.text}`" for path in places)) for name, places in rows]


def documents() -> dict[Path, str]:
    """Return ``docs/sentry.md`` as it should be."""
    return {ROOT / "docs" / "sentry.md": page()}
