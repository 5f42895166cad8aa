"""The samples equal Sentry's own deliveries, and the mock sends them as Sentry does."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from signalcraft.dev import mock_sentry
from signalcraft.dev.mock_sentry import MockSentry
from signalcraft.sources import sentry
from signalcraft.sources.sentry import samples
from signalcraft.sources.sentry.signature import Family
from tests.support.sentry_bodies import RECEIVED_AT, SECRET, SECRETS, alert, body_of, deliver, sample

INTEGRATIONS = [name for name in samples.NAMES if name.partition(".")[0] in samples.INTEGRATION]
EVENTS = ["event_alert.triggered", "error.created", "legacy.modern", "servicehook.triggered"]


@pytest.mark.parametrize("name", samples.NAMES)
def test_every_sample_is_signed_so_that_it_verifies(name: str) -> None:
    sentry.verify(deliver(name), SECRETS)


@pytest.mark.parametrize("name", samples.NAMES)
def test_the_json_is_encoded_like_sentrys(name: str) -> None:
    raw = sample(name, title="Caf\u00e9Error: \U0001f440").body
    assert raw.isascii()
    assert raw == json.dumps(json.loads(raw), separators=(",", ":")).encode()


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_an_integrations_request_has_sentrys_keys_and_headers(name: str) -> None:
    made = sample(name)
    assert list(json.loads(made.body)) == ["action", "installation", "data", "actor"]
    assert set(made.headers) == {
        "Content-Type",
        "Request-ID",
        "User-Agent",
        "Accept",
        "Accept-Encoding",
        "Sentry-Hook-Resource",
        "Sentry-Hook-Timestamp",
        "Sentry-Hook-Signature",
        "Idempotency-Key",
    }
    assert made.headers["Content-Type"] == "application/json"
    assert re.fullmatch(r"[0-9a-f]{32}", made.headers["Request-ID"])
    assert re.fullmatch(r"[0-9a-f]{64}", made.headers["Sentry-Hook-Signature"])
    assert abs(int(made.headers["Sentry-Hook-Timestamp"]) - time.time()) < 60


def test_unsigned_senders_have_a_token_and_service_hooks_their_own_headers() -> None:
    for name in ("legacy.modern", "legacy.ancient"):
        assert sample(name).url_token == SECRET
        assert not any("signature" in header.lower() for header in sample(name).headers)
    hook = sample("servicehook.triggered").headers
    assert {"X-ServiceHook-Timestamp", "X-ServiceHook-GUID", "X-ServiceHook-Signature"} <= set(hook)


def test_event_ids_times_and_idempotency_keys_are_new_unless_given() -> None:
    one, other = (samples.build("error.created", secret=SECRET) for _ in range(2))
    assert alert(one.as_delivery(RECEIVED_AT)).source_event_id != alert(other.as_delivery(RECEIVED_AT)).source_event_id
    assert one.headers["Idempotency-Key"] != other.headers["Idempotency-Key"]
    assert sample().body == sample().body
    assert "Idempotency-Key" not in sample(idempotency_key=None).headers


@pytest.mark.parametrize("name", EVENTS)
def test_parameters_reach_the_alert(name: str) -> None:
    read = alert(
        deliver(name, project="shop", environment="qa", level="fatal", issue="99", title="OddError: it is odd")
    )
    assert (read.project, read.environment, read.severity, read.issue_id) == ("shop", "test", "critical", "99")
    assert (read.title, read.description) == ("OddError: it is odd", "it is odd")


def test_without_a_given_issue_sentrys_grouping_is_simulated() -> None:
    def issue(**params: object) -> str | None:
        return alert(deliver(**{"issue": "", **params})).issue_id

    assert issue() == issue(event_id="a" * 32, level="info")
    assert len({issue(), issue(title="Other: x"), issue(project="other"), issue(fingerprint=["mine"])}) == 4


@pytest.mark.parametrize("name", EVENTS[:2])
def test_an_event_may_lack_its_issue(name: str) -> None:
    read = alert(deliver(name, issue=None))
    assert (read.issue_id, read.link) == (None, None)
    assert read.fingerprint.startswith("hashes:")


@pytest.mark.parametrize("name", samples.NAMES)
@pytest.mark.parametrize("size", [0, 100, 8_000, 100_000])
def test_a_sample_grows_to_the_size_asked_for(name: str, size: int) -> None:
    natural = len(sample(name).body)
    assert len(sample(name, size=size).body) == max(natural, size)
    sentry.identify(deliver(name, size=size))


@pytest.mark.parametrize("name", EVENTS)
def test_a_large_event_grows_by_its_stack(name: str) -> None:
    assert sample(name, size=200_000).body.count(b'"context_line"') > 300
    assert 5_500 < len(sample(name).body) < 7_000


def test_an_event_may_lack_its_environment() -> None:
    assert "environment" not in dict(alert(deliver(environment=None)).tags)


def test_an_unknown_sample_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"event_alert\.triggered"):
        samples.build("event_alert.exploded", secret=SECRET)
    with pytest.raises(TypeError):
        samples.build("error.created", secret=SECRET, colour="red")


def test_states_assignees_and_rules_are_parameters() -> None:
    assert body_of("issue.archived", substatus="archived_forever")["data"]["issue"]["substatus"] == "archived_forever"
    assert body_of("issue.assigned", assignee=("team", 7))["data"]["assignee"]["id"] == 7
    assert "assignee" not in body_of("issue.assigned", assignee=None)["data"]
    assert body_of("event_alert.triggered", rule_id=5)["data"]["issue_alert"]["id"] == 5
    assert body_of("metric_alert.open", incident_status=20)["data"]["metric_alert"]["status"] == 20
    assert body_of("metric_alert.open", title="Slow")["data"]["description_title"] == "Open: Slow"


# The mock.


@dataclass
class Receiver:
    """Responds with the given statuses in order, then always with the last; 0 is no response in time."""

    statuses: list[int]
    url: str = ""
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)


@contextmanager
def receiving(*statuses: int) -> Iterator[Receiver]:
    receiver = Receiver(list(statuses))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.paths.append(self.path)
            receiver.headers.append(dict(self.headers))
            receiver.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            status = receiver.statuses.pop(0) if len(receiver.statuses) > 1 else receiver.statuses[0]
            if status == 0:
                receiver.release.wait(10)
                self.close_connection = True
                return
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}/webhooks/sentry"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patched:
            if 0 not in statuses:  # a machine that stands still for a second is no sender's timeout
                patched.setattr(mock_sentry, "TIMEOUTS", dict.fromkeys(Family, 30.0))
            yield receiver
    finally:
        receiver.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "succeeded"),
    [
        (200, True),
        (202, True),
        (301, True),
        (308, True),
        (400, False),
        (401, False),
        (429, False),
        (500, False),
        (503, False),
    ],
)
def test_a_redirect_counts_as_success_and_is_not_followed(status: int, succeeded: bool) -> None:  # noqa: FBT001 - a column of the table
    with receiving(status) as receiver:
        (attempt,) = MockSentry(url=receiver.url).deliver(sample())
    assert (attempt.status, attempt.succeeded) == (status, succeeded)
    assert receiver.paths == ["/webhooks/sentry"]
    assert receiver.bodies == [sample().body]


@pytest.mark.parametrize(
    ("published", "statuses", "attempts"),
    [
        (False, [500], 1),
        (True, [202], 1),
        (True, [500, 202], 2),
        (True, [500, 502, 202], 3),
        (True, [500], 3),
        (True, [429], 1),
        (True, [404], 1),
        (True, [503], 1),
        (True, [504], 1),
        (True, [302], 1),
    ],
)
def test_only_a_published_integration_is_retried(published: bool, statuses: list[int], attempts: int) -> None:  # noqa: FBT001 - a column of the table
    with receiving(*statuses) as receiver:
        made = MockSentry(url=receiver.url, published=published).deliver(sample())
    assert len(made) == len(receiver.bodies) == attempts


def test_a_retry_has_a_new_request_id_and_time_and_the_same_idempotency_key(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1_800_000_000, 1_800_001_000, 300))
    monkeypatch.setattr(mock_sentry, "time", SimpleNamespace(time=lambda: next(now), sleep=lambda _: None))
    with receiving(500) as receiver:
        made = MockSentry(url=receiver.url, published=True).deliver(sample())
    ids = [headers["Request-ID"] for headers in receiver.headers]
    assert ids == [attempt.request_id for attempt in made]
    assert len(set(ids)) == 3
    assert [headers["Sentry-Hook-Timestamp"] for headers in receiver.headers] == [
        "1800000000",
        "1800000300",
        "1800000600",
    ]
    assert len({headers["Idempotency-Key"] for headers in receiver.headers}) == 1
    assert len({headers["Sentry-Hook-Signature"] for headers in receiver.headers}) == 1
    assert len(set(receiver.bodies)) == 1


def test_sentry_waits_one_second() -> None:
    assert mock_sentry.TIMEOUTS[Family.INTEGRATION] == 1.0
    with receiving(0) as receiver:
        began = time.monotonic()
        (attempt,) = MockSentry(url=receiver.url).deliver(sample())
        assert time.monotonic() - began > 0.9
    assert (attempt.status, attempt.failure, attempt.succeeded) == (None, "TimeoutError", False)


def test_a_timeout_is_retried_only_for_a_published_integration() -> None:
    with receiving(202) as receiver:
        gone = receiver.url
    assert [attempt.failure for attempt in MockSentry(url=gone).deliver(sample())] == ["ConnectionRefusedError"]
    assert len(MockSentry(url=gone, published=True).deliver(sample())) == 3


def test_the_legacy_plugin_sends_its_token_once_and_a_service_hook_is_retried() -> None:
    with receiving(500) as receiver:
        assert len(MockSentry(url=receiver.url, published=True).deliver(sample("legacy.modern"))) == 1
        assert len(MockSentry(url=f"{receiver.url}?a=1").deliver(sample("legacy.modern"))) == 1
        assert len(MockSentry(url=receiver.url).deliver(sample("servicehook.triggered"))) == 3
    token = f"token={SECRET}"
    assert receiver.paths[:3] == [f"/webhooks/sentry?{token}", f"/webhooks/sentry?a=1&{token}", "/webhooks/sentry"]


def test_deliveries_of_the_mock_verify_as_received() -> None:
    for name in EVENTS[:2]:
        with receiving(202) as receiver:
            MockSentry(url=receiver.url).deliver(sample(name))
        made = replace(sample(name), headers=receiver.headers[0], body=receiver.bodies[0])
        assert sentry.verify(made.as_delivery(RECEIVED_AT), SECRETS).kind == "integration"
