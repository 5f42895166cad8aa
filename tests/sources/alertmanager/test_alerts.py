"""Alertmanager's body as alerts and ends, and what is refused. Bodies are of our own making."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from signalcraft.domain.alerts import Change, NormalizedAlert, Severity, StatusChange, Vocabulary
from signalcraft.domain.deliveries import Delivery, Secret
from signalcraft.domain.errors import BadSignature, InvalidFields, InvalidSetting
from signalcraft.settings import Settings
from signalcraft.sources import alertmanager
from signalcraft.sources.alertmanager import samples

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STARTED_AT = NOON - timedelta(minutes=5)
SECRETS = [Secret(name="one", kind="bearer", value=b"t\xc3\xb6ken"), Secret(name="two", kind="bearer", value=b"other")]


def delivery(*alerts: dict[str, Any], **top: Any) -> Delivery:  # noqa: ANN401 - JSON
    made = samples.sample(alerts, secret="token")
    return Delivery(headers={}, body=json.dumps(json.loads(made.body) | top).encode(), received_at=NOON)


def fired(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """An alert that fires; ``labels`` and ``annotations`` are added to the sample's, None removes one."""
    made = samples.alert("firing", started_at=STARTED_AT)
    for name in ("labels", "annotations"):
        changed = made[name] | fields.pop(name, {})
        made[name] = {key: value for key, value in changed.items() if value is not None}
    return made | fields


def normalized(alert: dict[str, Any], **settings: str) -> NormalizedAlert:
    declared = {setting.variable: setting for setting in alertmanager.SETTINGS}
    values = {name: declared[name].parse(text) for name, text in settings.items()}
    (found,) = alertmanager.normalize(delivery(alert), Vocabulary(settings=values)).outcomes
    assert isinstance(found, NormalizedAlert)
    return found


def test_an_alert_is_read_as_the_page_says() -> None:
    alert = normalized(fired())
    assert (alert.project, alert.environment, alert.severity) == ("checkout", "prod", Severity.CRITICAL)
    assert alert.title == samples.TITLE
    assert alert.description == "checkout-7d9c-x2x4v was restarted three times."
    assert alert.source_event_id == f"{fired()['fingerprint']}:2026-03-01T11:55:00.000000+00:00"
    assert alert.occurred_at == STARTED_AT
    assert alert.triggered_rule == "PodRestarts"
    assert alert.runbook_url == "https://runbooks.example.org/PodRestarts"
    assert alert.link == fired()["generatorURL"]
    assert ("pod", "checkout-7d9c-x2x4v") in alert.tags
    assert alert.is_episode
    assert alert.source_event_id.startswith(alert.supersedes)


def test_alerts_with_only_labels_of_machines_are_a_group_for_each() -> None:
    one, other = (normalized(fired() | {"labels": {"instance": name}}) for name in ("db-1:9100", "db-2:9100"))
    assert one.fingerprint != other.fingerprint


def test_pods_of_one_alert_are_one_group_and_two_alerts_are_two() -> None:
    one, other = (normalized(fired(labels={"pod": pod, "instance": pod})) for pod in ("a", "b"))
    assert one.fingerprint == other.fingerprint
    assert normalized(fired(labels={"alertname": "PodPending"})).fingerprint != one.fingerprint
    assert normalized(fired(labels={"__internal": "x"})).fingerprint == one.fingerprint


def test_the_labels_of_single_machines_are_a_setting() -> None:
    one, other = (normalized(fired(labels={"shard": shard}), ALERTMANAGER_DROP_LABELS="shard,pod") for shard in "ab")
    assert one.fingerprint == other.fingerprint
    assert normalized(fired(labels={"shard": "a"})).fingerprint != normalized(fired(labels={"shard": "b"})).fingerprint


def test_the_labels_that_are_read_are_a_setting() -> None:
    labels = "project=team|app,environment=stage,severity=prio"
    alert = normalized(fired(labels={"app": "Shop", "stage": "qa", "prio": "page"}), ALERTMANAGER_LABELS=labels)
    assert (alert.project, alert.environment, alert.severity) == ("shop", "test", Severity.HIGH)
    assert normalized(fired(), ALERTMANAGER_LABELS="severity=prio").project == "checkout", "others stay as they are"


@pytest.mark.parametrize("text", ["project", "project=", "team=x", "project=a,project=b", "=a"])
def test_a_setting_that_names_no_labels_is_refused(text: str) -> None:
    environ = {"DATABASE_URL": "postgresql:///x", "REDIS_URL": "redis://x", "ALERTMANAGER_LABELS": text}
    with pytest.raises(InvalidSetting, match=r"^ALERTMANAGER_LABELS must be pairs"):
        Settings.from_environ(environ)


def test_a_warning_that_is_true_of_many_alerts_is_one() -> None:
    found = alertmanager.normalize(delivery(*[fired(labels={"severity": "odd", "pod": str(n)}) for n in range(50)]))
    assert [(warning.field, warning.problem) for warning in found.warnings] == [
        ("alerts[*].labels", "names no severity that we know; it is med")
    ]


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("critical", Severity.CRITICAL),
        ("error", Severity.HIGH),
        ("page", Severity.HIGH),
        ("Warning", Severity.MED),
        ("info", Severity.LOW),
        ("none", Severity.INFO),
        ("strange", Severity.MED),
        (None, Severity.MED),
    ],
)
def test_the_severity_is_that_of_the_label(word: str | None, severity: Severity) -> None:
    assert normalized(fired(labels={"severity": word})).severity is severity


def test_the_project_is_the_first_label_of_several() -> None:
    assert normalized(fired(labels={"service": None})).project == "shop"
    assert normalized(fired(labels={"project": "Pay Ments"})).project == "pay-ments"
    assert normalized(fired(labels={"service": None, "namespace": None})).project == "unknown"


def test_a_resolved_alert_is_the_end_of_its_own_episode() -> None:
    (end,) = alertmanager.normalize(delivery(fired() | {"status": "resolved"})).outcomes
    assert isinstance(end, StatusChange)
    assert end.change is Change.RESOLVED
    assert (end.event_id, end.fingerprint) == (normalized(fired()).source_event_id, normalized(fired()).fingerprint)
    assert end.received_at == NOON
    assert normalized(fired(startsAt="2026-03-01T12:30:00Z")).source_event_id != end.event_id


def test_an_alert_that_cannot_be_read_is_left_out_with_its_place() -> None:
    bad: list[Any] = [None, {}, fired(labels=dict.fromkeys(fired()["labels"])), fired(status="?"), fired(startsAt="?")]
    found = alertmanager.normalize(delivery(fired(), *bad, fired() | {"status": "resolved"}))
    assert len(found.outcomes) == 2
    assert [str(failure.error) for failure in found.failures] == [
        "alerts[1]: must be an object",
        "alerts[2].labels: must be an object with a label at least",
        "alerts[3].labels: must be an object with a label at least",
        "alerts[4].status: must be firing or resolved",
        "alerts[5].startsAt: must be a time",
    ]
    again = alertmanager.normalize(alertmanager.recall(found.failures[3].part.body, NOON))
    assert ([*again.outcomes], str(again.failures[0].error)) == ([], "alerts[0].status: must be firing or resolved")


def test_alerts_that_alertmanager_left_out_are_warned_of() -> None:
    (warning,) = alertmanager.normalize(delivery(fired(), truncatedAlerts=3)).warnings
    assert (warning.field, "max_alerts" in warning.problem) == ("truncatedAlerts", True)
    assert not alertmanager.normalize(delivery(fired())).warnings


def test_the_date_that_stands_for_none_is_none() -> None:
    assert fired()["endsAt"] == "0001-01-01T00:00:00Z"
    assert normalized(fired()).occurred_at == STARTED_AT


@pytest.mark.parametrize("top", [{"version": "1"}, {"version": 4}, {"version": None}, {"alerts": {}}, {"alerts": None}])
def test_another_version_and_a_payload_of_ones_own_are_refused(top: dict[str, Any]) -> None:
    with pytest.raises(InvalidFields) as caught:
        alertmanager.identify(delivery(fired(), **top))
    assert set(caught.value.errors) == set(top)


def test_a_delivery_without_alerts_is_ignored() -> None:
    assert alertmanager.identify(delivery()).ignored == "no_alert"


def test_a_repeat_after_minutes_is_no_redelivery() -> None:
    first = delivery(fired())
    keys = {
        alertmanager.identify(replace(first, received_at=NOON + timedelta(minutes=minutes))).delivery_key
        for minutes in (0, 0.9, 5)
    }
    assert len(keys) == 2


def basic(user: str, password: bytes) -> str:
    return f"Basic {base64.b64encode(user.encode() + b':' + password).decode()}"


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Bearer other", "two"),
        ("bearer  other ", "two"),
        (b"Bearer t\xc3\xb6ken".decode("latin-1"), "one"),
        (basic("anyone", b"other"), "two"),
        (basic("", b"t\xc3\xb6ken"), "one"),
        ("other", None),
        ("Bearer", None),
        ("Bearer Other", None),
        (basic("other", b""), None),
        ("Basic b3RoZXI=", None),
        ("Basic !", None),
        ("Digest other", None),
        ("", None),
    ],
)
def test_a_token_is_a_bearer_token_or_the_password_of_basic_authentication(header: str, name: str | None) -> None:
    carried = Delivery(headers={"authorization": header}, body=b"{}", received_at=NOON)
    if name is None:
        with pytest.raises(BadSignature):
            alertmanager.verify(carried, SECRETS)
    else:
        assert alertmanager.verify(carried, SECRETS).name == name


@pytest.mark.parametrize("name", ["commonAnnotations", "receiver", "anything"])
def test_what_all_alerts_share_is_not_stored_with_each(name: str) -> None:
    """Else half a megabyte with each of 500 alerts would be 250 MB in the worker."""
    shared = {"x": "a" * 5_000} if name == "commonAnnotations" else "a" * 5_000
    sent = delivery(*[fired(startsAt="junk")] * 100, fired(), **{name: shared})
    found = alertmanager.normalize(sent)
    (alert,) = found.outcomes
    assert isinstance(alert, NormalizedAlert)
    assert alert.part
    bodies = [alert.part.body, *(failure.part.body for failure in found.failures)]
    assert len(bodies) == 101
    assert sum(map(len, bodies)) < 2 * len(sent.body)
    assert json.loads(alert.part.body)["externalURL"] == json.loads(sent.body)["externalURL"]
