"""What every kind of receiver promises."""

import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from signalcraft.notify.contract import OutcomeKind
from signalcraft.notify.receivers import KINDS as TABLE
from tests.notify.receivers.conftest import KINDS, SECRETS, Kind
from tests.support.messages import HOSTILE, digest_message, every_form, group_message, trouble_message


def test_the_suite_knows_every_kind() -> None:
    assert set(TABLE) | {"function"} == set(KINDS)


@pytest.mark.parametrize("form", every_form())
def test_a_message_of_each_form_arrives_once(kind: Kind, form: str) -> None:
    outcome = kind.receiver.send(every_form()[form])

    assert (outcome.kind, len(kind.arrived())) == (OutcomeKind.SENT, 1)


def test_what_fails_is_told_at_the_next_attempt(kind: Kind) -> None:
    kind.fail_once()
    first, second = kind.receiver.send(group_message()), kind.receiver.send(group_message())

    assert first.kind is (OutcomeKind.SENT if kind.name in ("log", "function") else OutcomeKind.RETRY)
    assert second.kind is OutcomeKind.SENT


def test_a_message_that_may_have_arrived_is_unknown(kind: Kind) -> None:
    if kind.lose_answer is None:
        pytest.skip("it gives no answer to lose, or does not say that one was lost")
    kind.lose_answer()

    assert kind.receiver.send(group_message()).kind is OutcomeKind.UNKNOWN
    assert len(kind.arrived()) == 1


def test_no_kind_takes_longer_than_15_seconds(make_kind: Callable[[str], Kind]) -> None:
    kinds = [make_kind(name) for name in KINDS]
    for each in kinds:
        each.hang()

    def send(each: Kind) -> tuple[str, float]:
        started = time.monotonic()
        outcome = each.receiver.send(group_message())
        return outcome.kind.value, time.monotonic() - started

    with ThreadPoolExecutor(len(kinds)) as pool:
        found = dict(zip(KINDS, pool.map(send, kinds), strict=True))

    assert {name: outcome for name, (outcome, _) in found.items()} == {
        name: "sent" if name == "log" else "retry" if name == "apprise" else "unknown" for name in KINDS
    }
    assert max(seconds for _, seconds in found.values()) < 15
    assert all(each.receiver.send(group_message()).kind is OutcomeKind.SENT for each in kinds)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_of_a_sender_is_refused(kind: Kind, text: str) -> None:
    hostile = {"title": text, "project": text or "p", "environment": text or "e", "assignee_user_id": text}
    for message in (group_message(**hostile), group_message("test", **hostile), digest_message(12, **hostile)):
        assert kind.receiver.send(message).kind is OutcomeKind.SENT
    assert kind.receiver.send(trouble_message(text)).kind is OutcomeKind.SENT
    assert len(kind.arrived()) == 4


def test_no_secret_is_logged_or_shown(kind: Kind, logged: io.StringIO) -> None:
    kind.fail_once()
    outcomes = [kind.receiver.send(group_message()) for _ in range(2)]
    shown = f"{kind.receiver!r} {outcomes} {kind.receiver.check()} {logged.getvalue()}"

    assert [secret for secret in SECRETS if secret in shown] == []
