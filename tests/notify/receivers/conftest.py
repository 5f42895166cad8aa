"""Each kind of receiver with a real server behind it."""

import io
import json
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from signalcraft.dev import fake_slack
from signalcraft.dev.fake_slack import FakeSlack, Fault, FaultKind
from signalcraft.notify.config import load
from signalcraft.notify.contract import Receiver
from tests.support import http_server, mail_server
from tests.support.captured_logs import captured_logs
from tests.support.http_server import HttpServer
from tests.support.mail_server import MailServer

SIGNING_SECRETS = ("whsec_" + "c2VjcmV0LW9mLXRoZS10ZXN0cy1vbmUt", "whsec_" + "c2VjcmV0LW9mLXRoZS10ZXN0cy10d28t")
ENVIRON = {
    "SIGNING": ",".join(SIGNING_SECRETS),
    "ROUTING_KEY": "routing-key-0123456789abcdef",
    "BOT_TOKEN": "xoxb-0123456789-abcdefghij",
    "PATH_SECRET": "T0SECRETPATH/B0SECRETPATH/tokenOfTheWebhook",
}
#: No outcome, no log line, no repr may hold one of these.
SECRETS = (
    *SIGNING_SECRETS,
    ENVIRON["ROUTING_KEY"],
    ENVIRON["BOT_TOKEN"],
    *ENVIRON["PATH_SECRET"].split("/"),
    "smtp-pass",
)
HTTP_KINDS = ("webhook", "slack_webhook", "pagerduty")
KINDS = (*HTTP_KINDS, "slack", "email", "apprise", "log", "function")

_OPTIONS = {
    "webhook": 'url = "env:URL"\nsecret = "env:SIGNING"',
    "slack_webhook": 'url = "env:URL"',
    "pagerduty": 'url = "env:URL"\nrouting_key = "env:ROUTING_KEY"',
    "email": 'smtp = "env:URL"\nfrom = "alerts@example.org"\nto = ["ops@example.org", "ann@example.org"]',
    "apprise": 'urls = ["env:URL"]',
    "slack": 'url = "env:URL"\ntoken = "env:BOT_TOKEN"\nchannel = "C0ALERTS"',
    "log": "",
}


def receiver_of(kind: str, url: str = "https://hooks.example.org", **options: str) -> Receiver:
    """The receiver, through the configuration that an operator would write; none if Apprise is not installed."""
    lines = dict(line.split(" = ") for line in _OPTIONS[kind].splitlines()) | options
    toml = "\n".join([f'[receivers.ops]\nkind = "{kind}"', *(f"{key} = {value}" for key, value in lines.items())])
    with warnings.catch_warnings(action="ignore" if kind == "apprise" else None):  # it imports what is deprecated
        return load(toml, {**ENVIRON, "URL": url}).receivers["ops"]


def import_apprise() -> None:
    """Import Apprise, or skip the test."""
    with warnings.catch_warnings(action="ignore"):  # it imports what is deprecated
        pytest.importorskip("apprise", reason="Apprise is not installed: requirements-apprise.txt")


@dataclass
class Kind:
    """A receiver, and what its server can be told to do."""

    name: str
    receiver: Receiver
    fail_once: Callable[[], object]
    hang: Callable[[], object]
    lose_answer: Callable[[], object] | None
    arrived: Callable[[], list[Any]]


def _of_http(server: HttpServer, kind: str) -> Kind:
    scheme = server.url if kind != "apprise" else server.url.replace("http:", "json:")
    return Kind(
        name=kind,
        receiver=receiver_of(kind, f"{scheme}/{ENVIRON['PATH_SECRET']}"),
        fail_once=partial(server.behaviours.append, http_server.answer(503)),
        hang=partial(server.behaviours.append, http_server.hang),
        lose_answer=None if kind == "apprise" else partial(server.behaviours.append, http_server.reset),
        arrived=lambda: [request.body for request in server.requests],
    )


def _of_slack(slack: FakeSlack) -> Kind:
    return Kind(
        name="slack",
        receiver=receiver_of("slack", slack.url),
        fail_once=lambda: slack.faults.add(Fault(kind=FaultKind.STATUS, times=1)),
        hang=lambda: slack.faults.add(Fault(kind=FaultKind.HANG, times=1)),
        lose_answer=lambda: slack.faults.add(Fault(kind=FaultKind.RESET, times=1, is_accepted=True)),
        arrived=lambda: slack.messages("alerts"),
    )


def _of_mail(server: MailServer) -> Kind:
    return Kind(
        name="email",
        receiver=receiver_of("email", server.url),
        fail_once=partial(server.replies.append, ("MAIL", "451 later")),
        hang=partial(server.replies.append, ("DATA", "hang")),
        lose_answer=partial(server.replies.append, ("DATA", "drop")),
        arrived=lambda: server.mails,
    )


def _of_function() -> Kind:
    calls: list[Any] = []
    delays: list[float] = []

    def queue_notification(reason: str, group: Any) -> None:  # noqa: ANN401
        calls.append((reason, group))
        if delays:
            threading.Event().wait(delays.pop())

    receiver = load("", {}, queue_notification).receivers["notifier"]
    return Kind("function", receiver, lambda: None, lambda: delays.append(20), None, lambda: calls)


def _of_log(lines: io.StringIO) -> Kind:
    def arrived() -> list[Any]:
        return [line for line in lines.getvalue().splitlines() if json.loads(line)["event"] == "notification"]

    return Kind("log", receiver_of("log"), lambda: None, lambda: None, None, arrived)


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """All log lines at DEBUG."""
    with captured_logs() as stream:
        yield stream


@pytest.fixture
def make_kind(logged: io.StringIO) -> Iterator[Callable[[str], Kind]]:
    with ExitStack() as stack:

        def make(name: str) -> Kind:
            if name == "apprise":
                import_apprise()
            if name == "email":
                return _of_mail(stack.enter_context(mail_server.serving()))
            if name == "slack":
                return _of_slack(stack.enter_context(fake_slack.serving(FakeSlack(token=ENVIRON["BOT_TOKEN"]))))
            if name in ("log", "function"):
                return _of_log(logged) if name == "log" else _of_function()
            return _of_http(stack.enter_context(http_server.serving()), name)

        yield make


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, make_kind: Callable[[str], Kind]) -> Kind:
    return make_kind(request.param)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with http_server.serving() as serving:
        yield serving
