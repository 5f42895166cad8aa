"""Our verification of Slack's signature agrees with slack_sdk's, and both accept what the fake Slack signs."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from slack_sdk.signature import Clock, SignatureVerifier

from signalcraft.api import slack_requests
from signalcraft.dev.fake_slack import FakeSlack
from signalcraft.domain.errors import BadSignature

NOW = 1_795_863_686
SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
SLACK = FakeSlack(signing_secret=SECRET)


class _Now(Clock):
    def now(self) -> float:
        return float(NOW)


def _ours(body: bytes, time: str, signature: str, *secrets: str) -> bool:
    try:
        slack_requests.verify(body, signature=signature, time=time, secrets=secrets or (SECRET,), now=NOW)
    except BadSignature:
        return False
    return True


def _theirs(body: bytes, time: str, signature: str) -> bool:
    """What slack_sdk says. It raises for what cannot be a signature, which is a no."""
    try:
        return SignatureVerifier(SECRET, _Now()).is_valid(body, time, signature)
    except (TypeError, ValueError):
        return False


def _signed(body: bytes, time: str) -> str:
    return SLACK.sign(body, time)["X-Slack-Signature"]


BODY = b"payload=%7B%22type%22%3A%22block_actions%22%7D"
GOOD = _signed(BODY, str(NOW))


@pytest.mark.parametrize(
    ("body", "time", "signature", "is_valid"),
    [
        (BODY, str(NOW), GOOD, True),
        (BODY, str(NOW - 300), _signed(BODY, str(NOW - 300)), True),
        (BODY, str(NOW + 300), _signed(BODY, str(NOW + 300)), True),
        (BODY, str(NOW - 301), _signed(BODY, str(NOW - 301)), False),
        (BODY, str(NOW + 301), _signed(BODY, str(NOW + 301)), False),
        (BODY, str(NOW - 1), GOOD, False),
        (BODY + b"&", str(NOW), GOOD, False),
        (b"", str(NOW), _signed(b"", str(NOW)), True),
        (BODY, str(NOW), GOOD.upper(), False),
        (BODY, str(NOW), GOOD.removeprefix("v0="), False),
        (BODY, str(NOW), GOOD[:-1], False),
        (BODY, str(NOW), "", False),
        (BODY, str(NOW), "v0=\u00e9", False),
        (BODY, "", GOOD, False),
        (BODY, "now", GOOD, False),
        (BODY, "1e9", GOOD, False),
        (b"\xff", str(NOW), GOOD, False),
    ],
)
def test_each_case_of_the_table_is_judged_as_slack_judges_it(
    body: bytes, time: str, signature: str, *, is_valid: bool
) -> None:
    assert _ours(body, time, signature) is is_valid
    assert _theirs(body, time, signature) is is_valid


def test_a_second_live_secret_is_as_good_as_the_first() -> None:
    assert _ours(BODY, str(NOW), GOOD, "retired", SECRET)
    assert not _ours(BODY, str(NOW), GOOD, "retired", "another")


@given(st.text(), st.integers(-400, 400), st.text(max_size=2), st.text(max_size=2))
@example("", 0, "", "")
def test_whatever_comes_both_say_the_same(text: str, age: int, in_body: str, in_signature: str) -> None:
    body, time = text.encode("utf-8", "replace"), str(NOW - age)
    sent, signature = body + in_body.encode("utf-8", "replace"), _signed(body, time) + in_signature
    is_valid = abs(age) <= 300 and not in_body and not in_signature
    assert _ours(sent, time, signature) is _theirs(sent, time, signature) is is_valid


@given(st.text(max_size=12).filter(lambda text: not (text.isascii() and text.isdigit())))
def test_a_time_that_is_no_number_of_seconds_is_refused_and_breaks_nothing(time: str) -> None:
    assert not _ours(BODY, time, _signed(BODY, time))
