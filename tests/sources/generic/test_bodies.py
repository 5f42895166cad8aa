"""Bodies of other senders as alerts and ends: our own, CloudEvents, and those that a mapping reads."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from signalcraft.domain.alerts import NormalizedAlert, Severity, StatusChange, Vocabulary
from signalcraft.domain.deliveries import Delivery
from signalcraft.domain.errors import BodyNotJson, InvalidFields, InvalidSetting
from signalcraft.settings import Settings
from signalcraft.sources import generic
from signalcraft.sources.generic import mappings
from signalcraft.sources.generic.errors import UnknownMapping

NOON = datetime(2026, 3, 1, 12, 0, 3, tzinfo=UTC)
FIRING = {"title": "Backup failed", "status": "firing", "project": "backups"}
EVENT = {"specversion": "1.0", "id": "1", "source": "/ci", "type": "failed", "data": FIRING}
DATADOG = {"cycle": "c1", "monitor": "7", "title": "Disk", "transition": "Triggered", "priority": "P1"}


def delivery(body: object, at: datetime = NOON, **headers: str) -> Delivery:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return Delivery(headers=sent, body=json.dumps(body).encode(), received_at=at)


def mapped(name: str, body: object) -> Delivery:
    return delivery(body, x_signalcraft_mapping=name)


def outcomes(received: Delivery, **settings: Any) -> list[NormalizedAlert | StatusChange]:  # noqa: ANN401
    vocabulary = Vocabulary(settings=settings)
    generic.identify(received, vocabulary)
    found = generic.normalize(received, vocabulary)
    assert not found.failures
    return list(found.outcomes)


def alert(received: Delivery, **settings: Any) -> NormalizedAlert:  # noqa: ANN401
    (found,) = outcomes(received, **settings)
    assert isinstance(found, NormalizedAlert)
    return found


def end(received: Delivery) -> StatusChange:
    (found,) = outcomes(received)
    assert isinstance(found, StatusChange)
    return found


def test_an_alert_has_the_fields_that_were_sent() -> None:
    found = alert(
        delivery(
            FIRING
            | {
                "environment": "Production",
                "severity": "critical",
                "description": "two\nlines",
                "link": "https://ci.example.org/1",
                "tags": {"machine": "db1", "try": 3},
                "occurred_at": "2026-03-01T11:00:00Z",
            }
        )
    )
    assert (found.title, found.project, found.environment) == ("Backup failed", "backups", "prod")
    assert (found.severity, found.description) == (Severity.CRITICAL, "two\nlines")
    assert (found.link, found.tags) == ("https://ci.example.org/1", (("machine", "db1"), ("try", "3")))
    assert found.occurred_at == NOON - timedelta(hours=1, seconds=3)
    assert not found.is_episode


def test_what_is_absent_has_a_default_and_what_is_odd_a_warning() -> None:
    found = alert(delivery({"title": "x", "status": "firing"}))
    assert (found.project, found.environment, found.severity) == ("unknown", "prod", Severity.MED)
    assert found.occurred_at == NOON
    odd = FIRING | {
        "severity": "dire",
        "occurred_at": "soon",
        "project": "a b",
        "environment": "moon",
        "sevrity": "low",
    }
    warned = {warning.field for warning in generic.normalize(delivery(odd)).warnings}
    assert warned == {"severity", "occurred_at", "project", "environment", "body"}


@pytest.mark.parametrize(("word", "severity"), [("info", "info"), ("med", "med"), ("page", "high"), ("warn", "med")])
def test_our_own_words_for_severities_mean_themselves(word: str, severity: str) -> None:
    assert alert(delivery(FIRING | {"severity": word})).severity == severity


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"status": "firing"}, "title"),
        ({"title": " ", "status": "firing"}, "title"),
        ({"title": "x"}, "status"),
        ({"title": "x", "status": "ignored"}, "status"),
        (FIRING | {"id": ""}, "id"),
        (FIRING | {"fingerprint": []}, "fingerprint"),
        ({"status": "resolved"}, "title"),
        ([], "body"),
        ([{"title": "x"}], "status"),
        (EVENT | {"specversion": "0.3"}, "specversion"),
        (EVENT | {"id": None}, "id"),
        (EVENT | {"data": "text"}, "data"),
        (EVENT | {"data": {"status": "firing"}}, "data.title"),
    ],
)
def test_a_single_alert_that_cannot_be_read_is_refused_and_the_field_is_named(body: object, field: str) -> None:
    with pytest.raises(InvalidFields) as refused:
        generic.identify(delivery(body))
    assert list(refused.value.errors) == [field]


def test_of_a_list_what_cannot_be_read_is_left_out_with_its_place() -> None:
    received = delivery([FIRING, 7, {"title": "x"}, FIRING | {"title": "other"}, EVENT])
    generic.identify(received)
    found = generic.normalize(received)
    assert [getattr(each, "title", "") for each in found.outcomes] == ["Backup failed", "other", "Backup failed"]
    assert [str(failure.error) for failure in found.failures] == [
        "body[1]: must be an object",
        "body[2].status: must be firing or resolved",
    ]
    assert json.loads(found.failures[1].part.body) == {"title": "x"}


def test_an_id_makes_an_episode_that_the_same_id_in_the_same_project_ends() -> None:
    firing = alert(delivery(FIRING | {"id": "night-1"}))
    assert firing.is_episode
    later = end(delivery({"id": "night-1", "status": "resolved", "project": "backups"}, NOON + timedelta(hours=1)))
    assert later.event_id == firing.source_event_id
    assert alert(delivery(FIRING | {"id": "night-2"})).fingerprint == firing.fingerprint
    assert alert(delivery(FIRING | {"id": "night-2"})).source_event_id != firing.source_event_id
    assert alert(delivery(FIRING | {"id": "night-1", "project": "b"})).source_event_id != firing.source_event_id
    assert (
        alert(delivery(FIRING | {"id": "x" * 5000})).source_event_id
        != alert(delivery(FIRING | {"id": "x" * 5001})).source_event_id
    )


def test_without_an_id_the_fingerprint_or_the_title_is_resolved_in_its_project_and_environment_alone() -> None:
    for given in ({}, {"fingerprint": "backup"}, {"fingerprint": 7}):
        firing = alert(delivery(FIRING | given))
        over = FIRING | given | {"status": "resolved"}
        assert (end(delivery(over)).fingerprint, end(delivery(over)).event_id) == (firing.fingerprint, "")
        for other in ({"project": "b"}, {"environment": "test"}, {"title": "b", "fingerprint": "c"}):
            assert end(delivery(over | other)).fingerprint != firing.fingerprint


def test_a_body_without_an_id_is_the_same_alert_within_a_minute() -> None:
    times = (NOON, NOON + timedelta(seconds=50), NOON + timedelta(seconds=60))
    first, second, third = (alert(delivery(FIRING, at)).source_event_id for at in times)
    assert first == second != third


def test_events_in_structured_and_binary_mode_are_the_same_and_count_once_by_source_and_id() -> None:
    binary = {f"ce_{name}": str(value) for name, value in EVENT.items() if name != "data"}
    one, other = alert(delivery(EVENT | {"time": "2026-03-01T11:00:00Z"})), delivery(FIRING, **binary)
    other.headers["ce-time"] = "2026-03-01T11%3A00:00Z"  # type: ignore[index]
    two = alert(other)
    assert (one.source_event_id, one.fingerprint, one.occurred_at) == (
        two.source_event_id,
        two.fingerprint,
        two.occurred_at,
    )
    assert one.occurred_at == datetime(2026, 3, 1, 11, tzinfo=UTC)
    assert two.part is not None
    assert alert(generic.recall(two.part.body, NOON)).source_event_id == one.source_event_id
    assert alert(delivery(EVENT, NOON + timedelta(days=1))).source_event_id == one.source_event_id
    assert alert(delivery(EVENT | {"id": "2"})).source_event_id != one.source_event_id
    assert not one.is_episode
    assert alert(delivery(EVENT | {"data": FIRING | {"id": "night-1"}})).is_episode


def test_a_body_that_is_no_json_is_told_what_breaks_templates() -> None:
    raw = b'{"title": "the "big" backup", "status": "firing"}'
    with pytest.raises(BodyNotJson, match=r"a quote.* \$NAME_JSON of Healthchecks"):
        generic.identify(Delivery(headers={}, body=raw, received_at=NOON))


@pytest.mark.parametrize(("status", "is_firing"), [("down", True), ("up", False)])
def test_healthchecks_is_read_by_its_preset(status: str, *, is_firing: bool) -> None:
    body = {"code": "c-1", "name": 'the "big" one', "status": "down", "tags": "a b", "project": "cron"}
    firing = alert(mapped("healthchecks", body))
    assert (firing.title, firing.project, firing.tags) == ('the "big" one', "cron", (("tags", "a b"),))
    (found,) = outcomes(mapped("healthchecks", body | {"status": status}))
    assert isinstance(found, NormalizedAlert) is is_firing
    assert found.fingerprint == firing.fingerprint


def test_uptime_kuma_is_read_by_its_preset_and_its_test_is_ignored() -> None:
    beat = {"monitorID": 7, "status": 0, "time": "2026-03-01 11:51:35.527", "msg": "timeout"}
    body = {"heartbeat": beat, "monitor": {"id": 7, "name": "shop", "url": "https://shop.example.org"}, "msg": "Down"}
    firing = alert(mapped("uptimekuma", body))
    assert (firing.title, firing.description, firing.link) == ("shop", "Down", "https://shop.example.org")
    assert firing.occurred_at == datetime(2026, 3, 1, 11, 51, 35, 527_000, tzinfo=UTC)
    assert end(mapped("uptimekuma", body | {"heartbeat": beat | {"status": 1}})).fingerprint == firing.fingerprint
    assert outcomes(mapped("uptimekuma", body | {"heartbeat": beat | {"status": 3}})) == []
    assert outcomes(mapped("uptimekuma", {"heartbeat": None, "monitor": None, "msg": "Testing"})) == []


def test_datadog_is_read_by_its_preset() -> None:
    firing = alert(mapped("datadog", DATADOG))
    assert (firing.severity, firing.is_episode) == (Severity.CRITICAL, True)
    assert alert(mapped("datadog", DATADOG | {"transition": "Renotify"})).source_event_id == firing.source_event_id
    assert end(mapped("datadog", DATADOG | {"transition": "Recovered"})).event_id == firing.source_event_id
    assert outcomes(mapped("datadog", DATADOG | {"transition": "Null"})) == []


def test_a_mapping_of_ones_own_is_pointers_values_and_defaults() -> None:
    text = """
        [ci]
        title = "/build/a~1b~0c/1"
        status = { pointer = "/ok", values = { true = "resolved", false = "firing" } }
        severity = { default = "low" }
        tags = { branch = "/branch", job = { default = "nightly" } }
        [uptimekuma]
        title = "/name"
        status = { default = "firing" }"""
    body = {"build": {"a/b~c": ["no", "yes"]}, "ok": False, "branch": "main"}
    known = {mappings.VARIABLE: mappings.parse(text)}
    found = alert(mapped("ci", body), **known)
    assert (found.title, found.severity, dict(found.tags)) == (
        "yes",
        Severity.LOW,
        {"branch": "main", "job": "nightly"},
    )
    assert found.part is not None
    assert alert(generic.recall(found.part.body, NOON), **known).title == "yes"
    assert alert(mapped("uptimekuma", {"name": "ours"}), **known).title == "ours"
    assert alert(mapped("datadog", DATADOG), **known).title == "Disk"


def test_a_name_that_no_mapping_has_is_refused_and_the_known_ones_are_listed() -> None:
    with pytest.raises(UnknownMapping) as refused:
        generic.identify(mapped("helthchecks", {}))
    assert (refused.value.status, refused.value.code) == (422, "mapping_unknown")
    assert refused.value.errors == {"mapping": ["helthchecks is not one of datadog, healthchecks, uptimekuma"]}
    own = Vocabulary(settings={mappings.VARIABLE: mappings.parse('[ci]\nstatus = "/s"')})
    generic.identify(mapped("ci", {}), own)


def test_a_mapping_that_the_worker_does_not_know_is_a_dead_letter_that_says_so() -> None:
    (failure,) = generic.normalize(mapped("ci", {})).failures
    assert failure.error.code == "mapping_unknown"
    assert str(failure.error) == (
        "body.mapping: ci is not one of datadog, healthchecks, uptimekuma; GENERIC_MAPPINGS adds others"
    )
    (unnamed,) = generic.normalize(delivery({"mapping": "\0", "payload": {}})).failures
    assert str(unnamed.error) == "body.mapping: must be the name of a mapping"


def test_what_a_mapping_cannot_read_is_kept_with_its_reason() -> None:
    for received, reason in (
        (mapped("healthchecks", {"code": "c", "status": "down"}), "body.title: must be a text that is not empty"),
        (mapped("healthchecks", {"name": "x", "status": "?"}), "body.status: must be firing or resolved"),
    ):
        generic.identify(received)
        (failure,) = generic.normalize(received).failures
        assert str(failure.error) == reason
        assert json.loads(failure.part.body)["mapping"]
    with pytest.raises(InvalidFields):
        generic.identify(mapped("../x\0", {}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a", "the file a cannot be read: No such file or directory."),
        ("a = [", "it is not TOML"),
        ("a = 1", "a must be a table."),
        ('[a]\nstatus = "/s"\nsevrity = "/x"', "a.sevrity is no field"),
        ('[a]\ntitle = "/x"', "a.status is missing."),
        ('[a]\nstatus = "s"', "a.status is no JSON pointer"),
        ('[a]\nstatus = "/s~2"', "a.status is no JSON pointer"),
        ('[a]\nstatus = { path = "/s" }', "a.status must be a JSON pointer, or a table"),
        ('[a]\nstatus = { values = "x" }', "a.status.values must be a table."),
        ('["A b"]\nstatus = "/s"', "the name 'A b' has not"),
    ],
)
def test_mappings_that_are_none_stop_the_start_and_say_where(text: str, says: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        Settings.from_environ({"DATABASE_URL": "postgresql:///x", "REDIS_URL": "redis://x", mappings.VARIABLE: text})
    assert str(refused.value).startswith(f"{mappings.VARIABLE}: {says}")


def test_mappings_can_be_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mappings.toml"
    path.write_text('[ci]\ntitle = "/t"\nstatus = "/s"\n')
    environ = {"DATABASE_URL": "postgresql:///x", "REDIS_URL": "redis://x", mappings.VARIABLE: str(path)}
    settings = Settings.from_environ(environ).vocabulary.settings
    assert alert(mapped("ci", {"t": "x", "s": "firing"}), **settings).title == "x"
