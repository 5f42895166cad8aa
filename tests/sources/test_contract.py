"""What every source promises: a new one is done when it passes these tests, which name none."""

import hmac
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signalcraft.domain.alerts import Normalization, NormalizedAlert, StatusChange, Vocabulary
from signalcraft.domain.deliveries import CANARY_PROJECT, Delivery, Secret
from signalcraft.domain.errors import BadSignature, InvalidFields, Refusal
from signalcraft.groups import validation
from signalcraft.groups.bursts import PendingEvent
from signalcraft.sources import SOURCES, Source, cleaning
from signalcraft.sources.protocol import MAX_ALERTS

RECEIVED_AT = datetime(2026, 3, 1, 12, 0, 3, tzinfo=UTC)
SECRET = "a secret of this source, long enough"
PLAIN = Vocabulary()
EVERY = [pytest.param(source, id=name) for name, source in SOURCES.items()]
SAMPLES = [
    pytest.param(source, name, id=f"{source_name}-{name}")
    for source_name, source in SOURCES.items()
    for name in source.SAMPLES
]
HOSTILE = [
    "<script>alert(1)</script>",
    "a\x00b",
    "\ud800",
    "\x1b[31m",
    "a\r\nX-Header: b",
    "Ä" * 10_000,
    "\u202e",
    "${jndi:ldap://x}",
    "javascript:alert(1)",
    "",
    " ",
]
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
few = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def live(source: Source, value: str = SECRET) -> list[Secret]:
    return [Secret(name=kind.name, kind=kind.name, value=value.encode()) for kind in source.KINDS]


def delivery_of(source: Source, name: str, **params: Any) -> Delivery:  # noqa: ANN401 - of the source
    return source.build_sample(name, secret=SECRET, **params).as_delivery(RECEIVED_AT)


def just_sent(source: Source, name: str) -> Delivery:
    """Some senders sign the time."""
    return replace(delivery_of(source, name), received_at=datetime.now(UTC))


def with_body(source: Source, name: str, body: object) -> Delivery:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return replace(delivery_of(source, name), body=raw)


def outcome(source: Source, delivery: Delivery) -> Normalization | Refusal:
    """Identify and normalize ``delivery`` as the web process and the worker would; check what comes of it."""
    try:
        identity = source.identify(delivery, PLAIN)
    except Refusal as refused:
        return refused
    assert identity.resource in source.RESOURCES or identity.ignored
    assert re.fullmatch(r"[!-~]{1,200}", identity.delivery_key)
    assert re.fullmatch(r"[\w.-]{1,64}", identity.action)
    assert all(value.isascii() and value.isprintable() for value in identity.response_headers.values())
    normalization = source.normalize(delivery, PLAIN)
    for each in normalization.outcomes:
        check(each, source)
    for failure in normalization.failures:
        assert failure.error.code
        assert failure.part.place
        assert failure.part.place in str(failure.error), "the reason names the place"
    return normalization


def check(each: NormalizedAlert | StatusChange, source: Source) -> None:
    assert each.source == source.NAME
    assert each.received_at == RECEIVED_AT
    assert each.fingerprint.partition(":")[0] in source.FINGERPRINTS
    if isinstance(each, StatusChange):
        assert len(each.event_id) <= validation.MAX_LENGTHS["source_event_id"]
        return
    validation.validate(PendingEvent.of(each, Delivery(headers={}, body=b"", received_at=RECEIVED_AT), workspace_id=1))
    assert 0 < len(each.title) <= cleaning.TITLE_LIMIT
    assert not CONTROL.search(each.title)
    assert each.occurred_at.tzinfo is UTC
    assert all(link is None or re.match(r"https?://[^\s<>\"]+$", link) for link in (each.link, each.runbook_url))
    assert re.fullmatch(r"[a-z0-9._-]{1,100}", each.project)
    for text in (each.title, each.description, each.environment, *(part for tag in each.tags for part in tag)):
        assert "\x00" not in text
        text.encode()


def places(part: object, parent: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    steps: Any = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    return [place for step, inner in steps for place in ((*parent, step), *places(inner, (*parent, step)))]


def put(body: Any, place: tuple[str | int, ...], value: object) -> Any:  # noqa: ANN401 - JSON
    changed = json.loads(json.dumps(body))
    part = changed
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    return changed


@pytest.mark.parametrize("source", EVERY)
def test_its_names_fit_urls_tables_and_variables(source: Source) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9]{1,30}", source.NAME)
    assert all(header == header.lower() for header in source.HEADERS)
    assert source.KINDS[0].variable, "the usual secret can come from the environment"
    names = [kind.name for kind in source.KINDS]
    assert len(set(names)) == len(names)
    for declared in source.SETTINGS:
        declared.parse(declared.default)
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", declared.variable)
    assert {refusal.code for refusal in source.REFUSALS} == {refusal.code for refusal in set(source.REFUSALS)}


def test_samples_and_variables_are_of_one_source_each() -> None:
    samples = [name for source in SOURCES.values() for name in source.SAMPLES]
    variables = [kind.variable for source in SOURCES.values() for kind in source.KINDS if kind.variable]
    variables += [declared.variable for source in SOURCES.values() for declared in source.SETTINGS]
    assert len(set(samples)) == len(samples)
    assert len(set(variables)) == len(variables)


@pytest.mark.parametrize(("source", "name"), SAMPLES)
def test_a_sample_verifies_and_is_read_the_same_twice(source: Source, name: str) -> None:
    delivery = delivery_of(source, name)
    assert source.verify(just_sent(source, name), live(source)).value == SECRET.encode()
    first, second = source.normalize(delivery, PLAIN), source.normalize(delivery, PLAIN)
    assert first == second
    assert source.identify(delivery, PLAIN) == source.identify(delivery, PLAIN)
    assert isinstance(outcome(source, delivery), Normalization)
    assert not first.failures


@pytest.mark.parametrize("source", EVERY)
def test_its_samples_show_its_traits(source: Source) -> None:
    made = [source.normalize(delivery_of(source, name), PLAIN).outcomes for name in source.SAMPLES]
    outcomes = [each for found in made for each in found]
    assert any(isinstance(each, NormalizedAlert) for each in outcomes)
    assert any(isinstance(each, StatusChange) for each in outcomes) == source.TRAITS.sends_resolved
    assert any(len({getattr(each, "source_event_id", each) for each in found}) > 1 for found in made) == (
        source.TRAITS.many_per_delivery
    )
    assert any(isinstance(each, NormalizedAlert) and each.is_episode for each in outcomes) == source.TRAITS.repeats


@pytest.mark.parametrize(("source", "name"), SAMPLES)
def test_a_wrong_secret_a_missing_one_and_that_of_another_source_are_refused(source: Source, name: str) -> None:
    delivery = delivery_of(source, name)
    others = [Secret(name="other", kind=f"{kind.name} of another", value=SECRET.encode()) for kind in source.KINDS]
    for secrets in ([], live(source, "another secret"), live(source, ""), others):
        with pytest.raises(BadSignature):
            source.verify(delivery, secrets)
    with pytest.raises(BadSignature):
        source.verify(replace(delivery, headers={}, url_token=""), live(source))
    for text in ("", "Bearer", "Basic ====", "Bearer \ud800", "Ä" * 1000, "x\x00y"):
        with pytest.raises(BadSignature):
            source.verify(replace(delivery, headers=dict.fromkeys(source.HEADERS, text), url_token=text), live(source))


@pytest.mark.parametrize(("source", "name"), SAMPLES)
def test_every_live_secret_is_compared_even_after_a_match(
    source: Source, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusing takes as long as accepting, whichever secret it is, if there are as many."""
    compared: list[bytes] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: (compared.append(a), compare(a, b))[1])
    wrong = [Secret(name=str(number), kind=kind.name, value=b"wrong") for kind in source.KINDS for number in range(3)]
    found = source.verify(just_sent(source, name), [*live(source), *wrong])
    matched = len(compared)
    compared.clear()
    with pytest.raises(BadSignature):
        source.verify(just_sent(source, name), [*live(source, "another"), *wrong])
    assert len(compared) == matched == 4
    assert found.value == SECRET.encode()


@pytest.mark.parametrize("source", EVERY)
@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"null", b"[]", b'"a"', b"{", b"[" * 100_000, b"NaN", b'{"a": 1e999}x'],
    ids=lambda body: repr(body[:12]),
)
def test_junk_is_refused_with_a_code(source: Source, body: bytes) -> None:
    refused = outcome(source, with_body(source, source.SAMPLES[0], body))
    assert isinstance(refused, Refusal)
    assert refused.code
    assert refused.status in (400, 422)


@pytest.mark.parametrize("source", EVERY)
def test_what_nests_deeper_than_64_levels_or_has_a_key_twice_is_refused(source: Source) -> None:
    name = source.SAMPLES[0]
    body = json.loads(delivery_of(source, name).body)
    deep: object = "x"
    for _ in range(70):
        deep = [deep]
    refused = outcome(source, with_body(source, name, body | {"newest": deep}))
    assert isinstance(refused, Refusal)
    assert refused.code == "body_too_deep"
    twice = json.dumps(body)[:-1].encode() + b', "newest": 1, "newest": 2}'
    refused = outcome(source, with_body(source, name, twice))
    assert isinstance(refused, Refusal)
    assert refused.code == "body_duplicate_key"


@pytest.mark.parametrize("source", [each for each in EVERY if each.values[0].TRAITS.many_per_delivery])
def test_more_than_10_000_alerts_in_one_delivery_are_refused_and_10_000_are_not(source: Source) -> None:
    name = next(name for name in source.SAMPLES if several(json.loads(delivery_of(source, name).body)))
    body = json.loads(delivery_of(source, name).body)
    alerts = several(body)
    alerts[:] = [{}] * MAX_ALERTS
    source.identify(with_body(source, name, body), PLAIN)
    alerts.append({})
    with pytest.raises(InvalidFields) as refused:
        source.identify(with_body(source, name, body), PLAIN)
    assert (refused.value.status, [*refused.value.errors]) == (422, ["alerts"])


def several(body: Any) -> list[Any]:  # noqa: ANN401 - JSON
    """Return the list of alerts in a body, empty where it holds none or one."""
    alerts = body if isinstance(body, list) else body.get("alerts", [])
    return alerts if len(alerts) > 1 else []


@pytest.mark.parametrize(("source", "name"), SAMPLES)
def test_a_replay_of_what_is_stored_gives_what_was_received_live(source: Source, name: str) -> None:
    """But for an id made of a header, which is not stored."""
    delivery = delivery_of(source, name)
    for each in source.normalize(delivery, PLAIN).outcomes:
        if isinstance(each, NormalizedAlert):
            stored = delivery.body if each.part is None else each.part.body
            replayed = source.normalize(source.recall(stored, RECEIVED_AT), PLAIN).outcomes
            assert as_stored(each) in [as_stored(one) for one in replayed]
            assert each.part is None or len(replayed) == 1


def as_stored(each: NormalizedAlert | StatusChange) -> NormalizedAlert | StatusChange:
    if not isinstance(each, NormalizedAlert):
        return each
    return replace(each, part=None, source_event_id=re.sub("[0-9a-f]{64}", "", each.source_event_id))


@pytest.mark.parametrize("source", EVERY)
def test_a_redelivery_has_the_same_key_and_another_body_another(source: Source) -> None:
    delivery = delivery_of(source, source.SAMPLES[0])
    key = source.identify(delivery, PLAIN).delivery_key
    again = replace(delivery, received_at=RECEIVED_AT + timedelta(seconds=5))
    assert source.identify(again, PLAIN).delivery_key == key
    other = delivery_of(source, source.SAMPLES[0], project="another")
    assert source.identify(other, PLAIN).delivery_key != key


@pytest.mark.parametrize(("source", "name"), SAMPLES)
def test_hostile_texts_in_any_place_are_cleaned_or_refused(source: Source, name: str) -> None:
    body = json.loads(delivery_of(source, name).body)
    every = places(body)
    for place in every[:: 1 + len(every) // 20]:
        for text in HOSTILE:
            outcome(source, with_body(source, name, put(body, place, text)))


@pytest.mark.parametrize("source", EVERY)
@few
@given(data=st.data())
def test_no_damage_to_a_body_raises(source: Source, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(source.SAMPLES))
    body = json.loads(delivery_of(source, name).body)
    value = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(HOSTILE[:3]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=4,
    )
    for place in data.draw(st.lists(st.sampled_from(places(body)), max_size=1)):
        body = put(body, place, data.draw(value))
    outcome(source, with_body(source, name, body))


@pytest.mark.parametrize("source", EVERY)
def test_a_canary_is_recognised_by_the_web_process_and_by_the_worker(source: Source) -> None:
    delivery = source.build_canary(SECRET).as_delivery(RECEIVED_AT)
    assert source.identify(delivery, PLAIN).is_canary
    assert CANARY_PROJECT.encode() in delivery.body, "the worker looks for it"
    (alert,) = source.normalize(delivery, PLAIN).outcomes
    assert isinstance(alert, NormalizedAlert)
    assert alert.project == CANARY_PROJECT
    assert not any(source.identify(delivery_of(source, name), PLAIN).is_canary for name in source.SAMPLES)


@pytest.mark.parametrize("source", EVERY)
def test_title_project_and_environment_of_a_sample_can_be_given(source: Source) -> None:
    given = {"title": "Made by hand", "project": "warehouse", "environment": "staging"}
    found = [
        each
        for name in source.SAMPLES
        for each in source.normalize(delivery_of(source, name, **given), PLAIN).outcomes
        if isinstance(each, NormalizedAlert)
    ]
    assert {each.project for each in found} == {"warehouse"}
    assert "staging" in {each.environment for each in found}
    assert any("Made by hand" in each.title for each in found)
    with pytest.raises(ValueError, match="there are"):
        source.build_sample("nothing.of.this", secret=SECRET)


@pytest.mark.parametrize("source", EVERY)
def test_the_demo_and_the_documents_have_it(source: Source) -> None:
    scenes = source.scenes()
    assert sum(scene.alerts for scene in scenes) > 0
    assert any(scene.forged for scene in scenes)
    assert {scene.sample for scene in scenes} <= set(source.SAMPLES)
    assert source.reference().startswith("# ")
    assert source.diagnose(b"{}", "", []).says.endswith(".")
