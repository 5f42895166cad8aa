"""The methods of Slack's Web API that the fake has, with the scopes they need and the errors they answer.

https://docs.slack.dev/reference/methods. An error is an answer with status 200 and ``ok: false``.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from signalcraft.dev.fake_slack import blocks
from signalcraft.dev.fake_slack.channels import BOT_ID, BOT_USER_ID, TEAM_ID, Channel, Message
from signalcraft.dev.fake_slack.workspace import Call, FakeSlack

_MAX_TEXT: Final = 40_000
_MAX_TEXT_OF_UPDATE: Final = 4_000
_MAX_METADATA: Final = 16_000
_MAX_HISTORY: Final = 999


class SlackError(Exception):
    """An error of Slack's, by its code."""

    def __init__(self, code: str, **extra: Any) -> None:  # noqa: ANN401 - JSON
        """Create the error; ``extra`` is part of the answer."""
        super().__init__(code)
        self.code, self.extra = code, extra


class RateLimitedError(Exception):
    """An answer with status 429; ``seconds`` are for the header ``Retry-After``."""

    def __init__(self, seconds: int) -> None:
        """Create the error."""
        super().__init__("ratelimited")
        self.seconds = seconds


@dataclass(frozen=True)
class _Request:
    slack: FakeSlack
    arguments: Mapping[str, Any]

    def text(self, name: str) -> str:
        return str(self.arguments.get(name) or "")

    def is_set(self, name: str) -> bool:
        return self.text(name).lower() in {"1", "true"}


@dataclass(frozen=True)
class _Method:
    run: Callable[[_Request], dict[str, Any]]
    scopes: frozenset[str] = field(default_factory=frozenset)


def call(slack: FakeSlack, method: str, token: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return Slack's answer to a request.

    Raises:
        RateLimitedError: too many messages to a channel.
    """
    with slack.lock:
        try:
            answer = {"ok": True, **_run(slack, method, token, arguments)}
        except SlackError as error:
            answer = {"ok": False, "error": error.code, **error.extra}
        slack.calls.append(Call(method=method, arguments=arguments, error=answer.get("error", "")))
        return answer


def _run(slack: FakeSlack, name: str, token: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    method = METHODS.get(name)
    if method is None:
        raise SlackError("unknown_method", req_method=name)
    if not token:
        raise SlackError("not_authed")
    if token != slack.token:
        raise SlackError("invalid_auth")
    if missing := method.scopes - slack.scopes:
        raise SlackError("missing_scope", needed=",".join(sorted(missing)), provided=",".join(sorted(slack.scopes)))
    return method.run(_Request(slack, arguments))


def _auth_test(request: _Request) -> dict[str, Any]:
    return {
        "url": request.slack.root,
        "team": "Fake",
        "user": "signalcraft",
        "team_id": TEAM_ID,
        "user_id": BOT_USER_ID,
        "bot_id": BOT_ID,
        "is_enterprise_install": False,
    }


def _channel(request: _Request, *, by_name: bool = False) -> Channel:
    """Return the channel of a request; one that is private and without the app is none to it."""
    name = request.text("channel")
    try:
        channel = request.slack.channel(name) if by_name else request.slack.channels[name]
    except KeyError:
        raise SlackError("channel_not_found") from None
    if channel.is_private and not channel.is_member:
        raise SlackError("channel_not_found")
    return channel


def _conversations_info(request: _Request) -> dict[str, Any]:
    channel = _channel(request)
    return {
        "channel": {
            "id": channel.id,
            "name": channel.name,
            "is_channel": not channel.is_private,
            "is_private": channel.is_private,
            "is_archived": channel.is_archived,
            "is_member": channel.is_member,
        }
    }


def _post_message(request: _Request) -> dict[str, Any]:
    channel = _channel(request, by_name=True)
    _check_writable(request, channel)
    arguments = _content(request.arguments, _MAX_TEXT)
    thread_ts = request.text("thread_ts")
    if thread_ts and thread_ts not in channel.by_ts:
        raise SlackError("thread_not_found")
    if thread_ts and (root := channel.by_ts[thread_ts].thread_ts):
        arguments["thread_ts"] = root
    message = request.slack.post(channel, arguments)
    return {"channel": channel.id, "ts": message.ts, "message": message.as_json()}


def _check_writable(request: _Request, channel: Channel) -> None:
    if channel.is_archived:
        raise SlackError("is_archived")
    if not channel.is_member and "chat:write.public" not in request.slack.scopes:
        raise SlackError("not_in_channel")
    limit = request.slack.rate_limit
    if limit is not None and (wait := limit.seconds_to_wait(channel.id)):
        raise RateLimitedError(math.ceil(wait))


def _update(request: _Request) -> dict[str, Any]:
    channel = _channel(request)
    message = channel.by_ts.get(request.text("ts"))
    if message is None:
        raise SlackError("message_not_found")
    if channel.is_archived:
        raise SlackError("is_archived")
    arguments = _content(request.arguments, _MAX_TEXT_OF_UPDATE)
    edited = request.slack.edit(message, arguments)
    return {"channel": channel.id, "ts": edited.ts, "text": edited.text, "message": edited.as_json()}


def _content(arguments: Mapping[str, Any], max_text: int) -> dict[str, Any]:
    """Return the arguments with their JSON read, if Slack accepts them as a message."""
    read = dict(arguments)
    for name in ("blocks", "attachments", "metadata"):
        if isinstance(read.get(name), str):
            try:
                read[name] = json.loads(read[name])
            except ValueError:
                raise SlackError(f"invalid_{name}_format") from None
    text, sent_blocks, attachments = (read.get(name) for name in ("text", "blocks", "attachments"))
    if not (text or sent_blocks or attachments):
        raise SlackError("no_text")
    if len(str(text or "")) > max_text:
        raise SlackError("msg_too_long")
    if sent_blocks:
        _refuse("invalid_blocks", blocks.problems_of_blocks(sent_blocks))
    if attachments:
        _check_attachments(attachments)
    if blocks.length_of_text([sent_blocks, [each.get("blocks") for each in attachments or ()]]) > (
        blocks.MAX_TEXT_OF_BLOCKS
    ):
        raise SlackError("msg_blocks_too_long")
    _check_metadata(read.get("metadata"))
    return read


def _check_attachments(attachments: Any) -> None:  # noqa: ANN401 - JSON
    if len(attachments) > blocks.MAX_ATTACHMENTS:
        raise SlackError("too_many_attachments")
    _refuse("invalid_attachments", blocks.problems_of_attachments(attachments))


def _check_metadata(metadata: Any) -> None:  # noqa: ANN401 - JSON
    if metadata is None:
        return
    if not (isinstance(metadata, Mapping) and {"event_type", "event_payload"} <= metadata.keys()):
        raise SlackError("invalid_metadata_schema")
    if len(json.dumps(metadata)) > _MAX_METADATA:
        raise SlackError("metadata_too_large")


def _refuse(code: str, problems: list[str]) -> None:
    if problems:
        messages = [f"[ERROR] {problem}" for problem in problems]
        raise SlackError(code, errors=problems, response_metadata={"messages": messages})


def _readable(request: _Request) -> Channel:
    channel = _channel(request)
    if not channel.is_member:
        raise SlackError("not_in_channel")
    return channel


def _history(request: _Request) -> dict[str, Any]:
    return _page(request, list(reversed(_readable(request).shown)))


def _replies(request: _Request) -> dict[str, Any]:
    channel = _readable(request)
    ts = request.text("ts")
    if ts not in channel.by_ts:
        raise SlackError("thread_not_found")
    return _page(request, [channel.by_ts[ts], *channel.replies(ts)])


def _page(request: _Request, found: list[Message]) -> dict[str, Any]:
    oldest, latest = float(request.text("oldest") or 0), float(request.text("latest") or math.inf)
    is_inclusive = request.is_set("inclusive")
    found = [
        each
        for each in found
        if oldest < float(each.ts) < latest or (is_inclusive and float(each.ts) in (oldest, latest))
    ]
    limit = min(int(request.text("limit") or 100), _MAX_HISTORY)
    start = int(request.text("cursor") or 0)
    has_more = len(found) > start + limit
    page = found[start : start + limit]
    with_metadata = request.is_set("include_all_metadata")
    return {
        "messages": [message.as_json(with_metadata=with_metadata) for message in page],
        "has_more": has_more,
        "response_metadata": {"next_cursor": str(start + limit) if has_more else ""},
    }


def _post_ephemeral(request: _Request) -> dict[str, Any]:
    channel = _channel(request)
    user = request.text("user")
    if user not in request.slack.users:
        raise SlackError("user_not_in_channel")
    request.slack.whisper(channel.id, user, str(_content(request.arguments, _MAX_TEXT).get("text", "")))
    return {"message_ts": request.slack.next_ts()}


_WRITE: Final = frozenset({"chat:write"})
_READ: Final = frozenset({"channels:history"})
METHODS: Final[Mapping[str, _Method]] = {
    "auth.test": _Method(_auth_test),
    "conversations.info": _Method(_conversations_info, frozenset({"channels:read"})),
    "conversations.history": _Method(_history, _READ),
    "conversations.replies": _Method(_replies, _READ),
    "chat.postMessage": _Method(_post_message, _WRITE),
    "chat.update": _Method(_update, _WRITE),
    "chat.postEphemeral": _Method(_post_ephemeral, _WRITE),
}
