"""Requests of Slack: whether one is Slack's, and what was pressed. Pure.

https://docs.slack.dev/authentication/verifying-requests-from-slack: HMAC-SHA256 of version, time and raw body.
"""

import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from signalcraft.domain import bounded_json
from signalcraft.domain.bounded_json import object_of
from signalcraft.domain.errors import BadSignature, BodyNotJson
from signalcraft.notify.slack_buttons import Choice, choice_of
from signalcraft.sources import cleaning

SIGNATURE_HEADER: Final = "X-Slack-Signature"
TIME_HEADER: Final = "X-Slack-Request-Timestamp"
#: How old a request may be; a signature is remembered for longer.
MAX_AGE_SECONDS: Final = 300
_NAME_LIMIT: Final = 80
_MAX_FIELDS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """A pressed button: where, by whom, and what it means, None if it is none of ours."""

    account: str
    channel: str
    message: str
    user_id: str
    user_name: str
    response_url: str
    choice: Choice | None

    @property
    def by(self) -> str:
        """Return the person as the history names them."""
        return f"{self.user_name} ({self.user_id})"


def verify(body: bytes, *, signature: str, time: str, secrets: Iterable[str], now: float) -> None:
    """Verify that Slack signed ``body`` with one of ``secrets``, not long before ``now``, in seconds.

    All secrets are tried, even after a match, so that the time reveals nothing.

    Raises:
        BadSignature: none did.
    """
    offered = signature.encode("utf-8", "surrogatepass")
    signed = b"v0:%b:%b" % (time.encode("utf-8", "surrogatepass"), body)
    is_signed = False
    for secret in secrets:
        expected = b"v0=" + hmac.digest(secret.encode(), signed, "sha256").hex().encode()
        is_signed |= hmac.compare_digest(expected, offered)
    is_recent = time.isascii() and time.isdigit() and len(time) <= 12 and abs(now - int(time)) <= MAX_AGE_SECONDS
    if not (is_signed and is_recent):
        raise BadSignature


def parse(body: bytes) -> Press | None:
    """Return what was pressed; None for an interaction that is no press of a button.

    Raises:
        Refusal: the body is not a form with a JSON object.
    """
    try:
        (payload,) = parse_qs(body.decode(), max_num_fields=_MAX_FIELDS).get("payload", [""])
    except ValueError:
        raise BodyNotJson from None
    raw = payload.encode("utf-8", "surrogatepass")
    read = bounded_json.parse(raw)
    bounded_json.check(raw, read)
    actions = read.get("actions")
    if read.get("type") != "block_actions" or not isinstance(actions, Sequence) or len(actions) != 1:
        return None
    user = object_of(read, "user")
    user_id = cleaning.line(user.get("id"), _NAME_LIMIT) or "?"
    name = cleaning.line(user.get("name") or user.get("username"), _NAME_LIMIT)
    return Press(
        account=f"{object_of(read, 'team').get('id')} {read.get('api_app_id')}",
        channel=str(object_of(read, "channel").get("id")),
        message=str(object_of(read, "container").get("message_ts")),
        user_id=user_id,
        user_name=name or user_id,
        response_url=str(read.get("response_url") or ""),
        choice=choice_of(actions[0]) if isinstance(actions[0], Mapping) else None,
    )
