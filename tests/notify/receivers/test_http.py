"""The kinds that speak HTTP: what an answer means, and what none does."""

import io
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalcraft.notify.contract import DETAIL_LIMIT, OutcomeKind, Receiver
from signalcraft.notify.receivers.http import parse_retry_after
from tests.notify.receivers.conftest import ENVIRON, HTTP_KINDS, SECRETS, receiver_of
from tests.support import http_server
from tests.support.http_server import Behaviour, HttpServer, answer
from tests.support.messages import group_message


@pytest.fixture(params=HTTP_KINDS)
def receiver(request: pytest.FixtureRequest, server: HttpServer) -> Receiver:
    return receiver_of(request.param, f"{server.url}/{ENVIRON['PATH_SECRET']}")


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        ((200, 201, 202, 204), OutcomeKind.SENT),
        ((401, 403, 404, 405, 410), OutcomeKind.BROKEN),
        ((301, 302, 303, 307, 308), OutcomeKind.BROKEN),
        ((408, 425, 500, 502, 503, 504, 599), OutcomeKind.RETRY),
    ],
)
def test_the_status_decides(
    receiver: Receiver, server: HttpServer, statuses: tuple[int, ...], kind: OutcomeKind
) -> None:
    for status in statuses:
        server.behaviours.append(answer(status, Location=f"{server.url}/elsewhere"))
        outcome = receiver.send(group_message())
        assert (outcome.kind, outcome.code, outcome.http_status) == (kind, f"http_{status}", status)
    assert len(server.requests) == len(statuses)
    assert all("/elsewhere" not in request.path for request in server.requests)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_rate_limit_says_when_to_go_on(receiver: Receiver, server: HttpServer, status: int, form: str) -> None:
    began = datetime.now(UTC)
    date = format_datetime(began + timedelta(seconds=120), usegmt=True)
    server.behaviours.append(answer(status, Retry_After="120" if form == "seconds" else date))
    outcome = receiver.send(group_message())

    took = (datetime.now(UTC) - began).total_seconds()
    assert outcome.kind is OutcomeKind.RATE_LIMITED
    assert outcome.retry_after is not None
    assert 119 - took <= outcome.retry_after <= 120  # a date has no fraction of a second


def test_a_rate_limit_without_a_time_is_one(receiver: Receiver, server: HttpServer) -> None:
    server.behaviours.append(answer(429, Retry_After="soon"))
    outcome = receiver.send(group_message())

    assert (outcome.kind, outcome.retry_after) == (OutcomeKind.RATE_LIMITED, None)


@given(st.one_of(st.text(max_size=60), st.from_regex(r"\A(Mon, )?\d{1,5} Jan \d{1,5} \d\d:\d\d:\d\d [+-]\d{4}\Z")))
def test_any_retry_after_is_a_time_or_none(value: str) -> None:
    seconds = parse_retry_after(value)

    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("behaviour", "kind", "code"),
    [
        (http_server.reset, OutcomeKind.UNKNOWN, "connection_lost"),
        (http_server.close, OutcomeKind.UNKNOWN, "connection_lost"),
        (http_server.malformed_headers, OutcomeKind.SENT, "http_200"),
        (answer(200, "not compressed", Content_Encoding="gzip"), OutcomeKind.SENT, "http_200"),
    ],
    ids=["reset", "closed", "malformed_headers", "false_encoding"],
)
def test_a_message_that_arrived_is_not_failed(
    receiver: Receiver, server: HttpServer, behaviour: Behaviour, kind: OutcomeKind, code: str
) -> None:
    server.behaviours.append(behaviour)
    outcome = receiver.send(group_message())

    assert (outcome.kind, outcome.code, len(server.requests)) == (kind, code, 1)


@pytest.mark.parametrize("kind", HTTP_KINDS)
def test_a_receiver_that_is_away_is_tried_again(kind: str) -> None:
    refused = receiver_of(kind, "http://127.0.0.1:1/x").send(group_message())
    nowhere = receiver_of(kind, "https://nowhere.invalid/x").send(group_message())

    assert (refused.kind, refused.code) == (OutcomeKind.RETRY, "connect")
    assert (nowhere.kind, nowhere.code) == (OutcomeKind.RETRY, "dns")


@pytest.mark.parametrize(
    ("behaviour", "kind"), [(http_server.drip, OutcomeKind.UNKNOWN), (http_server.hang_in_answer, OutcomeKind.SENT)]
)
def test_an_answer_that_does_not_end_is_left(server: HttpServer, behaviour: Behaviour, kind: OutcomeKind) -> None:
    server.behaviours.append(behaviour)
    started = time.monotonic()

    assert receiver_of("slack_webhook", server.url).send(group_message()).kind is kind
    assert time.monotonic() - started < 15


def test_a_huge_answer_is_read_in_part(receiver: Receiver, server: HttpServer) -> None:
    answer = http_server.Endless()
    server.behaviours.append(answer)
    outcome = receiver.send(group_message())

    assert (outcome.code, len(outcome.detail)) == ("http_500", DETAIL_LIMIT)
    assert answer.is_refused.wait(30), "all of it was read"


def test_secrets_are_taken_out_of_an_answer_that_repeats_them(
    receiver: Receiver, server: HttpServer, logged: io.StringIO
) -> None:
    behaviours: list[Callable[[http_server.Connection], object]] = [
        http_server.echo(404),
        answer(410, "x" * (DETAIL_LIMIT - 30) + ENVIRON["PATH_SECRET"]),
        http_server.malformed_headers,
        http_server.reset,
    ]
    server.behaviours.extend(behaviours)
    shown = f"{[receiver.send(group_message()) for _ in behaviours]} {logged.getvalue()}"

    assert "(secret)" in shown
    assert [secret for secret in SECRETS if secret in shown or secret[:12] in shown] == []
