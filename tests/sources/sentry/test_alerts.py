"""Every field of an alert: its paths, their order, and its default."""

import hashlib
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from signalcraft.domain.alerts import ENVIRONMENT_ALIASES, FieldWarning, NormalizedAlert, Severity, Vocabulary
from signalcraft.domain.deliveries import Delivery
from signalcraft.sources import sentry
from signalcraft.sources.sentry import fingerprint
from signalcraft.sources.sentry.samples.issue_types import ISSUE_TYPES
from tests.support.sentry_bodies import (
    ABSENT,
    EVENT_ID,
    OCCURRED_AT,
    RECEIVED_AT,
    alert,
    body_of,
    carrying,
    damaged,
    deliver,
    outcomes,
    warned,
    with_event,
)

ISSUE = "6120094511"
TITLE = "PaymentTimeout: card gateway did not answer within 5.0 s"
VALUE = "card gateway did not answer within 5.0 s"
LINK = f"https://sentry.io/organizations/northwind/issues/{ISSUE}/"
EVENTS = ("event_alert.triggered", "error.created", "legacy.modern", "servicehook.triggered")
STORED_EVENTS = EVENTS[:2]


@pytest.mark.parametrize("name", EVENTS)
def test_a_complete_event_is_read_without_a_warning(name: str) -> None:
    read = alert(deliver(name))
    tags = dict(read.tags)
    assert read == NormalizedAlert(
        source="sentry",
        source_event_id=f"{EVENT_ID}:{ISSUE}",
        project="checkout",
        environment="prod",
        severity=Severity.HIGH,
        fingerprint=f"issue:{ISSUE}",
        title=TITLE,
        description=VALUE,
        tags=read.tags,
        occurred_at=OCCURRED_AT,
        received_at=RECEIVED_AT,
        link=LINK,
        issue_id=ISSUE,
        triggered_rule="Checkout errors to SignalCraft" if name in {"event_alert.triggered", "legacy.modern"} else None,
        source_count=41 if name == "servicehook.triggered" else None,
    )
    assert len(read.tags) == 13
    assert (tags["release"], tags["user"], tags["environment"]) == ("checkout@4.18.2", "id:70211", "production")
    assert warned(deliver(name)) == []


def test_a_new_issue_is_a_separate_alert() -> None:
    assert alert(deliver("issue.created")) == NormalizedAlert(
        source="sentry",
        source_event_id=f"issue:{ISSUE}:created",
        project="checkout",
        environment="prod",
        severity=Severity.HIGH,
        fingerprint=f"issue:{ISSUE}",
        title=TITLE,
        description=VALUE,
        tags=(),
        occurred_at=OCCURRED_AT,
        received_at=RECEIVED_AT,
        link=LINK,
        issue_id=ISSUE,
        source_count=41,
        names_environment=False,
    )
    assert warned(deliver("issue.created")) == []


@pytest.mark.parametrize(
    ("action", "status", "severity"),
    [
        ("critical", 20, Severity.CRITICAL),
        ("warning", 10, Severity.MED),
        ("critical", 1, Severity.CRITICAL),
        ("warning", 20, Severity.MED),
        ("open", 20, Severity.CRITICAL),
        ("open", 1, Severity.MED),
        ("open", 10, Severity.MED),
        ("open", None, Severity.MED),
        ("open", "20", Severity.MED),
    ],
)
def test_the_action_of_a_metric_alert_is_its_severity(action: str, status: object, severity: Severity) -> None:
    delivery = damaged(f"metric_alert.{action}", "data.metric_alert.status", status)
    digest = sentry.identify(delivery).delivery_key.partition(":")[2]
    assert alert(delivery) == NormalizedAlert(
        source="sentry",
        source_event_id=f"metric:90431:{action}:{digest}",
        project="checkout",
        environment="prod",
        severity=severity,
        fingerprint="metric_rule:2217",
        title=f"{action.title()}: Failed payments in checkout",
        description="312 events in the last 10 minutes\nFilter: level:error",
        tags=(),
        occurred_at=OCCURRED_AT,
        received_at=RECEIVED_AT,
        link=(
            "https://sentry.io/organizations/northwind/alerts/rules/details/2217/"
            "?alert=90431&referrer=metric_alert_sentry_app"
        ),
        triggered_rule="Failed payments in checkout",
    )
    assert warned(delivery) == []


# Identity.


@pytest.mark.parametrize("one", EVENTS)
@pytest.mark.parametrize("other", EVENTS)
def test_one_event_is_one_alert_however_it_arrives(one: str, other: str) -> None:
    named = {alert(deliver(name, rule=rule)).source_event_id for name in (one, other) for rule in ("one", "two")}
    assert named == {f"{EVENT_ID}:{ISSUE}"}


@pytest.mark.parametrize("one", [*EVENTS, "legacy.modern"])
@pytest.mark.parametrize("other", EVENTS)
def test_one_event_without_an_issue_is_one_alert_of_its_project(one: str, other: str) -> None:
    def without_issue(name: str) -> NormalizedAlert:
        body = body_of(name, issue=None)
        if "url" in body:
            body["url"] = "https://northwind.sentry.io/checkout/"
        if "group" in body:
            body["group"]["url"] = body["event"]["url"] = None
        return alert(carrying(body, like=name))

    named = {without_issue(name).source_event_id for name in (one, other)}
    assert named == {f"{EVENT_ID}:project:checkout"}


def test_of_an_event_without_issue_and_slug_the_project_goes_by_its_number() -> None:
    gone = dict.fromkeys(("issue_id", "issue_url", "web_url", "url"))
    assert alert(with_event(**gone)).source_event_id == f"{EVENT_ID}:project:project-4509877862268928"
    assert alert(with_event(**gone, project=None)).source_event_id == f"{EVENT_ID}:project:unknown"


def test_one_event_of_two_projects_is_two_alerts() -> None:
    both = [{"project": "checkout", "project_id": 1, "issue": "4000000028"}]
    both += [{"project": "header", "project_id": 2, "issue": "4000000029"}]
    one, other = (deliver(**each) for each in both)
    assert alert(one).source_event_id != alert(other).source_event_id
    assert sentry.identify(one).delivery_key != sentry.identify(other).delivery_key


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (EVENT_ID.upper(), EVENT_ID),
        ("3b9f4c1d-2e8a-4757-9c0d-1f2e3a4b5c6d", "3b9f4c1d2e8a47579c0d1f2e3a4b5c6d"),
        ("3B9F4C1D-2E8A-4757-9C0D-1F2E3A4B5C6D", "3b9f4c1d2e8a47579c0d1f2e3a4b5c6d"),
        ("short-Id", "short-Id"),
        (12345, "12345"),
    ],
)
def test_an_event_id_has_one_canonical_form(sent: object, kept: str) -> None:
    assert alert(with_event(event_id=sent)).source_event_id == f"{kept}:{ISSUE}"


@pytest.mark.parametrize("sent", [ABSENT, None, "", "not an id", -1, 1.5, True, [], {}, "x" * 65, "\x00"])
def test_an_event_without_an_id_is_identified_by_its_url(sent: object) -> None:
    assert alert(with_event(event_id=sent)).source_event_id == f"{EVENT_ID}:{ISSUE}"


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_without_an_id_is_identified_by_its_issue_and_its_moment(name: str) -> None:
    gone = dict.fromkeys(("event_id", "eventID", "id", "url", "web_url", "issue_url"))
    moment = "2026-03-01T12:00:00.250000+00:00"
    assert alert(with_event(name, **gone)).source_event_id == f"at:{ISSUE}:{moment}"
    assert any(field.endswith(("event_id", "eventID")) for field in warned(with_event(name, **gone)))
    nowhere = with_event(**gone, issue_id=None, project=None)
    assert alert(nowhere).source_event_id == f"at:project:unknown:{moment}"


def test_an_event_without_an_id_and_a_time_is_identified_by_its_body() -> None:
    gone = dict.fromkeys(("event_id", "url", "web_url", "issue_url", "datetime", "timestamp", "received"))
    one, other = (with_event(**gone, title=title) for title in "ab")
    assert alert(one).source_event_id == f"body:{hashlib.sha256(one.body).hexdigest()}"
    assert alert(one).source_event_id != alert(other).source_event_id
    assert "data.event.event_id" in warned(one)


def later(delivery: Delivery) -> Delivery:
    return replace(delivery, received_at=delivery.received_at + timedelta(microseconds=1))


@pytest.mark.parametrize("path", ["level", "message", "id", "project"])
def test_of_the_oldest_senders_each_request_is_an_alert(path: str) -> None:
    delivery = damaged("legacy.ancient", path)
    again = later(delivery)
    assert alert(delivery).source_event_id != alert(again).source_event_id
    assert sentry.identify(delivery).delivery_key != sentry.identify(again).delivery_key
    assert alert(delivery) == alert(delivery)


@pytest.mark.parametrize(
    "named", [{"triggering_rules": ["Errors"]}, {"event": {"timestamp": 1772366400}}, {"event": {"id": 7}}]
)
def test_a_legacy_sender_that_names_an_event_a_time_or_a_rule_is_recognised_again(named: dict[str, object]) -> None:
    delivery = carrying(body_of("legacy.ancient") | named, like="legacy.ancient")
    again = later(delivery)
    assert alert(delivery).source_event_id == alert(again).source_event_id
    assert sentry.identify(delivery).delivery_key == sentry.identify(again).delivery_key


def test_an_event_before_version_9_is_identified_by_its_number() -> None:
    body = {"id": "7", "project": "shop", "message": "m", "event": {"id": 90210}}
    assert alert(carrying(body, like="legacy.modern")).source_event_id == "90210:7"


def test_an_issue_or_incident_without_an_id_is_identified_by_other_fields() -> None:
    assert alert(damaged("issue.created", "data.issue.id")).source_event_id == f"issue:{ISSUE}:created"
    body = body_of("issue.created")
    body["data"]["issue"] |= {"id": None, "web_url": None, "permalink": None, "url": None}
    with_short_id = carrying(body, like="issue.created")
    assert alert(with_short_id).source_event_id == "issue:CHECKOUT-3KD:created"
    assert (alert(with_short_id).issue_id, alert(with_short_id).fingerprint) == ("CHECKOUT-3KD", "issue:CHECKOUT-3KD")
    assert "data.issue.id" in warned(with_short_id)
    body["data"]["issue"]["shortId"] = None
    without = alert(carrying(body, like="issue.created"))
    assert without.source_event_id == "at:project:checkout:2026-03-01T12:00:00.250000+00:00"
    body = body_of("metric_alert.critical")
    del body["data"]["metric_alert"]["id"]
    assert alert(carrying(body, like="metric_alert.critical")).source_event_id.startswith("metric:90431:critical:")
    del body["data"]["metric_alert"]["identifier"]
    assert alert(carrying(body, like="metric_alert.critical")).source_event_id.startswith("metric:2217:critical:")
    del body["data"]["metric_alert"]["alert_rule"]
    nameless = carrying(body, like="metric_alert.critical")
    assert re.fullmatch("metric:critical:[0-9a-f]{64}", alert(nameless).source_event_id)
    assert alert(nameless).fingerprint == fingerprint.made("Failed payments in checkout")
    assert "data.metric_alert.id" in warned(nameless)


def test_a_metric_alert_that_rises_again_is_new_and_its_redelivery_is_not() -> None:
    first, again = deliver("metric_alert.critical"), deliver("metric_alert.critical")
    risen = deliver("metric_alert.critical", idempotency_key="f" * 32)
    assert alert(first).source_event_id == alert(again).source_event_id != alert(risen).source_event_id


def test_the_legacy_plugins_rules_share_one_alert() -> None:
    delivery = damaged("legacy.modern", "triggering_rules", ["one", "two", None])
    read = [outcome for outcome in outcomes(delivery) if isinstance(outcome, NormalizedAlert)]
    assert [each.triggered_rule for each in read] == ["one", "two", None]
    assert {each.source_event_id for each in read} == {f"{EVENT_ID}:{ISSUE}"}


@pytest.mark.parametrize("rules", [[], None, ABSENT, {}, 5])
def test_without_rules_the_legacy_plugin_still_sends_an_alert(rules: object) -> None:
    assert alert(damaged("legacy.modern", "triggering_rules", rules)).triggered_rule is None


@pytest.mark.parametrize(
    ("label", "rule_id", "kept"),
    [
        ("Errors", None, "Errors"),
        ("", None, None),
        ("", 7, None),
        (" a\nb ", None, "a b"),
        ("x" * 300, 1, "x" * 199 + "…"),
    ],
)
def test_the_rule_is_kept_by_its_label(label: str, rule_id: int | None, kept: str | None) -> None:
    assert alert(deliver(rule=label, rule_id=rule_id)).triggered_rule == kept


def test_a_rule_without_a_label_has_the_title_of_its_settings() -> None:
    body = body_of("event_alert.triggered", rule="Errors", rule_id=7)
    del body["data"]["triggered_rule"]
    assert alert(carrying(body)).triggered_rule == "Errors"


# Project, environment, severity.


@pytest.mark.parametrize(
    ("fields", "project", "is_warned"),
    [
        ({}, "checkout", False),
        ({"url": ABSENT}, "project-4509877862268928", True),
        ({"url": None, "project": "4509"}, "project-4509", True),
        ({"url": None, "project": "Shop"}, "shop", False),
        ({"url": None, "project": "My Shop"}, "my-shop", True),
        ({"url": None, "project": None}, "unknown", True),
        ({"url": None, "project": []}, "unknown", True),
        ({"url": None, "project": True}, "unknown", True),
        ({"url": None, "web_url": "https://sentry.io/acme/Shop/issues/7/"}, "shop", False),
        ({"project_slug": "named"}, "named", False),
        ({"project_slug": 7}, "checkout", False),
    ],
)
def test_the_project_is_a_slug_or_a_number(fields: dict[str, object], project: str, is_warned: bool) -> None:  # noqa: FBT001 - a column of the table
    delivery = with_event(**fields)
    assert alert(delivery).project == project
    assert any("project" in field for field in warned(delivery)) == is_warned


@pytest.mark.parametrize("projects", [["zeta", "alpha"], ["alpha", "zeta"], ["alpha", None, 7, "zeta"], "alpha"])
def test_of_several_projects_the_first_by_name_represents_all(projects: object) -> None:
    assert alert(damaged("metric_alert.critical", "data.metric_alert.projects", projects)).project == "alpha"


@pytest.mark.parametrize("projects", [[], None, [7], {}])
def test_a_metric_alert_without_projects_has_those_of_its_rule(projects: object) -> None:
    assert alert(damaged("metric_alert.critical", "data.metric_alert.projects", projects)).project == "checkout"


@pytest.mark.parametrize(("alias", "ours"), ENVIRONMENT_ALIASES.items())
@pytest.mark.parametrize("spell", [str, str.upper, " {} ".format])
def test_every_alias_of_an_environment_is_resolved(alias: str, ours: str, spell: "type[str]") -> None:
    delivery = with_event(environment=spell(alias))
    assert alert(delivery).environment == ours
    assert warned(delivery) == []


@pytest.mark.parametrize(
    ("fields", "environment", "is_warned"),
    [
        ({"environment": "EU West"}, "eu-west", True),
        ({"environment": None}, "prod", False),
        ({"environment": ABSENT}, "prod", False),
        ({"environment": ABSENT, "tags": [["environment", "stage"]]}, "staging", False),
        ({"environment": ABSENT, "tags": [{"key": "environment", "value": "qa"}]}, "test", False),
        ({"environment": ABSENT, "tags": {"environment": "qa"}}, "test", False),
        ({"environment": ABSENT, "tags": []}, "green", True),
        ({"environment": 5, "tags": [["environment", None]]}, "green", True),
        ({"environment": {}, "tags": None}, "green", True),
    ],
)
def test_the_environment_is_the_events_or_its_tags_or_the_default(
    fields: dict[str, object],
    environment: str,
    is_warned: bool,  # noqa: FBT001 - a column of the table
) -> None:
    delivery = with_event(**fields)
    assert alert(delivery, Vocabulary(default_environment="green")).environment == environment
    assert any("environment" in field for field in warned(delivery)) == is_warned


def test_a_normally_absent_environment_causes_no_warning() -> None:
    for name in ("issue.created", "metric_alert.critical"):
        delivery = deliver(name, environment=None)
        assert alert(delivery, Vocabulary(default_environment="green")).environment == "green"
        assert warned(delivery) == []


@pytest.mark.parametrize(
    ("level", "severity", "is_warned"),
    [
        ("fatal", Severity.CRITICAL, False),
        ("error", Severity.HIGH, False),
        ("warning", Severity.MED, False),
        ("info", Severity.LOW, False),
        ("debug", Severity.INFO, False),
        ("sample", Severity.INFO, False),
        (40, Severity.HIGH, False),
        ("50", Severity.CRITICAL, False),
        ("unknown", Severity.MED, True),
        ("loud", Severity.MED, True),
        (41, Severity.MED, True),
        ({}, Severity.MED, True),
    ],
)
@pytest.mark.parametrize("name", ["event_alert.triggered", "error.created"])
def test_a_level_is_a_severity(name: str, level: object, severity: Severity, is_warned: bool) -> None:  # noqa: FBT001 - a column of the table
    delivery = with_event(name, level=level, tags=[["browser", "x"]])
    assert alert(delivery).severity is severity
    assert any(field.endswith(".level") for field in warned(delivery)) == is_warned


@pytest.mark.parametrize(
    ("fields", "severity"),
    [
        ({"level": None, "tags": [["level", "fatal"]]}, Severity.CRITICAL),
        ({"level": ABSENT, "tags": [["sentry:level", "info"]]}, Severity.LOW),
        ({"level": "odd", "tags": [["level", "fatal"]]}, Severity.CRITICAL),
        ({"level": "error", "occurrence": {"level": "info"}}, Severity.LOW),
        ({"level": "info", "occurrence": {"level": "odd"}}, Severity.LOW),
        ({"level": None, "tags": None}, Severity.MED),
    ],
)
def test_a_missing_level_is_looked_for_elsewhere(fields: dict[str, object], severity: Severity) -> None:
    assert alert(with_event(**fields)).severity is severity


@pytest.mark.parametrize(
    ("steps", "severity"), [(1, Severity.CRITICAL), (-2, Severity.LOW), (-9, Severity.INFO), (0, Severity.HIGH)]
)
def test_a_workspace_may_shift_the_severity_of_an_environment(steps: int, severity: Severity) -> None:
    vocabulary = Vocabulary(severity_shift={"prod": steps, "dev": 4})
    assert alert(deliver(), vocabulary).severity is severity
    assert alert(deliver(environment="qa"), vocabulary).severity is Severity.HIGH


def test_a_shift_applies_to_metric_alerts_too() -> None:
    vocabulary = Vocabulary(severity_shift={"prod": -1})
    assert alert(deliver("metric_alert.critical"), vocabulary).severity is Severity.HIGH


# Fingerprints.


def without_issue(**fields: object) -> NormalizedAlert:
    return alert(with_event(**{"issue_id": ABSENT, "issue_url": ABSENT, "web_url": ABSENT, **fields}))


def test_the_issue_is_sentrys_grouping_whatever_the_fingerprint() -> None:
    for custom in (["{{ default }}"], ["mine"], [], None, 7):
        delivery = with_event(fingerprint=custom)
        assert alert(delivery).fingerprint == f"issue:{ISSUE}"
        assert warned(delivery) == []


@pytest.mark.parametrize(
    ("fields", "issue_id"),
    [
        ({"issue_id": int(ISSUE)}, ISSUE),
        ({"issue_id": None}, ISSUE),
        ({"issue_id": None, "web_url": None, "issue_url": "https://sentry.io/api/0/issues/55/"}, "55"),
        ({"issue_id": None, "web_url": "https://acme.sentry.io/issues/66/events/x/", "issue_url": None}, "66"),
        ({"issue_id": "not an id", "web_url": None, "issue_url": None}, None),
    ],
)
def test_the_issue_id_is_read_from_a_field_or_a_url(fields: dict[str, object], issue_id: str | None) -> None:
    assert alert(with_event(**fields)).issue_id == issue_id


def test_two_default_fingerprints_with_two_hashes_are_two() -> None:
    one, other = (without_issue(fingerprint=["{{ default }}"], hashes=[each * 32]) for each in "ab")
    assert (one.fingerprint, other.fingerprint) == (f"hashes:{'a' * 32}", f"hashes:{'b' * 32}")


@pytest.mark.parametrize("default", ["{{ default }}", "{{default}}", "{{   default }}"])
def test_default_means_the_hashes_in_any_spelling(default: str) -> None:
    assert without_issue(fingerprint=[default], hashes=["a" * 32]).fingerprint == f"hashes:{'a' * 32}"
    one, other = (without_issue(fingerprint=[default, "x"], hashes=[each * 32]).fingerprint for each in "ab")
    assert one != other
    assert one.startswith("custom:")
    assert one == without_issue(fingerprint=["{{ default }}", "x"], hashes=["a" * 32]).fingerprint


def test_a_custom_fingerprint_decides_alone() -> None:
    one, other = (without_issue(fingerprint=["pay", "eu"], hashes=[each * 32], title=each).fingerprint for each in "ab")
    assert one == other
    assert one.startswith("custom:")
    assert one != without_issue(fingerprint=["payeu"]).fingerprint
    assert one != without_issue(fingerprint=["eu", "pay"]).fingerprint
    assert without_issue(fingerprint=["\ud800"]).fingerprint.startswith("custom:")


@pytest.mark.parametrize("custom", [[], ["x"] * 33, [1], [None], ["x", {}], "text", {}, 7, True])
def test_a_custom_fingerprint_that_is_no_list_of_1_to_32_texts_is_ignored(custom: object) -> None:
    delivery = with_event(issue_id=None, web_url=None, issue_url=None, fingerprint=custom, hashes=["a" * 32])
    assert alert(delivery).fingerprint == f"hashes:{'a' * 32}"
    assert (
        FieldWarning(field="data.event.fingerprint", problem="is not a list of 1 to 32 texts")
        in sentry.normalize(
            delivery,
        ).warnings
    )


@pytest.mark.parametrize("hashes", [ABSENT, None, [], ["no hash"], [7], "a" * 32, {}])
def test_without_hashes_a_fingerprint_is_made_of_texts(hashes: object) -> None:
    assert without_issue(hashes=hashes).fingerprint.startswith("made:")


def test_a_made_fingerprint_ignores_numbers_and_ids() -> None:
    def made(title: str, **fields: object) -> str:
        return without_issue(hashes=ABSENT, title=title, **fields).fingerprint

    order = made("Order 17 failed for 3b9f4c1d-2e8a-4757-9c0d-1f2e3a4b5c6d at 0x7f41")
    assert order == made("Order 290 failed for aaaaaaaa-2e8a-4757-9c0d-ffffffffffff at 0xdead")
    assert order != made("Basket 17 failed for 3b9f4c1d-2e8a-4757-9c0d-1f2e3a4b5c6d at 0x7f41")
    assert made("t", culprit="a") != made("t", culprit="b")
    assert made("t", metadata={"type": "A"}, exception=None) != made("t", metadata={"type": "B"}, exception=None)


def test_parts_of_a_made_fingerprint_are_unambiguously_separated() -> None:
    assert fingerprint.made("a", "b c") != fingerprint.made("a b", "c")


def test_a_metric_alert_without_a_rule_has_the_fingerprint_of_its_incident() -> None:
    delivery = damaged("metric_alert.critical", "data.metric_alert.alert_rule")
    assert alert(delivery).fingerprint == "metric_incident:90431"
    assert "data.metric_alert.alert_rule.id" in warned(delivery)


def test_a_metric_alert_without_a_rule_and_an_incident_goes_by_its_rules_name_whatever_the_action() -> None:
    def nameless(action: str) -> NormalizedAlert:
        body = body_of(f"metric_alert.{action}")
        incident = body["data"]["metric_alert"]
        incident |= {"id": None, "identifier": None}
        incident["alert_rule"]["id"] = None
        return alert(carrying(body, like=f"metric_alert.{action}"))

    assert nameless("critical").fingerprint == nameless("warning").fingerprint
    assert nameless("critical").fingerprint.startswith("made:")


# Title and description.


@pytest.mark.parametrize(
    ("fields", "title"),
    [
        ({"title": "  a\nb  "}, "a b"),
        ({"title": "<b>&amp;"}, "<b>&amp;"),
        ({"title": "x" * 600}, "x" * 499 + "…"),
        ({"title": "nul\x00 \ud800"}, "nul \ufffd"),
        ({"title": None}, TITLE),
        ({"title": 7}, TITLE),
        ({"title": "\x00"}, TITLE),
        ({"title": ABSENT, "metadata": {"title": "M"}}, "M"),
        ({"title": ABSENT, "metadata": {"type": "T", "value": "V"}, "exception": None}, "T: V"),
        ({"title": ABSENT, "metadata": {"type": "T"}, "exception": {"values": []}}, "T"),
        ({"title": ABSENT, "metadata": {"value": "V"}, "exception": {"values": [None]}}, "V"),
        ({"title": ABSENT, "exception": {"values": [{"type": "First"}, {"type": "Last", "value": "v"}]}}, "Last: v"),
        ({"title": ABSENT, "metadata": None, "exception": None, "message": "it broke"}, "it broke"),
        ({"title": ABSENT, "metadata": [], "exception": "x", "logentry": {"formatted": "said"}}, "said"),
        ({"title": "/books/", "occurrence": {"issueTitle": "N+1 Query"}}, "N+1 Query"),
        ({"title": "/books/", "occurrence": {"issueTitle": None}}, "/books/"),
        ({"title": "/books/", "occurrence": None}, "/books/"),
    ],
)
def test_a_title_is_found_or_made(fields: dict[str, object], title: str) -> None:
    assert (alert(with_event(**fields)).title, alert(with_event(**fields)).has_title) == (title, True)


NO_TITLE = dict.fromkeys(("title", "metadata", "exception", "message", "logentry", "entries"))
BARE = {"culprit": None, "location": None, "transaction": None, "tags": []}


@pytest.mark.parametrize(
    ("fields", "title"),
    [
        ({}, "shop.payments.gateway in charge"),
        ({"culprit": ""}, "shop/payments/gateway.py"),
        ({"culprit": None, "location": None}, "POST /checkout"),
        ({**BARE, "tags": [["transaction", "GET /"]]}, "GET /"),
        ({**BARE, "exception": {"values": []}}, "Untitled alert in checkout"),
        (BARE, "Untitled alert in checkout"),
        ({**BARE, "occurrence": {"subtitle": "missed\nat noon"}}, "missed at noon"),
        ({**BARE, "url": None}, "Untitled alert in project-4509877862268928"),
    ],
)
@pytest.mark.parametrize("name", STORED_EVENTS)
def test_an_event_without_a_title_has_the_best_substitute(name: str, fields: dict[str, object], title: str) -> None:
    delivery = with_event(name, **{**NO_TITLE, **fields})
    assert (alert(delivery).title, alert(delivery).has_title) == (title, False)
    assert any(field.endswith(".title") for field in warned(delivery))


def test_an_issue_or_a_metric_alert_without_a_title_has_the_best_substitute() -> None:
    body = body_of("issue.created")
    issue = body["data"]["issue"]
    issue |= {"title": None, "metadata": {}}
    assert alert(carrying(body, like="issue.created")).title == "shop.payments.gateway in charge"
    issue["culprit"] = None
    assert alert(carrying(body, like="issue.created")).title == "CHECKOUT-3KD"
    rule = {"id": "2217", "query": "level:error"}
    bare = carrying({"action": "critical", "data": {"metric_alert": {"alert_rule": rule}}}, like="metric_alert.open")
    assert (alert(bare).title, alert(bare).has_title) == ("level:error", False)
    assert alert(bare).fingerprint == "metric_rule:2217"
    hook = body_of("servicehook.triggered")
    del hook["event"]
    of_group = alert(carrying(hook, like="servicehook.triggered"))
    assert (of_group.title, of_group.issue_id, of_group.link) == (TITLE, ISSUE, LINK)
    assert (of_group.severity, of_group.source_count) == (Severity.HIGH, 41)


@pytest.mark.parametrize(
    ("fields", "description"),
    [
        ({"message": "one\ntwo\x00"}, "one\ntwo"),
        ({"message": "x" * 9_000}, "x" * 7_999 + "…"),
        ({"message": "", "logentry": {"formatted": "said"}}, "said"),
        ({}, VALUE),
        ({"exception": None}, VALUE),
        ({"occurrence": {"subtitle": "missed"}}, "missed"),
        ({"title": "T", "occurrence": {"issueTitle": "T", "subtitle": "missed"}}, "missed\nPOST /checkout"),
        ({"title": "/books/", "occurrence": {"issueTitle": "N+1 Query", "subtitle": "SELECT"}}, "SELECT\n/books/"),
        ({"title": "Cron", "transaction": None, "tags": [], "occurrence": {"issueTitle": "Cron"}}, VALUE),
        ({"exception": None, "metadata": None}, "shop.payments.gateway in charge"),
        ({"exception": None, "metadata": None, "culprit": None}, ""),
    ],
)
def test_a_description_is_the_first_text_that_is_not_empty(fields: dict[str, object], description: str) -> None:
    assert alert(with_event(**fields)).description == description


def test_an_exception_before_version_9_is_read() -> None:
    event = {"id": 1, "sentry.interfaces.Exception": {"values": [{"type": "KeyError", "value": "'sku'"}]}}
    body = {"id": "7", "project": "shop", "message": "", "event": event}
    assert alert(carrying(body, like="legacy.modern")).title == "KeyError: 'sku'"


# Times, links, tags, counts.


@pytest.mark.parametrize(
    ("fields", "occurred_at", "is_warned"),
    [
        ({}, OCCURRED_AT, False),
        ({"datetime": None}, OCCURRED_AT, False),
        ({"datetime": "long ago"}, OCCURRED_AT, True),
        ({"datetime": None, "timestamp": None}, datetime(2026, 3, 1, 12, 0, 0, 650000, tzinfo=UTC), False),
        ({"datetime": None, "timestamp": 1772366400000}, datetime(2026, 3, 1, 12, tzinfo=UTC), False),
        ({"datetime": "2026-03-01T12:00:00+00:00"}, datetime(2026, 3, 1, 12, tzinfo=UTC), False),
        ({"datetime": None, "timestamp": None, "received": None}, RECEIVED_AT, True),
        ({"datetime": "9999-01-01T00:00:00Z", "timestamp": 1e300, "received": []}, RECEIVED_AT, True),
    ],
)
def test_the_time_is_the_events_else_ours(fields: dict[str, object], occurred_at: datetime, is_warned: bool) -> None:  # noqa: FBT001 - a column of the table
    delivery = with_event(**fields)
    assert alert(delivery).occurred_at == occurred_at
    assert ("data.event.datetime" in warned(delivery)) == is_warned


@pytest.mark.parametrize(
    "base", ["https://sentry.corp.example", "http://10.0.0.5:9000", "https://corp.example/tools/sentry"]
)
@pytest.mark.parametrize("name", [*EVENTS, "issue.created"])
def test_a_self_hosted_sentry_is_linked_under_its_own_address(base: str, name: str) -> None:
    assert alert(deliver(name, base=base)).link == f"{base}/organizations/northwind/issues/{ISSUE}/"


@pytest.mark.parametrize(
    ("name", "page", "link"),
    [
        ("web_url", "https://s.example/issues/7/events/x/", "https://s.example/issues/7/events/x/"),
        ("webUrl", "https://s.example/issues/7/", "https://s.example/issues/7/"),
        ("webUrl", f"{LINK}events/{EVENT_ID}/", LINK),
    ],
)
def test_a_page_that_names_no_organization_is_linked_as_sent(name: str, page: str, link: str) -> None:
    fields = {"url": None, "issue_url": None, "web_url": None, name: page}
    assert alert(with_event(**fields)).link == link


@pytest.mark.parametrize("name", ["webUrl", "permalink"])
def test_an_issue_without_a_number_is_linked_as_sent(name: str) -> None:
    body = body_of("issue.created")
    page = "https://northwind.sentry.io/organizations/northwind/issues/CHECKOUT-3KD/"
    body["data"]["issue"] |= {"id": None, "url": None, "web_url": None, "permalink": None, name: page}
    assert alert(carrying(body, like="issue.created")).link == page


@pytest.mark.parametrize("name", ["url", "webUrl"])
def test_metric_alerts_before_2020_are_read(name: str) -> None:
    body = body_of("metric_alert.critical")
    data = body["data"]
    data |= {"title": data.pop("description_title"), name: data.pop("web_url")}
    assert alert(carrying(body, like="metric_alert.critical")).title == "Critical: Failed payments in checkout"
    assert alert(carrying(body, like="metric_alert.critical")).link == data[name]


@pytest.mark.parametrize("url", [None, "", "javascript:alert(1)", "https://[", 7, {}])
def test_without_a_usable_url_there_is_no_link(url: object) -> None:
    delivery = with_event(url=url, web_url=url, issue_url=url)
    assert alert(delivery).link is None
    assert "data.event.url" in warned(delivery)


def test_of_an_event_without_an_issue_and_a_link_the_issue_is_missing_and_not_the_organization() -> None:
    delivery = with_event(issue_id=None, issue_url=None, web_url=None)
    assert alert(delivery).link is None
    assert "data.event.issue_id" in warned(delivery)
    assert "data.event.url" not in warned(delivery)


@pytest.mark.parametrize("url", [None, "javascript:alert(1)", "https://x/<script>", 7])
def test_a_metric_alerts_link_is_kept_only_if_it_is_a_url(url: object) -> None:
    assert alert(damaged("metric_alert.critical", "data.web_url", url)).link is None


@pytest.mark.parametrize(
    ("tags", "kept", "is_warned"),
    [
        ([["a", "b"], None, ["a", "b"], {"key": "c", "value": 1}], (("a", "b"), ("a", "b"), ("c", "1")), True),
        ({"a": "b"}, (("a", "b"),), False),
        ([], (), False),
        (ABSENT, (), True),
        (None, (), True),
        ("a", (), True),
    ],
)
def test_tags_are_kept_in_order(tags: object, kept: tuple[tuple[str, str], ...], is_warned: bool) -> None:  # noqa: FBT001 - a column of the table
    delivery = with_event(tags=tags)
    assert alert(delivery).tags == kept
    assert ("data.event.tags" in warned(delivery)) == is_warned


@pytest.mark.parametrize(
    ("count", "kept"), [("41", 41), (7, 7), (None, None), ("many", None), (-1, None), (2**70, None)]
)
def test_sentrys_own_count_is_kept(count: object, kept: int | None) -> None:
    assert alert(damaged("issue.created", "data.issue.count", count)).source_count == kept


@pytest.mark.parametrize("literal", [b"9" * 5_000, b"NaN", b"-Infinity", b"1e999", b'"\\u0000\\ud800"', b"[[[]]]"])
@pytest.mark.parametrize(
    "field", ["level", "datetime", "timestamp", "culprit", "message", "environment", "issue_id", "tags"]
)
def test_values_that_cannot_be_stored_are_cleaned_or_dropped(field: str, literal: bytes) -> None:
    event = b'{"event_id":"1","title":"t","%s":%s}' % (field.encode(), literal)
    read = alert(carrying(b'{"action":"triggered","data":{"event":' + event + b"}}"))
    assert "\x00" not in repr(read)
    repr(read).encode()


def test_a_warning_names_the_path_and_quotes_nothing() -> None:
    secret = "s3cret-in-the-payload"
    delivery = with_event(
        level=secret, tags=secret, datetime=secret, fingerprint=secret, url=secret, environment=secret
    )
    warnings = sentry.normalize(delivery).warnings
    assert {each.field for each in warnings} >= {"data.event.level", "data.event.tags", "data.event.datetime"}
    assert secret not in repr(warnings)


def test_normalize_is_a_pure_function() -> None:
    for name in (*EVENTS, "issue.created", "metric_alert.critical", "issue.archived"):
        assert sentry.normalize(deliver(name)) == sentry.normalize(deliver(name))


def test_masking_a_long_word_is_fast() -> None:
    began = time.process_time()
    fingerprint.made("a" * 500 + "g", "deadbeef-" * 60 + "g", "0" * 500)
    assert time.process_time() - began < 0.5, "it was minutes: many ways to match one text"


@pytest.mark.parametrize(
    "changing",
    ["7", "0x1f", "deadbeef", "deadbeefcafe", "0123456789abcdef", "3b9f4c1d-2e8a-4756-9c0d-1f2e3a4b5c6d"],
)
def test_two_titles_that_differ_in_a_number_or_an_id_are_alike(changing: str) -> None:
    assert fingerprint.made(f"order {changing} failed") == fingerprint.made("order 8 failed")
    assert fingerprint.made("order feedback failed") != fingerprint.made("order 8 failed")


@pytest.mark.parametrize(
    ("name", "path", "field"),
    [
        ("event_alert.triggered", "data.triggered_rule", "data.triggered_rule"),
        ("metric_alert.critical", "data.web_url", "data.web_url"),
    ],
)
def test_a_missing_expected_field_causes_a_warning(name: str, path: str, field: str) -> None:
    assert field in warned(damaged(name, path))


def test_an_alert_without_any_issue_id_causes_a_warning() -> None:
    assert "data.event.issue_id" in warned(with_event(issue_id=ABSENT, issue_url=ABSENT, web_url=ABSENT))


def test_the_oldest_messages_of_the_legacy_plugin_have_a_title() -> None:
    event = {"id": 1, "sentry.interfaces.Message": {"message": "disk %s is full"}}
    body = {"id": "27", "project": "api", "message": "", "event": event}
    assert alert(carrying(body, like="legacy.ancient")).title == "disk %s is full"


def test_too_many_rules_cause_a_warning() -> None:
    body = body_of("legacy.modern") | {"triggering_rules": [f"rule {number}" for number in range(25)]}
    assert "triggering_rules" in warned(carrying(body, like="legacy.modern"))


@pytest.mark.parametrize("issue_type", ISSUE_TYPES)
@pytest.mark.parametrize("name", EVENTS)
def test_an_issue_of_any_type_is_titled_as_in_sentrys_own_list(name: str, issue_type: str) -> None:
    kind = ISSUE_TYPES[issue_type]
    delivery = deliver(name, issue_type=issue_type)
    read = alert(delivery)
    assert (read.title, read.has_title, read.link) == (kind.title, True, LINK)
    assert read.description == "\n".join(filter(None, (kind.subtitle, kind.transaction)))
    assert read.severity is {"info": Severity.LOW, "error": Severity.HIGH}[kind.level]
    assert warned(delivery) == []
    assert alert(deliver("issue.created", issue_type=issue_type)).title == kind.title


def test_the_types_of_issues_have_every_category_of_sentry() -> None:
    categories = {category for kind in ISSUE_TYPES.values() for category in kind.categories}
    assert categories >= {
        "performance", "profile", "cron", "replay", "feedback", "uptime", "metric_alert", "outage", "metric",
        "db_query", "http_client", "frontend", "mobile", "ai_detected", "preprod",
    }  # fmt: skip
