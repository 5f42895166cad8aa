"""Resource and action of a delivery, refusals, and the delivery key."""

import json
from dataclasses import replace

import pytest

from signalcraft.domain.deliveries import Delivery
from signalcraft.domain.errors import (
    BodyDuplicateKey,
    BodyNotJson,
    BodyNotObject,
    InvalidFields,
    Refusal,
    UnexpectedShape,
)
from signalcraft.sources import sentry
from signalcraft.sources.sentry import deliveries, samples, schemas
from signalcraft.sources.sentry.errors import ResourceMismatch, UiComponentRequest
from tests.support.sentry_bodies import (
    ABSENT,
    RECEIVED_AT,
    alert,
    body_of,
    carrying,
    damaged,
    deliver,
    sample,
    with_event,
    with_value,
)

OTHER_KEY = "ffeeddccbbaa99887766554433221100"


def refusal(delivery: Delivery) -> Refusal:
    with pytest.raises(Refusal) as caught:
        sentry.identify(delivery)
    return caught.value


def key(delivery: Delivery) -> str:
    return sentry.identify(delivery).delivery_key


# The body.


@pytest.mark.parametrize(
    ("sent", "instead", "refused"),
    [
        (b'{"action"', b"{", BodyNotJson),
        (sample().body, b"[]", BodyNotObject),
        (b'{"action"', b'{"action":"created","action"', BodyDuplicateKey),
    ],
)
def test_a_body_that_is_invalid_json_or_exceeds_a_bound_is_refused(
    sent: bytes, instead: bytes, refused: type[Refusal]
) -> None:
    assert type(refusal(carrying(sample().body.replace(sent, instead, 1)))) is refused


@pytest.mark.parametrize("levels", [66, 500, 900, 990, 1_000, 100_000])
def test_normalize_survives_absurd_nesting(levels: int) -> None:
    deep = b"[" * levels + b"]" * levels
    event = b'{"event_id":"1","title":"t","tags":[["deep",' + deep + b'],["a","b"]],"message":' + deep + b"}"
    delivery = carrying(b'{"action":"triggered","data":{"event":' + event + b"}}")
    try:
        (alert,) = sentry.normalize(delivery).outcomes
    except UnexpectedShape:
        return
    assert ("a", "b") in alert.tags


@pytest.mark.parametrize("literal", ["9" * 5_000, "-" + "9" * 9_999, "NaN", "Infinity", "1e999"])
def test_numbers_that_python_cannot_represent_are_accepted(literal: str) -> None:
    body = sample().body.replace(b'"time_spent":null', b'"time_spent":' + literal.encode())
    assert literal.encode() in body
    assert sentry.identify(carrying(body)).ignored == ""


# Required fields.


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("event_alert.triggered", "action"),
        ("event_alert.triggered", "data"),
        ("error.created", "data"),
        ("issue.created", "data"),
        ("issue.resolved", "data"),
        ("metric_alert.critical", "data"),
        ("activity_alert.triggered", "data"),
        ("comment.created", "action"),
    ],
)
@pytest.mark.parametrize("value", [ABSENT, None, 7, [], True])
def test_a_missing_required_field_is_named_with_the_expected_type(name: str, path: str, value: object) -> None:
    refused = refusal(damaged(name, path, value))
    assert isinstance(refused, InvalidFields)
    (problem,) = refused.errors[path]
    expected = "text" if path == "action" else "a JSON object"
    assert problem == (f"is missing; {expected} is expected" if value is ABSENT else f"must be {expected}")
    with pytest.raises(UnexpectedShape):
        sentry.normalize(damaged(name, path, value))


@pytest.mark.parametrize(
    ("name", "path", "missing"),
    [
        ("event_alert.triggered", "data.event", "data.event"),
        ("error.created", "data.error", "data.error"),
        ("issue.created", "data.issue", "data.issue"),
        ("issue.resolved", "data.issue", "data.issue"),
        ("metric_alert.critical", "data.metric_alert", "data.metric_alert"),
        ("metric_alert.resolved", "data.metric_alert", "data.metric_alert"),
        ("activity_alert.triggered", "data.issue", "data.issue"),
        ("activity_alert.triggered", "data.activity", "data.activity"),
        ("installation.created", "data", "data.installation"),
        ("installation.created", "data.installation", "data.installation"),
        ("comment.created", "data", "data.comment_id"),
        ("comment.created", "data.comment_id", "data.comment_id"),
        ("seer.pr_created", "data.run_id", "data.run_id"),
        ("preprod_artifact.size_analysis_completed", "data", "data.buildId"),
    ],
)
@pytest.mark.parametrize("value", [ABSENT, None, [], 1.5])
def test_a_delivery_without_its_own_object_is_kept_raw(name: str, path: str, missing: str, value: object) -> None:
    delivery = damaged(name, path, value)
    identity = sentry.identify(delivery)
    assert identity.resource == name.partition(".")[0]
    assert (identity.ignored, identity.is_kept) == (deliveries.BODY_INCOMPLETE, True)
    normalization = sentry.normalize(delivery)
    assert normalization.outcomes == ()
    (warning,) = normalization.warnings
    assert (warning.field, warning.problem.endswith("the delivery was kept raw")) == (missing, True)


@pytest.mark.parametrize("event", [ABSENT, None, 7, []])
def test_a_service_hook_without_event_and_group_is_kept_raw(event: object) -> None:
    assert sentry.identify(damaged("servicehook.triggered", "event", event)).ignored == ""
    body = with_value(body_of("servicehook.triggered"), "event", event) | {"group": None}
    assert sentry.identify(carrying(body, like="servicehook.triggered")).ignored == deliveries.BODY_INCOMPLETE


@pytest.mark.parametrize("named", ["release", "installation"])
@pytest.mark.parametrize("data", [ABSENT, None, 7])
def test_a_resource_that_is_no_alert_needs_no_data(named: str, data: object) -> None:
    body = with_value(body_of("installation.created"), "data", data)
    identity = sentry.identify(carrying(body, like="installation.created", sentry_hook_resource=named))
    assert (identity.resource, identity.is_kept) == (named, True)


@pytest.mark.parametrize("named", ["legacy", "servicehook"])
def test_the_header_cannot_name_another_family(named: str) -> None:
    delivery = carrying(sample().body, sentry_hook_resource=named)
    assert (sentry.identify(delivery).resource, sentry.identify(delivery).ignored) == ("unknown", "resource_unknown")
    assert sentry.normalize(delivery).outcomes == ()


def test_all_invalid_fields_are_named_at_once() -> None:
    assert set(refusal(carrying({"data": []})).errors) == {"action", "data"}


@pytest.mark.parametrize("body", [{}, {"alias": "GlitchTip", "text": "x", "attachments": []}, {"id": "1", "event": []}])
def test_an_unsigned_body_without_event_or_message_is_refused(body: dict[str, object]) -> None:
    assert set(refusal(carrying(body, like="legacy.modern")).errors) == {"event"}


@pytest.mark.parametrize("name", ["legacy.modern", "legacy.ancient"])
@pytest.mark.parametrize("path", ["event", "message", "culprit", "triggering_rules"])
@pytest.mark.parametrize("value", [ABSENT, None, 7, []])
def test_any_key_of_its_own_proves_the_legacy_plugin(name: str, path: str, value: object) -> None:
    body = with_value({path: None, **body_of(name)}, path, value)
    assert sentry.identify(carrying(body, like=name)).ignored == ""
    alert(carrying(body, like=name))


def test_a_call_of_a_ui_component_is_refused() -> None:
    headers = {"sentry-app-signature": "x"}
    assert type(refusal(Delivery(headers=headers, body=b"{}", received_at=RECEIVED_AT))) is UiComponentRequest


@pytest.mark.parametrize("shape", [schemas.INTEGRATION, schemas.INTEGRATION_ALERT, schemas.LEGACY])
@pytest.mark.parametrize("value", [ABSENT, None, 1, "text", [], {}, True, 1.5])
def test_the_fast_check_of_a_shape_agrees_with_its_schema(shape: schemas.Shape, value: object) -> None:
    for name in shape.schema.fields:
        part = {key: {} if kind is dict else "" for key, kind in shape.types} | {"more": 1, name: value}
        if value is ABSENT:
            del part[name]
        assert shape.fits(part) == (not shape.schema.validate(part))


# The resource.


@pytest.mark.parametrize("name", samples.NAMES)
def test_every_sample_is_identified(name: str) -> None:
    made, identity = sample(name), sentry.identify(deliver(name))
    assert (identity.resource, identity.action) == (made.resource, made.action)
    assert identity.resource in sentry.RESOURCES


INTEGRATIONS = tuple(name for name in samples.NAMES if name.partition(".")[0] in samples.INTEGRATION)


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_the_header_is_not_needed_and_changes_nothing(name: str) -> None:
    assert sentry.identify(carrying(sample(name).body, sentry_hook_resource=None)) == sentry.identify(deliver(name))


@pytest.mark.parametrize("name", INTEGRATIONS)
@pytest.mark.parametrize("named", samples.INTEGRATION)
def test_a_header_that_contradicts_the_body_is_refused(name: str, named: str) -> None:
    delivery = carrying(sample(name).body, sentry_hook_resource=named)
    if named == name.partition(".")[0]:
        sentry.identify(delivery)
    else:
        assert type(refusal(delivery)) is ResourceMismatch


@pytest.mark.parametrize("named", ["EVENT_ALERT", " event_alert "])
def test_case_and_surrounding_blanks_of_the_header_do_not_matter(named: str) -> None:
    assert sentry.identify(carrying(sample().body, sentry_hook_resource=named)).resource == "event_alert"


@pytest.mark.parametrize(
    ("named", "resource"),
    [
        ("monitor", "monitor"),
        ("new_thing.v2", "new_thing.v2"),
        ("x" * 65, "unknown"),
        ("a b", "unknown"),
        ("ü", "unknown"),
    ],
)
@pytest.mark.parametrize("name", ["event_alert.triggered", "issue.created", "comment.created"])
def test_an_unknown_resource_is_ignored_under_its_name(named: str, resource: str, name: str) -> None:
    delivery = carrying(sample(name).body, sentry_hook_resource=named)
    identity = sentry.identify(delivery)
    assert (identity.resource, identity.ignored) == (resource, "resource_unknown")
    assert identity.delivery_key != key(deliver(name))
    assert sentry.normalize(delivery).outcomes == ()


def test_made_up_names_of_resources_do_not_make_one_body_many_deliveries() -> None:
    made_up = (carrying(sample().body, sentry_hook_resource=name) for name in ("one", "two", "a b"))
    assert len({key(delivery) for delivery in made_up}) == 1


def test_a_body_that_proves_nothing_is_an_unknown_resource() -> None:
    identity = sentry.identify(carrying({"action": "a", "data": {}}, sentry_hook_resource=None))
    assert (identity.resource, identity.action, identity.ignored) == ("unknown", "a", "resource_unknown")


@pytest.mark.parametrize(
    "name", ["installation.created", "comment.updated", "seer.pr_created", "size_analysis.completed"]
)
def test_resources_that_are_no_alert_are_ignored(name: str) -> None:
    resource, _, action = name.partition(".")
    data = {"buildId": "7"} if resource == "size_analysis" else body_of(name)["data"]
    delivery = carrying({"action": action, "data": data}, sentry_hook_resource=resource)
    assert sentry.identify(delivery).ignored == "no_alert"
    assert sentry.normalize(delivery).outcomes == ()


@pytest.mark.parametrize("action", ["", "exploded", "x" * 300, "a b", "ä", "\ud800", "\x00"])
def test_an_unknown_action_is_ignored(action: str) -> None:
    identity = sentry.identify(damaged("issue.created", "action", action))
    assert identity.ignored == "action_unknown"
    assert identity.action == ("exploded" if action == "exploded" else "unknown")


@pytest.mark.parametrize("activity", ["seer_root_cause_completed", "appeared_in_pull_request", "", None, 7, ["a"], {}])
def test_an_activity_that_is_no_change_of_status_is_ignored(activity: object) -> None:
    delivery = damaged("activity_alert.triggered", "data.activity.type", activity)
    assert sentry.identify(delivery).ignored == "no_alert"
    assert sentry.normalize(delivery).outcomes == ()


@pytest.mark.parametrize(
    ("name", "project"),
    [
        ("event_alert.triggered", "4509877862268928"),
        ("error.created", "4509877862268928"),
        ("issue.resolved", "4509877862268928"),
        ("metric_alert.critical", "checkout"),
        ("comment.created", "checkout"),
        ("legacy.modern", "checkout"),
        ("legacy.ancient", "checkout"),
        ("servicehook.triggered", "4509877862268928"),
        ("preprod_artifact.size_analysis_completed", "checkout"),
        ("seer.pr_created", ""),
    ],
)
def test_the_project_is_named_as_the_body_has_it(name: str, project: str) -> None:
    assert sentry.identify(deliver(name)).response_headers.get("Sentry-Hook-Project", "") == project


@pytest.mark.parametrize("project", ["a\r\nSet-Cookie: x", "Ä" * 300, [], {}, -1, 1.5, None, "\ud800"])
def test_the_project_is_always_fit_for_a_header(project: object) -> None:
    named = sentry.identify(with_event(project=project)).response_headers.get("Sentry-Hook-Project", "")
    assert named.isascii()
    assert named.isprintable()
    assert len(named) <= 100


# The delivery key.


@pytest.mark.parametrize("name", samples.NAMES)
def test_a_redelivery_shares_the_key(name: str) -> None:
    first = deliver(name)
    later = {**deliver(name).headers, "request-id": "other", "sentry-hook-timestamp": "1"}
    assert key(first) == key(replace(first, headers=later))


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("event_alert.triggered", False),
        ("error.created", False),
        ("issue.created", False),
        ("comment.created", False),
        ("legacy.modern", False),
        ("servicehook.triggered", False),
        ("issue.resolved", True),
        ("issue.assigned", True),
        ("metric_alert.critical", True),
        ("metric_alert.resolved", True),
        ("activity_alert.triggered", True),
    ],
)
def test_the_idempotency_key_counts_only_where_two_deliveries_may_have_the_same_bytes(name: str, counts: bool) -> None:  # noqa: FBT001 - a column of the table
    body = sample(name).body
    one, other = (carrying(body, like=name, idempotency_key=each) for each in ("0" * 32, OTHER_KEY))
    assert (key(one) != key(other)) == counts


@pytest.mark.parametrize("value", ["constant", OTHER_KEY.upper(), OTHER_KEY + "0", OTHER_KEY[:-1], "", None])
def test_an_idempotency_key_in_another_format_than_sentrys_is_ignored(value: str | None) -> None:
    body = sample("issue.resolved").body
    without = carrying(body, like="issue.resolved", idempotency_key=None)
    assert key(carrying(body, like="issue.resolved", idempotency_key=value)) == key(without)


def test_the_same_event_by_two_rules_is_two_deliveries() -> None:
    keys = {key(deliver(rule=rule)) for rule in ("one", "two")}
    keys |= {key(deliver(rule="one", rule_id=number)) for number in (1, 2)}
    assert len(keys) == 4


def test_a_rule_is_identified_by_its_id_if_it_has_one() -> None:
    assert key(deliver(rule="before", rule_id=5)) == key(deliver(rule="renamed", rule_id=5))


def test_the_same_event_as_error_and_as_alert_is_two_deliveries() -> None:
    assert key(deliver("error.created")) != key(deliver("event_alert.triggered"))


def test_fields_around_the_event_do_not_change_its_key() -> None:
    assert key(with_event(time_spent=12, title="else")) == key(deliver())


def test_an_event_without_an_id_is_identified_by_its_bytes() -> None:
    one, other = (with_event(event_id=None, url=None, web_url=None, title=title) for title in "ab")
    assert key(one) != key(other)
    assert key(one) == key(with_event(event_id=None, url=None, web_url=None, title="a"))


def test_parts_of_a_key_are_unambiguously_separated() -> None:
    assert key(deliver(event_id="ab", rule="c")) != key(deliver(event_id="a", rule="bc"))
    assert key(deliver(rule="a\nb")) != key(deliver(rule="a"))


def test_a_key_is_short_plain_text() -> None:
    for name in samples.NAMES:
        resource, _, digest = key(deliver(name)).partition(":")
        assert resource == sample(name).resource
        assert len(digest) == 64
    assert len(key(with_event(event_id="e" * 64))) < 100
    assert key(deliver(rule="\ud800"))


@pytest.mark.parametrize("name", ["issue.resolved", "issue.archived", "issue.unresolved", "issue.assigned"])
def test_a_second_attempt_at_a_change_shares_its_key_although_its_body_differs(name: str) -> None:
    first, second = damaged(name, "data.issue.count", "41"), damaged(name, "data.issue.count", "42")
    assert first.body != second.body
    assert key(first) == key(second)
    bare = [replace(one, headers={**one.headers, "idempotency-key": ""}) for one in (first, second)]
    assert key(bare[0]) != key(bare[1])


@pytest.mark.parametrize("occurrence", [ABSENT, {"issueTitle": "N+1 Query", "level": "info"}])
def test_one_event_that_occurs_in_two_issues_is_two_alerts_and_each_by_two_rules_is_one(occurrence: object) -> None:
    one, other = (with_event(occurrence=occurrence, issue_id=issue) for issue in ("111", "222"))
    assert key(one) != key(other)
    assert alert(one).source_event_id != alert(other).source_event_id
    by_another_rule = carrying(with_value(json.loads(one.body), "data.triggered_rule", "Other"))
    assert key(by_another_rule) != key(one)
    assert alert(by_another_rule).source_event_id == alert(one).source_event_id


def test_an_unknown_activity_about_the_status_is_stored_raw() -> None:
    identity = sentry.identify(damaged("activity_alert.triggered", "data.activity.type", "status_on_the_moon"))
    assert (identity.ignored, identity.is_kept) == (deliveries.ACTION_UNKNOWN, True)
