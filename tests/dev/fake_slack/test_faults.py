import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import urllib3
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from signalcraft.dev import fake_slack
from signalcraft.dev.fake_slack import FakeSlack, Fault, FaultKind
from tests.support.waiting import wait_until

FAILURES: dict[FaultKind, type[Exception]] = {
    FaultKind.RATE_LIMITED: SlackApiError,
    FaultKind.STATUS: SlackApiError,
    FaultKind.ERROR: SlackApiError,
    FaultKind.HANG: TimeoutError,
    FaultKind.RESET: ConnectionResetError,
}


@pytest.fixture
def post(client: WebClient) -> Callable[[], Any]:
    return lambda: client.chat_postMessage(channel="C0ALERTS", text="x")


@pytest.mark.parametrize("is_accepted", [False, True])
@pytest.mark.parametrize("kind", FaultKind)
def test_a_fault_comes_before_or_after_the_message_is_stored(
    slack: FakeSlack, client: WebClient, post: Callable[[], Any], kind: FaultKind, *, is_accepted: bool
) -> None:
    patience = client.timeout
    if kind is FaultKind.HANG:
        client.timeout = 0.3  # type: ignore[assignment] # urllib takes it
    slack.faults.add(Fault(kind=kind, times=1, is_accepted=is_accepted))
    with pytest.raises(FAILURES[kind]):
        post()
    client.timeout = patience
    wait_until(lambda: len(slack.messages()) == is_accepted)
    assert len(slack.messages()) == is_accepted
    post()
    assert len(slack.messages()) == is_accepted + 1


def test_a_fault_says_its_status_code_and_time(slack: FakeSlack, post: Callable[[], Any]) -> None:
    slack.faults.add(Fault(kind=FaultKind.RATE_LIMITED, times=1, retry_after=30))
    slack.faults.add(Fault(kind=FaultKind.STATUS, times=1, status=502))
    slack.faults.add(Fault(kind=FaultKind.ERROR, times=1, error="token_revoked"))
    answers = []
    for _ in range(3):
        with pytest.raises(SlackApiError) as caught:
            post()
        answers.append(caught.value.response)
    assert [answer.status_code for answer in answers] == [429, 502, 200]
    assert (answers[0].headers["retry-after"], answers[2]["error"]) == ("30", "token_revoked")


def test_a_fault_may_last_some_seconds_and_be_of_one_method(
    slack: FakeSlack, client: WebClient, post: Callable[[], Any]
) -> None:
    fault = Fault(kind=FaultKind.STATUS, method="chat.*", seconds=60)
    slack.faults.add(fault)
    client.auth_test()
    with pytest.raises(SlackApiError):
        post()
    fault._since -= 60
    post()


def test_another_process_switches_faults_reads_what_came_and_presses(slack: FakeSlack, post: Callable[[], Any]) -> None:
    with urllib3.PoolManager() as pool:
        fault = {"kind": "error", "error": "is_archived", "method": "chat.postMessage"}
        assert pool.request("POST", f"{slack.root}control/faults", json=fault).status == 204
        with pytest.raises(SlackApiError, match="is_archived"):
            post()
        assert pool.request("DELETE", f"{slack.root}control/faults").status == 204
        post()
        state = pool.request("GET", f"{slack.root}control").json()
        assert [message["text"] for message in state["channels"]["alerts"]] == ["x"]
        assert [call["error"] for call in state["calls"]] == [""]
        settings = {"rate_limit": True, "request_url": "http://127.0.0.1:1/", "scopes": ["chat:write"]}
        assert pool.request("PUT", f"{slack.root}control/settings", json=settings).status == 204
    assert (slack.request_url, slack.scopes, slack.rate_limit is not None) == (
        "http://127.0.0.1:1/",
        {"chat:write"},
        True,
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("faults", {"kind": "none"}),
        ("faults", {"kind": "reset", "often": True}),
        ("press", {"channel": "alerts", "ts": "1.0", "action_id": "ack"}),
        ("press", {"channel": "alerts"}),
    ],
)
def test_a_request_to_the_control_that_means_nothing_is_a_400(slack: FakeSlack, path: str, body: object) -> None:
    with urllib3.PoolManager() as pool:
        assert pool.request("POST", f"{slack.root}control/{path}", json=body).status == 400


def test_a_page_of_another_name_gets_nothing(slack: FakeSlack) -> None:
    with urllib3.PoolManager() as pool:
        answer = pool.request("GET", f"{slack.root}control", headers={"Host": "evil.example"})
    assert answer.status == 400


def test_the_fake_ends_while_a_request_hangs() -> None:
    with fake_slack.serving() as slack:
        slack.faults.add(Fault(kind=FaultKind.HANG))
        host, port = slack.root.removeprefix("http://").rstrip("/").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST /api/auth.test HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")
            began = time.monotonic()
    assert time.monotonic() - began < 10, "the fault lasts a minute"
