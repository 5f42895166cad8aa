"""The contract: any delivery gets the right result or the right error, and never another exception."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signalcraft.domain.alerts import Normalization, NormalizedAlert, StatusChange
from signalcraft.domain.deliveries import Delivery
from signalcraft.domain.errors import BodyTooDeep, PermanentError, Refusal
from signalcraft.sources import cleaning, sentry
from signalcraft.sources.sentry import samples
from signalcraft.sources.sentry.fields import FIELDS
from signalcraft.sources.sentry.status_changes import ACTIVITY_TYPE, ASSIGNEE, IGNORE_MINUTES, IGNORE_UNTIL, SUBSTATUS
from tests.support.sentry_bodies import (
    ABSENT,
    FOLDER,
    OCCURRED_AT,
    RECEIVED_AT,
    SECRETS,
    body_of,
    carrying,
    deliver,
    sample,
)

FINGERPRINT = re.compile(
    r"(issue|metric_rule|metric_incident):[\w-]{1,64}|hashes:[0-9a-f]{32,64}|(custom|made):[0-9a-f]{64}"
)
PROJECT = re.compile(r"[a-z0-9._-]{1,100}")

INTEGRATIONS = frozenset(name for name in samples.NAMES if name.partition(".")[0] in samples.INTEGRATION)

#: Values of every JSON type, including edge cases.
VALUES = (None, "", "text", "\x00\ud800", 0, -1, 2**70, 1.5, float("nan"), True, [], {}, [[]], [None, {}], {"key": 1})

#: Paths that are read besides those in the tables of ``fields``.
ALSO_READ = {
    "action",
    "data.metric_alert.status",
    "data.activity",
    "data.issue.status",
    "data.comment_id",
    "data.run_id",
    "data.buildId",
    "data.installation",
    *(path.text for path in (ACTIVITY_TYPE, SUBSTATUS, *ASSIGNEE, *IGNORE_UNTIL, *IGNORE_MINUTES)),
}


#: A status change without one of these changes nothing.
NO_CHANGE_WITHOUT = {"data.issue.id", "data.issue.status", "data.metric_alert.alert_rule.id"} | {
    path.text for path in ASSIGNEE
}

#: A delivery without one of these is refused: they say what it is.
IDENTITY = {("action",), ("data",)}


def check(delivery: Delivery) -> Normalization | None:
    """Verify, identify and normalize a signed delivery; ``None`` if it was refused."""
    sentry.verify(delivery, SECRETS)
    try:
        identity = sentry.identify(delivery)
    except Refusal as refusal:
        assert_dead_lettered(delivery, refusal)
        return None
    assert re.fullmatch(r"[a-z0-9_.-]{1,64}:[0-9a-f]{64}", identity.delivery_key)
    meaning = sentry.normalize(delivery)
    if identity.ignored:
        assert not meaning.outcomes
    elif not meaning.outcomes:
        assert {warning.field for warning in meaning.warnings} & NO_CHANGE_WITHOUT
    for outcome in meaning.outcomes:
        assert_storable(outcome)
    return meaning


def assert_dead_lettered(delivery: Delivery, refusal: Refusal) -> None:
    """The worker dead-letters what the web process refuses; only the depth is checked by the web process alone."""
    assert 400 <= refusal.status < 500
    if not isinstance(refusal, BodyTooDeep):
        with pytest.raises(PermanentError):
            sentry.normalize(delivery)


def assert_storable(outcome: NormalizedAlert | StatusChange) -> None:
    assert outcome.source == "sentry"
    assert outcome.received_at == RECEIVED_AT
    assert FINGERPRINT.fullmatch(outcome.fingerprint)
    texts = " ".join(str(getattr(outcome, name)) for name in outcome.__slots__)
    assert "\x00" not in texts
    texts.encode()
    if isinstance(outcome, StatusChange):
        assert outcome.snoozed_until is None or outcome.snoozed_until.tzinfo is UTC
        assert outcome.assignee is None or re.fullmatch(r"sentry:(user|team):[\w-]{1,64}", outcome.assignee)
        return
    assert PROJECT.fullmatch(outcome.project)
    assert 0 < len(outcome.source_event_id) <= 200
    assert 0 < len(outcome.environment) <= cleaning.ENVIRONMENT_LIMIT
    assert 0 < len(outcome.title) <= cleaning.TITLE_LIMIT
    assert outcome.title.isprintable() or "\xa0" not in outcome.title
    assert len(outcome.description) <= cleaning.DESCRIPTION_LIMIT
    assert outcome.occurred_at.tzinfo is UTC
    assert outcome.link is None or re.match(r"https?://[^\s<>\"]+$", outcome.link)
    assert all(0 < len(key) <= 200 and len(value) <= 200 for key, value in outcome.tags)
    assert outcome.source_count is None or 0 <= outcome.source_count < 2**63


def all_paths(part: object, parent: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value in a body."""
    steps: Any = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for step, inner in steps:
        yield (*parent, step)
        yield from all_paths(inner, (*parent, step))


@contextmanager
def changed(body: dict[str, Any], path: tuple[str | int, ...], value: object) -> Iterator[None]:
    """Replace the value at ``path`` during the block, or remove it (:data:`ABSENT`)."""
    part: Any = body
    for step in path[:-1]:
        part = part[step]
    before = deepcopy(part) if value is ABSENT else part[path[-1]]
    if value is ABSENT:
        del part[path[-1]]
        yield
        part.clear()
        part.update(before) if isinstance(part, dict) else part.extend(before)
    else:
        part[path[-1]] = value
        yield
        part[path[-1]] = before


def is_read(resource: str, steps: tuple[str | int, ...]) -> bool:
    """Whether the value at the path may change the result."""
    fields = FIELDS.get(resource)
    tables = [path.text for paths in fields.read_in_order().values() for path in paths] if fields else []
    here = ".".join(str(step) for step in steps)
    return any(
        read == here or read.startswith((f"{here}.", f"{here}[")) or here.startswith(f"{read}.")
        for read in (re.sub(r"\[.*", "", path) for path in (*tables, *ALSO_READ))
    ) or any(path.startswith(here) for path in (*tables, *ALSO_READ))


def meaning_without_digest(meaning: Normalization | None) -> list[object]:
    """The outcomes without the digest of all bytes in the ids of a metric alert and of an alert that names nothing."""
    outcomes = meaning.outcomes if meaning else ()
    return [
        replace(each, source_event_id=re.sub(r"[0-9a-f]{64}", "", each.source_event_id))
        if isinstance(each, NormalizedAlert)
        else each
        for each in outcomes
    ]


@pytest.mark.parametrize("name", samples.NAMES)
def test_every_sample_has_one_outcome_or_is_ignored(name: str) -> None:
    meaning = check(deliver(name))
    assert meaning is not None
    assert len(meaning.outcomes) <= 1


@pytest.mark.parametrize("name", samples.NAMES)
def test_the_samples_on_disk_equal_the_built_samples(name: str) -> None:
    """``python -m tests.support.sentry_bodies`` writes them again."""
    raw = (FOLDER / f"{name}.json").read_bytes()
    assert raw == sample(name).body
    assert check(carrying(raw, like=name)) == sentry.normalize(deliver(name))


def test_every_sample_on_disk_is_still_built() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(samples.NAMES)


@pytest.mark.parametrize("name", samples.NAMES)
def test_a_missing_or_damaged_field_loses_no_delivery_and_unread_ones_do_not_matter(name: str) -> None:
    body = body_of(name)
    whole = meaning_without_digest(check(carrying(body, like=name)))
    for path in tuple(all_paths(body)):
        matters = is_read(sample(name).resource, path)
        for value in (ABSENT, *VALUES):
            with changed(body, path, value):
                meaning = check(carrying(body, like=name))
            assert meaning is not None or path in IDENTITY, "an alert is never refused for want of a field"
            assert matters or meaning_without_digest(meaning) == whole, path
    assert meaning_without_digest(check(carrying(body, like=name))) == whole


@pytest.mark.parametrize("name", samples.NAMES)
def test_keys_that_sentry_adds_do_not_matter(name: str) -> None:
    body = body_of(name)
    whole = meaning_without_digest(check(carrying(body, like=name)))
    for path in ((), *all_paths(body)):
        part: Any = body
        for step in path:
            part = part[step]
        if isinstance(part, dict):
            part["newest_key"] = {"of": ["Sentry"]}
            assert meaning_without_digest(check(carrying(body, like=name))) == whole
            del part["newest_key"]


TEXTS = st.text(st.characters(), max_size=12) | st.sampled_from(
    ["2026-03-01T12:00:00Z", "error", "{{ default }}", "https://sentry.io/organizations/a/issues/1/", "1e400", "\x00"],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(10**30), 10**30) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=5,
)
FEW = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=2_500)
HEADERS = st.sampled_from([None, "newest", *samples.INTEGRATION])


@st.composite
def mutated(draw: st.DrawFn) -> Delivery:
    """A sample with up to five values changed or removed; a quarter of an integration's with another header."""
    name = draw(st.sampled_from(samples.NAMES))
    body = body_of(name)
    for _ in range(draw(st.integers(1, 5))):
        *parent, last = draw(st.sampled_from(tuple(all_paths(body))))
        part: Any = body
        for step in parent:
            part = part[step]
        if draw(st.booleans()):
            part[last] = draw(JSON)
        elif len(body) > 1:
            del part[last]
    raw = json.dumps(body, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if name in INTEGRATIONS and draw(st.integers(0, 3)) == 0:
        return carrying(raw, like=name, sentry_hook_resource=draw(HEADERS))
    return carrying(raw, like=name)


@MANY
@given(mutated())
def test_no_mutation_raises(delivery: Delivery) -> None:
    check(delivery)


@MANY
@given(
    st.sampled_from(samples.NAMES),
    st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=3)), min_size=1, max_size=4),
)
def test_no_damage_to_the_bytes_raises(name: str, cuts: list[tuple[int, bytes]]) -> None:
    raw = sample(name).body
    for position, instead in cuts:
        at = position % (len(raw) + 1)
        raw = raw[:at] + instead + raw[at + len(instead) // 2 :]
    check(carrying(raw, like=name))


@FEW
@given(
    st.dictionaries(st.sampled_from(["action", "data", "event", "message", "id", "x"]), JSON),
    st.sampled_from(samples.NAMES),
)
def test_no_arbitrary_object_raises(body: dict[str, Any], name: str) -> None:
    check(carrying(json.dumps(body).encode(), like=name))


# What two deliveries may share.

EVENTS = ("event_alert.triggered", "error.created", "legacy.modern", "servicehook.triggered")
ISSUES = ("legacy.ancient", *(name for name in samples.NAMES if name.startswith(("issue.", "activity_alert."))))
METRICS = tuple(name for name in samples.NAMES if name.startswith("metric_alert."))
Named = tuple[str, ...]


@st.composite
def naming(draw: st.DrawFn) -> tuple[str, Named, Delivery]:
    """A delivery, and the project, issue, event or incident that it names. An issue belongs to one project."""
    name = draw(st.sampled_from((*EVENTS, *ISSUES, *METRICS)))
    project, number = draw(st.sampled_from([("checkout", 1), ("header", 2)]))
    issue = draw(st.sampled_from([None, f"{number}01", f"{number}02"]))
    event = draw(st.sampled_from(["a" * 32, "b" * 32, "2026-03-01T12:00:00.250000Z", "2026-03-01T12:00:01Z"]))
    has_id = "-" not in event
    occurred_at = OCCURRED_AT if has_id else datetime.fromisoformat(event)
    params = {"project": project, "project_id": number, "issue": issue, "occurred_at": occurred_at}
    body = body_of(name, **params, event_id=event[:32], incident=event[:2], rule=draw(st.sampled_from("rs")))
    if name in METRICS:
        return name, (project, event[:2]), carrying(body, like=name)
    if name in ISSUES:
        return name, (project, issue or ""), carrying(body, like=name)
    if not has_id:
        part = body.get("data", body)
        part = part.get("event") or part["error"]
        part |= dict.fromkeys(("event_id", "eventID", "id", "url", "web_url"))
    return name, (project, issue or "", event), carrying(body, like=name)


@MANY
@given(naming(), naming())
def test_deliveries_of_two_events_issues_or_projects_share_neither_key_nor_alert(
    one: tuple[str, Named, Delivery], other: tuple[str, Named, Delivery]
) -> None:
    (one_name, one_named, first), (other_name, other_named, second) = one, other
    if one_named == other_named:
        return
    assert sentry.identify(first).delivery_key != sentry.identify(second).delivery_key, (one_name, other_name)
    ids = [{each.source_event_id for each in sentry.normalize(delivery).outcomes if isinstance(each, NormalizedAlert)}
           for delivery in (first, second)]  # fmt: skip
    assert not ids[0] & ids[1], (one_name, other_name)
