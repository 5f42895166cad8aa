"""Words for the OpenAPI description: what each parameter and field is, with an example.

``WORDS`` is by name; where a name means several things, by schema and name. A test fails for what has no entry.
"""

from collections.abc import Mapping
from typing import Any, Final

from signalcraft.groups.hourly_counts import MAX_DAYS
from signalcraft.groups.reading.event_queries import MAX_EVENTS
from signalcraft.groups.reading.queries import MAX_EXACT_TOTAL, MAX_TITLES
from signalcraft.groups.reading.request_fields import MAX_NOTE_LENGTH
from signalcraft.groups.reading.requests import MAX_LIMIT
from signalcraft.groups.reading.summary import MAX_GROUPS, MAX_VALUES
from signalcraft.groups.user_updates import MAX_BULK

#: An example that is put together from those of the fields inside.
COMPOSED: Final = None

_EVENT_ID: Final = "fc6d8c0c43fc4630ad850ee518f1b9d0"
_DELIVERY_ID: Final = "0b9f4c1e7a8d4f6f9d3c2b1a09e8d7c6"
_KEY: Final = "v1:5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592"
_LINK: Final = "https://sentry.io/organizations/acme/issues/4509/"
_TITLE: Final = "ValueError: cannot parse price"
_NOON: Final = "2026-03-01T12:00:00.000000Z"
_HALF_PAST: Final = "2026-03-01T12:30:00.000000Z"
_MIDNIGHT: Final = "2026-03-02T00:00:00.000000Z"
_CURSOR: Final = "WyIyMDI2LTAzLTAxVDEyOjMwOjAwKzAwOjAwIiw0Ml0.kG3x0yQ2nTqz"

#: Headers of a delivery, and those that a preview reads.
DELIVERY_HEADERS: Final = (
    "Sentry-Hook-Resource",
    "Sentry-Hook-Signature",
    "X-SignalCraft-Mapping",
    "X-SignalCraft-Workspace",
)
PREVIEW_HEADERS: Final = DELIVERY_HEADERS[:1]

#: In the order of the description.
TAGS: Final[Mapping[str, str]] = {
    "groups": "Alerts that belong together, and what people do with them.",
    "events": "The single alerts.",
    "notifications": "Who was told of a group.",
    "stats": "Numbers over time.",
    "webhooks": "Where sources send their deliveries.",
    "slack": "Where Slack sends what people press.",
    "operations": "Probes and metrics.",
    "docs": "This description.",
}

WORDS: Final[Mapping[str, tuple[str, Any]]] = {
    # What groups and events have in common.
    "id": ("Id of the group.", 42),
    "source": ("What sent the alerts.", "sentry"),
    "project": ("Slug of the project.", "shop"),
    "environment": ("Environment, by its canonical name.", "prod"),
    "severity": ("Severity of the group: that of its worst alert, one step up if it spiked.", "high"),
    "title": ("Title of the latest alert.", _TITLE),
    "fingerprint": ("What makes alerts alike: issue:<id> for an issue of Sentry.", "issue:4509"),
    "issue_id": ("Sentry's id of the issue; null where there is none.", "4509"),
    "link": ("Page of the latest alert at its source.", _LINK),
    "group_key": ("Hash of source, project, environment and fingerprint.", _KEY),
    "next_cursor": ("Where the next page begins: send it as cursor; null on the last page.", _CURSOR),
    "since": ("Beginning of the period, included.", "2026-03-01T00:00:00.000000Z"),
    "until": ("End of the period, excluded.", _MIDNIGHT),
    # Groups.
    "status": ("State of the group; a snooze that has ended reads as open.", "open"),
    "count": ("Number of alerts in the group.", 17),
    "first_seen_at": ("When the earliest of its alerts was received.", _NOON),
    "last_seen_at": ("When the latest of its alerts was received.", _HALF_PAST),
    "assignee_user_id": ("Who has the group, in your words or as sentry:user:<id>; null if unassigned.", "ann"),
    "runbook_url": ("Page that says what to do; null: none.", "https://wiki.example.com/runbooks/shop"),
    "snoozed_until": ("When the snooze ends; null: there is none, or it is for ever.", None),
    "previous_group_id": ("The group of the same key before this one; null: none.", 17),
    "groups": ("The groups of this page.", COMPOSED),
    "total_estimate": (
        f"With total=estimate: how many groups match; exact up to {MAX_EXACT_TOTAL:,}, above it an estimate.",
        128,
    ),
    # Events.
    "Event.id": ("Id of the event.", 1007),
    "Event.severity": ("Severity of this alert.", "high"),
    "Event.title": ("Title of this alert.", _TITLE),
    "Event.link": ("Page of this alert at its source.", _LINK),
    "alert_group_id": ("Id of the event's group.", 42),
    "source_event_id": ("The source's id of the event; for some, a colon and the issue's id follow.", _EVENT_ID),
    "delivery_id": ("Id of the delivery that brought it, as in the receipt and in our log.", _DELIVERY_ID),
    "message": ("Text of the alert.", "cannot parse price: '12,5O'"),
    "tags": ("Tags as pairs of name and value, in the order in which they came.", [["release", "1.4.2"]]),
    "triggered_rules": ("Rules of Sentry that sent it, at most 100.", ["Errors in production"]),
    "occurred_at": ("When it happened, by the source's clock.", "2026-03-01T12:29:58.250000Z"),
    "received_at": ("When we received it; grouping goes by this.", _HALF_PAST),
    "decision": ("Whether it joined a group, or why it opened one.", "joined"),
    "payload": (
        "Body of its delivery; null after PAYLOAD_RETENTION_DAYS.",
        {"action": "triggered", "data": {"event": {"event_id": _EVENT_ID, "title": _TITLE}}},
    ),
    "events": ("The events of this page, newest first.", COMPOSED),
    # History.
    "Change.id": ("Id of the change.", 7),
    "at": ("When it was changed.", _HALF_PAST),
    "actor": ("What changed it: a token, the source, a worse alert, the clock, or a person in Slack.", "token"),
    "by": ("Name of the token, the source or the person.", "oncall"),
    "Change.field": ("Field that was changed.", "status"),
    "from": ("Value before, as text.", "open"),
    "to": ("Value after, as text.", "ack"),
    "note": ("Why, in the words of who changed it; null: none was given.", "Waiting for the payment provider."),
    "changes": ("The changes of this page, newest first.", COMPOSED),
    # Occurrences.
    "seen": ("How often the problem was seen in 30 days, today included.", COMPOSED),
    "Seen.since": ("Midnight, in UTC, from which it is counted.", "2026-01-31T00:00:00.000000Z"),
    "Seen.groups": ("In how many groups.", 14),
    "Seen.days": ("On how many days of UTC.", 9),
    # Notifications.
    "Notification.id": ("Id of the notification; its receiver knows it as ntf_<id>.", 311),
    "receiver": ("Receiver, by its name in NOTIFY.", "ops-mail"),
    "route": ("Route that chose the receiver; empty: none, it was told of the group before.", "payments, prod"),
    "Notification.reason": ("What happened to the group (opened, resolved), or a reason of a rule.", "opened"),
    "Notification.state": (
        "What became of it; covered: a digest or an earlier message says it, or it was no news any more.",
        "sent",
    ),
    "tries": ("Attempts that failed since it was last due.", 0),
    "happened_at": ("When what it is about happened.", _HALF_PAST),
    "due_at": ("When it is sent, or was to be sent.", _HALF_PAST),
    "sent_at": ("When the receiver, or a digest, last took it; null: not yet.", "2026-03-01T12:30:00.841000Z"),
    "covered_by": ("The digest that says it instead; null: none.", None),
    "attempts": ("The attempts to send it, oldest first.", COMPOSED),
    "Attempt.at": ("When it ended.", "2026-03-01T12:30:00.841000Z"),
    "outcome": ("What came of it; unknown: it may have arrived.", "sent"),
    "Attempt.code": ("Stable name of the outcome.", "http_204"),
    "http_status": ("Status of the answer; null: none came, or it is no HTTP.", 204),
    "took_ms": ("How long it took, in milliseconds.", 87),
    "Attempt.detail": ("Beginning of the receiver's answer.", "ok"),
    "notifications": ("The notifications of this page, newest first.", COMPOSED),
    # Filters and pages.
    "limit": (f"Rows of a page, at most {MAX_LIMIT}.", 20),
    "cursor": ("next_cursor of the page before; absent: the first page.", _CURSOR),
    "sort": ("Order; a minus sign reverses it. The default is -last_seen.", "-severity"),
    "total": ("estimate: also return total_estimate.", "estimate"),
    "FilterQuery.status": ("Groups in one of these states.", ["open", "ack"]),
    "FilterQuery.severity": ("Groups of one of these severities.", ["critical"]),
    "FilterQuery.environment": ("Groups of these environments; aliases hold: production finds prod.", ["prod"]),
    "FilterQuery.project": ("Groups of these projects.", ["shop"]),
    "FilterQuery.source": ("Groups of these sources.", ["sentry"]),
    "FilterQuery.issue_id": ("Groups of these issues of Sentry.", ["4509"]),
    "FilterQuery.fingerprint": ("Groups with one of these fingerprints.", ["issue:4509"]),
    "FilterQuery.since": ("Groups last seen at this time or later; a date is its beginning in UTC.", "2026-03-01"),
    "FilterQuery.until": ("Groups last seen before this time; a date is its beginning in UTC.", "2026-04-01"),
    "assignee": ("Groups of these assignees; none: unassigned.", ["ann", "none"]),
    "severity_min": ("Groups of this severity or a higher one.", "high"),
    "current": ("true: groups that new alerts join; false: the others.", True),
    "q": (f"Part of the title, in any case; a page searches the next {MAX_TITLES:,} titles.", "ValueError"),
    "EventsQuery.source_event_id": ("Events that the source calls by one of these ids.", [_EVENT_ID]),
    "EventsQuery.delivery_id": ("Events of these deliveries.", [_DELIVERY_ID]),
    "tag": (
        f"Events with one of these tags, each name=value; a page reads {MAX_EVENTS:,} events.",
        ["release=1.4.2"],
    ),
    "rule": (f"Events that one of these rules sent; a page reads {MAX_EVENTS:,} events.", ["Errors in production"]),
    "EventsQuery.since": ("Events received at this time or later; a date is its beginning in UTC.", "2026-03-01"),
    "EventsQuery.until": ("Events received before this time; a date is its beginning in UTC.", "2026-03-02"),
    "GroupNotificationsQuery.receiver": ("Notifications to this receiver.", "ops-mail"),
    "GroupNotificationsQuery.state": ("Notifications in this state.", "given_up"),
    "NotificationsQuery.group": ("Notifications about this group.", 42),
    "StatsQuery.since": (f"Beginning; the default is a day before until, at most {MAX_DAYS} days.", "2026-03-01"),
    "StatsQuery.until": ("End; the default is now. Both are widened to full hours.", "2026-03-02"),
    # Updates.
    "EditBody.status": ("State to set.", "snoozed"),
    "EditBody.snoozed_until": ("With snoozed: when it ends; null: never.", "2099-03-02T08:00:00Z"),
    "EditBody.assignee_user_id": ("Who has it from now on; null to unassign.", "ann"),
    "EditBody.runbook_url": (
        "Page that says what to do, http or https; null: none.",
        "https://wiki.example.com/shop",
    ),
    "EditBody.note": (
        f"Why: up to {MAX_NOTE_LENGTH} characters, kept in the history with what is changed; null: none.",
        "Waiting for the payment provider.",
    ),
    "ids": (f"Ids of the groups, up to {MAX_BULK:,}; either these or filter.", [41, 42]),
    "filter": ("Filters of the list, at least one, each a text or a list of texts.", COMPOSED),
    "BulkBody.cursor": ("With filter: next_cursor of the call before.", _CURSOR),
    "set": ("What to change, as for one group.", COMPOSED),
    "results": ("The result for each group.", COMPOSED),
    "more": ("Whether the filter may match more groups.", False),
    "Outcome.status": ("Status that an update of this group alone would have had.", 200),
    "Outcome.code": ("Code of the refusal; null: it was updated.", None),
    "Outcome.detail": ("Reason of the refusal; null: it was updated.", None),
    # Summary.
    "Summary.groups": (f"How many groups match, counted up to {MAX_GROUPS:,}.", 17),
    "complete": (f"false: more may match, and only the {MAX_GROUPS:,} last seen were counted.", True),
    "by_status": ("Groups by status, as if status were not filtered.", COMPOSED),
    "Summary.by_severity": ("Groups by severity, as if severity were not filtered.", COMPOSED),
    "Summary.by_environment": (f"Groups by environment, likewise; the {MAX_VALUES} most frequent.", COMPOSED),
    "Summary.by_project": (f"Groups by project, likewise; the {MAX_VALUES} most frequent.", COMPOSED),
    "by_source": ("Groups by source, likewise.", COMPOSED),
    "FacetCount.groups": ("Number of groups with this value.", 17),
    # Explanation and preview.
    "event_id": ("Id of the event.", 1007),
    "group_id": ("Id of the group.", 42),
    "key_parts": ("What the group key is made of.", COMPOSED),
    "explanation": (
        "The reasons, in sentences.",
        ["Received 2026-03-01 12:30:00 UTC, it joined group 42, whose alerts are no further apart."],
    ),
    "Previewed.group_id": ("The group that it would join or is in; null: it would open one.", 42),
    "Previewed.decision": ("What grouping would do; null: nothing, the alert is stored already.", "joined"),
    "kind": ("alert, or status_change.", "alert"),
    "change": ("Of a status change: what the source says.", "resolved"),
    "duplicate": ("Whether the alert is stored already.", False),
    "outcomes": ("An object for each alert or status change.", COMPOSED),
    "warnings": ("Values that were missing or cleaned.", COMPOSED),
    "Warned.field": ("Path of the value in the body.", "data.event.level"),
    "Warned.problem": ("What is wrong with it.", "is no level that we know"),
    # Statistics.
    "alerts": ("Alerts that were processed, duplicates too.", 240),
    "duplicates": ("Alerts that were stored already.", 20),
    "joined": ("Alerts that joined an existing group.", 205),
    "groups_new": ("Alerts that opened a group.", 15),
    "groups_updated": ("How often a batch went into an existing group.", 90),
    "dedup_ratio": ("(duplicates + joined) / alerts.", 0.9375),
    "hour": ("Beginning of the hour.", _NOON),
    "Sums.severity": ("Severity of the alerts.", "high"),
    "by_hour": ("The sums of each hour.", COMPOSED),
    "by_severity": ("The sums of each severity.", COMPOSED),
    "by_environment": ("The sums of each environment.", COMPOSED),
    "by_project": ("The sums of each project.", COMPOSED),
    "top_groups": ("The ten largest groups last seen in the period, with their whole count.", COMPOSED),
    # Problems, receipts, probes.
    "type": ("URN of the problem.", "urn:signalcraft:problem:not_found"),
    "Problem.title": ("What the code means.", "There is nothing here under that id."),
    "Problem.status": ("HTTP status.", 404),
    "code": ("Stable name of the problem.", "not_found"),
    "detail": ("What is wrong this time.", "A resolved group cannot be acknowledged: reopen it first."),
    "errors": ("Messages by parameter or field.", {"limit": ["Must be greater than or equal to 1."]}),
    "Receipt.status": ("What became of the delivery.", "accepted"),
    "reason": ("Why it is ignored.", "installation"),
    "SlackForm.payload": ("The interaction as JSON.", '{"type":"block_actions"}'),
    "State.status": (
        "ok; degraded if only receivers are not; unavailable if another component is not.",
        "ok",
    ),
    # Paths and headers.
    "event": ("Our id of the event, the source's event id, or a delivery id.", _EVENT_ID),
    "workspace": ("Slug of the workspace.", "acme"),
    "If-None-Match": ("ETag that you have: 304 if nothing has changed.", '"1.0f3a5b7c9d1e2f40"'),
    "If-Match": ("ETag of the group: 412 if its version is another by now.", '"1.0f3a5b7c9d1e2f40"'),
    "PreviewQuery.source": ("Source whose delivery it is.", "sentry"),
    "Sentry-Hook-Resource": ("Of Sentry: kind of the delivery.", "event_alert"),
    "Sentry-Hook-Signature": ("Of Sentry: HMAC-SHA256 of the body by a secret, in hex.", "ab" * 32),
    "X-Slack-Signature": (
        "v0= and HMAC-SHA256 of version, time and body by a signing secret, in hex.",
        "v0=" + "ab" * 32,
    ),
    "X-Slack-Request-Timestamp": ("When Slack signed it; older than five minutes is refused.", "1772368200"),
    "X-SignalCraft-Mapping": (
        "Of /webhooks/generic: name of the mapping that reads the body, as ?mapping= in the URL.",
        "healthchecks",
    ),
    "X-SignalCraft-Workspace": ("Slug of the workspace, where the path names none.", "acme"),
}
