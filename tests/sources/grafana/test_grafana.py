"""Grafana's body as alerts and ends, and its signatures. Bodies are of our own making, in the documented shape."""

import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from signalcraft.domain.alerts import NormalizedAlert, Severity, StatusChange, Vocabulary
from signalcraft.domain.deliveries import Delivery, Secret
from signalcraft.domain.errors import BadSignature, InvalidFields, InvalidSetting
from signalcraft.settings import Settings
from signalcraft.sources import alertmanager, grafana
from signalcraft.sources.diagnosis import Candidate, Verdict
from signalcraft.sources.grafana import samples, signature
from tests.support.web_client import add_workspace, code_of, send, web

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STARTED_AT = NOON - timedelta(minutes=5)
KEYS = [Secret(name="key", kind="hmac", value=b"key"), Secret(name="token", kind="bearer", value=b"token")]
BODY = b'{"version":"1","alerts":[]}'


def delivery(*alerts: dict[str, Any], **top: Any) -> Delivery:  # noqa: ANN401 - JSON
    made = samples.sample(alerts, secret="token")
    return Delivery(headers={}, body=json.dumps(json.loads(made.body) | top).encode(), received_at=NOON)


def fired(labels: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    made = samples.alert("firing", started_at=STARTED_AT)
    made["labels"] = {key: value for key, value in (made["labels"] | (labels or {})).items() if value is not None}
    return made | fields


def normalized(alert: dict[str, Any], **settings: str) -> NormalizedAlert:
    declared = {setting.variable: setting for setting in grafana.SETTINGS}
    values = {name: declared[name].parse(text) for name, text in settings.items()}
    (found,) = grafana.normalize(delivery(alert), Vocabulary(settings=values)).outcomes
    assert isinstance(found, NormalizedAlert)
    return found


def signed(key: bytes, *, timestamp: str = "", body: bytes = BODY) -> Delivery:
    """A delivery as Grafana signs it, made without our own code."""
    made = hmac.new(key, (f"{timestamp}:".encode() if timestamp else b"") + body, hashlib.sha256).hexdigest()
    headers = {signature.SIGNATURE_HEADER: made} | ({signature.TIMESTAMP_HEADER: timestamp} if timestamp else {})
    return Delivery(headers=headers, body=body, received_at=NOON)


def at(seconds: float) -> str:
    return str(int(NOON.timestamp() + seconds))


def test_an_alert_is_read_as_the_page_says() -> None:
    alert = normalized(fired())
    assert (alert.project, alert.environment, alert.severity) == ("orders", "prod", Severity.MED)
    assert alert.title == samples.TITLE
    assert alert.source_event_id == f"{fired()['fingerprint']}:2026-03-01T11:55:00.000000+00:00"
    assert alert.occurred_at == STARTED_AT
    assert alert.link == "https://grafana.example.org/alerting/grafana/queue-grows/view?orgId=1"
    assert alert.runbook_url == "https://runbooks.example.org/QueueGrows"
    assert alert.is_episode


def test_values_and_the_organization_are_tags_and_links_are_in_the_description() -> None:
    alert = normalized(fired(imageURL="javascript:alert(1)", values={"A": 1240, "B": 0.5}))
    assert {("orgId", "1"), ("values.A", "1240"), ("values.B", "0.5")} <= set(alert.tags)
    assert alert.description.splitlines() == [
        "More orders come in than orders-1 can take.",
        "Dashboard: https://grafana.example.org/d/orders?orgId=1",
        "Panel: https://grafana.example.org/d/orders?orgId=1&viewPanel=4",
        "Silence: https://grafana.example.org/alerting/silence/new?matcher=instance%3Dorders-1&orgId=1",
    ]


def test_links_stay_whole_however_long_the_description_is() -> None:
    alert = normalized(fired(annotations={"description": "x" * 20_000}))
    assert len(alert.description) <= 8_000
    assert alert.description.endswith("matcher=instance%3Dorders-1&orgId=1")
    assert normalized(fired(annotations={}, values=None)).description.startswith("Dashboard: ")


@pytest.mark.parametrize(("name", "state"), [("DatasourceNoData", "no data"), ("DatasourceError", "error")])
def test_a_rule_that_could_not_be_evaluated_is_low_and_tagged(name: str, state: str) -> None:
    alert = normalized(fired({"alertname": name, "severity": "critical"}))
    assert alert.severity is Severity.LOW
    assert ("datasource", state) in alert.tags
    assert not [tag for tag in normalized(fired()).tags if tag[0] == "datasource"]


def test_internal_labels_are_tags_and_do_not_split_groups() -> None:
    one, other = (normalized(fired({"__alert_rule_uid__": uid})) for uid in ("a", "b"))
    assert one.fingerprint == other.fingerprint
    assert ("__alert_rule_uid__", "a") in one.tags


def test_the_folder_is_the_project_of_an_alert_that_names_no_other_and_labels_are_settings() -> None:
    assert normalized(fired({"service": None, "grafana_folder": "Team Blue"})).project == "team-blue"
    assert normalized(fired({"service": None}), GRAFANA_LABELS="severity=prio").project == "orders"
    assert normalized(fired({"team": "a"}), GRAFANA_LABELS="project=team").project == "a"
    one, other = (normalized(fired({"region": region}), GRAFANA_DROP_LABELS="region") for region in ("eu-1", "us-1"))
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("ends_at", ["0001-01-01T00:00:00Z", "", None, "2026-03-01T11:58:00Z"])
def test_an_alert_is_over_when_its_status_says_so_whatever_its_end_is(ends_at: str | None) -> None:
    firing = normalized(fired(endsAt=ends_at))
    (end,) = grafana.normalize(delivery(fired(endsAt=ends_at, status="resolved"))).outcomes
    assert isinstance(end, StatusChange)
    assert (end.event_id, end.fingerprint) == (firing.source_event_id, firing.fingerprint)


def test_alerts_that_max_alerts_left_out_are_warned_of() -> None:
    (warning,) = grafana.normalize(delivery(fired(), truncatedAlerts=3)).warnings
    assert warning.field == "truncatedAlerts"


def test_a_custom_payload_and_the_body_of_alertmanager_are_refused() -> None:
    for body in ({"text": "custom"}, {"version": "4", "alerts": []}):
        with pytest.raises(InvalidFields) as refused:
            grafana.identify(Delivery(headers={}, body=json.dumps(body).encode(), received_at=NOON))
        assert refused.value.errors["version"][0].startswith('must be "1"')
    with pytest.raises(InvalidFields):
        alertmanager.identify(delivery(fired()))


@pytest.mark.parametrize("timestamp", ["", at(0), at(-299), at(299)])
def test_a_signature_of_the_body_or_of_a_time_and_the_body_verifies(timestamp: str) -> None:
    assert grafana.verify(signed(b"key", timestamp=timestamp), KEYS).name == "key"


@pytest.mark.parametrize(
    "received",
    [
        signed(b"other"),
        signed(b"token"),
        signed(b"key", timestamp=at(-301)),
        signed(b"key", timestamp=at(301)),
        signed(b"key", timestamp="yesterday"),
        signed(b"key", timestamp=NOON.isoformat()),
        replace(signed(b"key"), body=BODY + b" "),
        replace(signed(b"key"), headers={**signed(b"key").headers, signature.TIMESTAMP_HEADER: at(0)}),
        replace(signed(b"key", timestamp=at(0)), headers={signature.SIGNATURE_HEADER: "ä"}),
        replace(signed(b"key"), headers={signature.SIGNATURE_HEADER: "", "authorization": "Bearer token"}),
        replace(signed(b"key"), headers={"authorization": "Bearer key"}),
    ],
)
def test_another_key_an_old_time_or_changed_bytes_are_refused(received: Delivery) -> None:
    with pytest.raises(BadSignature):
        grafana.verify(received, KEYS)


def test_doctor_finds_the_key_of_a_signature() -> None:
    made = f"X-Grafana-Alerting-Signature: {signature.sign(BODY, b'key')}"
    (key, _) = KEYS
    assert grafana.diagnose(BODY, made, [Candidate(secret=key)]).verdict is Verdict.GOOD
    assert grafana.diagnose(BODY, made, [Candidate(secret=key, retired=True)]).verdict is Verdict.RETIRED
    other = Candidate(secret=key, other_workspace="acme")
    assert grafana.diagnose(BODY, made, [other]).verdict is Verdict.OTHER_WORKSPACE
    assert grafana.diagnose(BODY, made, []).verdict is Verdict.UNEXPLAINED
    token = Candidate(secret=replace(key, name="GRAFANA_TOKEN-1", kind="bearer"))
    assert grafana.diagnose(BODY, made, [token, Candidate(secret=key)]).verdict is Verdict.GOOD
    as_token = grafana.diagnose(BODY, made, [token])
    assert (as_token.verdict, "GRAFANA_TOKEN-1" in as_token.says) == (Verdict.OTHER_FAMILY, True)


@pytest.fixture
def client(environ: dict[str, str]) -> FlaskClient:
    add_workspace()
    return web(environ, GRAFANA_HMAC_SECRET="key", GRAFANA_HMAC_HEADER="X-Ours", GRAFANA_HMAC_TIMESTAMP_HEADER="X-When")


@pytest.mark.usefixtures("clean_redis")
def test_the_names_of_both_headers_are_settings(client: FlaskClient) -> None:
    made = samples.build("grafana.signed", secret="key")
    names = {signature.SIGNATURE_HEADER: "X-Ours", signature.TIMESTAMP_HEADER: "X-When"}
    headers = {names.get(name.lower(), name): value for name, value in made.headers.items()}
    assert send(client, replace(made, headers=headers), "/webhooks/grafana").status_code == 202
    refused = send(client, made, "/webhooks/grafana")
    assert (refused.status_code, code_of(refused)) == (401, "signature_invalid")


def test_a_name_that_is_no_header_stops_the_start() -> None:
    environ = {"DATABASE_URL": "postgresql:///x", "REDIS_URL": "redis://x", "GRAFANA_HMAC_HEADER": "a b"}
    with pytest.raises(InvalidSetting, match=r"^GRAFANA_HMAC_HEADER must be the name of a header"):
        Settings.from_environ(environ)
