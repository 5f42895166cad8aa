"""The kind ``slack``: one message for each group, edited in place.

Slack has no key by which a message could be posted only once. So each carries ours in its metadata, and one that may
have arrived is looked for in the channel before it is posted again.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from marshmallow import Schema, fields, validate

from signalcraft.domain.bounded_json import object_of
from signalcraft.notify.contract import Message, Mode, Outcome, OutcomeKind, Receiver, Secret
from signalcraft.notify.options import SecretField, UrlField
from signalcraft.notify.receivers.deadline import Deadline
from signalcraft.notify.receivers.slack import card, errors
from signalcraft.notify.receivers.slack.errors import CallFailedError

if TYPE_CHECKING:
    from signalcraft.notify.receivers.slack.client import SlackCalls

Answer = Mapping[str, Any]

_CLIENT: Final = "signalcraft.notify.receivers.slack.client"
API_URL: Final = "https://slack.com/api/"
_CHANNEL_ID: Final = r"[CDG][A-Z0-9]{2,}\Z"
#: How far back, and how many messages at most, a message is looked for.
_LOOKED_BACK: Final = timedelta(hours=25)
_PAGES: Final = 3
_PAGE: Final = 200
_WRITE_SCOPE: Final = "chat:write"


class _Options(Schema):
    token = SecretField(required=True)
    channel = fields.String(
        required=True, validate=validate.Regexp(_CHANNEL_ID, error="must be the id of a channel, such as C0123ABCD")
    )
    url = UrlField(load_default=Secret(API_URL), metadata={"variable": "SLACK_API_URL"})


class SlackReceiver(Receiver):
    """Posts and edits messages of one channel."""

    kind: ClassVar[str] = "slack"
    mode: ClassVar[Mode] = Mode.CARD
    options: ClassVar[type[Schema]] = _Options
    has_threads: ClassVar[bool] = True
    needs: ClassVar[Mapping[str, str]] = {
        "SLACK_SIGNING_SECRET": "no button works, since nothing proves that Slack sent a press",
        "PUBLIC_URL": "cards do not link to the page of their group",
    }
    pace: float = 1.0  # Slack allows about one message a second and channel

    def __init__(self, name: str, token: Secret, channel: str, url: Secret) -> None:
        """Create the receiver ``name``."""
        self.name = name
        self._token, self._channel, self._url = token, channel, url
        self._client: ModuleType = importlib.import_module(_CLIENT)  # only a deployment that uses it pays for slack_sdk
        self._deadline = Deadline()

    def send(self, message: Message) -> Outcome:
        """Post ``message``, or edit the one that was posted before."""
        return self._deadline.run(lambda: self._outcome(lambda: self._send(self._calls(), message)))

    def check(self) -> Sequence[str]:
        """Return what is wrong with the token, the channel and the scopes."""
        problems: list[str] = []
        self._deadline.run(lambda: self._outcome(lambda: self._check(self._calls(), problems)))
        return problems

    def _calls(self) -> "SlackCalls":
        calls: SlackCalls = self._client.SlackCalls(self._token.value, self._url.value)
        return calls

    def _outcome(self, attempt: Callable[[], Outcome]) -> Outcome:
        try:
            return attempt()
        except CallFailedError as failure:
            return failure.outcome

    def _send(self, calls: "SlackCalls", message: Message) -> Outcome:
        """Edit the message that is known or is found; if there is none that can be edited, post a new one."""
        channel = message.external_channel or self._channel
        outcome, code = None, ""
        if message.external_id and message.reply is None:
            outcome = self._edit(calls, message, channel, message.external_id)
        if outcome is None and message.may_have_arrived:
            found, code = self._look_up(calls, message)
            if found is not None and message.reply is not None:
                return _sent({"channel": channel, "ts": found["ts"], "message": found})
            outcome = self._edit(calls, message, channel, found["ts"]) if found else None
        return outcome or self._post(calls, message, code)

    def _look_up(self, calls: "SlackCalls", message: Message) -> tuple[Answer | None, str]:
        """Return the message of an earlier attempt, if there is one, and a code if that is not allowed."""
        try:
            return self._find(calls, message), ""
        except CallFailedError as failure:
            if failure.error not in errors.NO_LOOK_UP:
                raise _not_posted(failure.outcome) from None
            return None, "look_up_not_allowed"

    def _post(self, calls: "SlackCalls", message: Message, code: str) -> Outcome:
        target: dict[str, Any] = {"channel": self._channel}
        if message.reply is not None:
            target = {
                "channel": message.external_channel or self._channel,
                "thread_ts": message.external_id,
                "reply_broadcast": message.reply.is_broadcast,
            }

        def post(form: Mapping[str, Any]) -> Answer:
            return calls.call("chat_postMessage", **card.for_posting(form), **target)

        return self._write(message, post, code)

    def _edit(self, calls: "SlackCalls", message: Message, channel: str, ts: str) -> Outcome | None:
        """Edit the message ``ts``; None if it is gone."""

        def edit(form: Mapping[str, Any]) -> Answer:
            return calls.call("chat_update", **card.for_editing(form), channel=channel, ts=ts)

        try:
            return self._write(message, edit, "")
        except CallFailedError as failure:
            if failure.error not in errors.GONE:
                raise
            return None

    def _write(self, message: Message, write: Callable[[Mapping[str, Any]], Answer], code: str) -> Outcome:
        """Write the message; if its form is refused, as plain text: it must arrive."""
        try:
            return _sent(write(card.render(message)), code)
        except CallFailedError as failure:
            if failure.error not in errors.FORM:
                raise
            has_metadata = "metadata" not in failure.error
        return _sent(write(card.plain(message, has_metadata=has_metadata)), code or "plain_text")

    def _find(self, calls: "SlackCalls", message: Message) -> Answer | None:
        """Return the message that an earlier attempt posted, if there is one."""
        channel, is_reply = message.external_channel or self._channel, message.reply is not None
        oldest = (message.attempted_at - _LOOKED_BACK).timestamp()
        arguments: dict[str, Any] = {"channel": channel, "oldest": f"{oldest:.6f}", "limit": _PAGE}
        arguments |= {"include_all_metadata": True} | ({"ts": message.external_id} if is_reply else {})
        for _ in range(_PAGES):
            answer = calls.call("conversations_replies" if is_reply else "conversations_history", **arguments)
            for each in answer.get("messages") or ():
                if _key_of(each) == message.key and each["ts"] != message.external_id:
                    return dict(each)
            cursor = object_of(answer, "response_metadata").get("next_cursor")
            if not cursor:
                break
            arguments["cursor"] = cursor
        return None

    def _check(self, calls: "SlackCalls", problems: list[str]) -> Outcome:
        """Add to ``problems`` what is wrong."""
        try:
            answer = calls.call("auth_test")
        except CallFailedError as failure:
            problems.append(_problem(failure, "the token does not work: check the variable it is read from"))
            raise
        scopes = {name.lower(): value for name, value in answer["headers"].items()}.get("x-oauth-scopes")
        if scopes is not None and _WRITE_SCOPE not in scopes.replace(" ", "").split(","):
            problems.append(f"the app lacks the scope {_WRITE_SCOPE}: add it, and install the app again")
        try:
            calls.call("conversations_history", channel=self._channel, limit=1)
        except CallFailedError as failure:
            problems.append(_problem(failure, _LOOK_UP_ADVICE.get(failure.error, _CHANNEL_ADVICE)))
        return Outcome(kind=OutcomeKind.SENT)


_CHANNEL_ADVICE: Final = "the channel cannot be read: check its id"
_LOOK_UP_ADVICE: Final[Mapping[str, str]] = {
    "missing_scope": "a message that may have arrived cannot be looked up, and is posted again: add channels:history",
    "not_in_channel": "a message that may have arrived cannot be looked up, and is posted again: /invite the app",
    "channel_not_found": "there is no such channel, or it is private and the app is not in it: /invite the app",
}


def _problem(failure: CallFailedError, advice: str) -> str:
    return f"{advice} ({failure.error or failure.outcome.code})"


def _not_posted(outcome: Outcome) -> CallFailedError:
    """Return the failure of a look-up: nothing was posted meanwhile."""
    kind = OutcomeKind.RETRY if outcome.kind in (OutcomeKind.UNKNOWN, OutcomeKind.REFUSED) else outcome.kind
    return CallFailedError(replace(outcome, kind=kind, code=f"look_up_{outcome.code}"))


def _key_of(message: Answer) -> str | None:
    """Return our key in the metadata of a message of a channel; others have metadata, too."""
    metadata = object_of(message, "metadata")
    if metadata.get("event_type") != card.EVENT_TYPE:
        return None
    key = object_of(metadata, "event_payload").get("id")
    return key if isinstance(key, str) else None


def _sent(answer: Answer, code: str = "") -> Outcome:
    """Return the outcome of a message that arrived, with where it is."""
    message = object_of(answer, "message")
    profile = object_of(message, "bot_profile")
    team, app = message.get("team") or profile.get("team_id"), message.get("app_id") or profile.get("app_id")
    if not (isinstance(answer.get("ts"), str) and isinstance(answer.get("channel"), str)):
        raise errors.unreadable()
    return Outcome(
        kind=OutcomeKind.SENT,
        code=code,
        http_status=200,
        external_id=answer["ts"],
        external_channel=answer["channel"],
        external_account=f"{team} {app}" if team and app else None,
    )
