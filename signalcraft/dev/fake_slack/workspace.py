"""The state of the fake: its channels and people, and the buttons that they press."""

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Event, RLock
from typing import Any, Final
from urllib.parse import urlencode

import urllib3

from signalcraft.dev.fake_slack.channels import APP_ID, TEAM_ID, Channel, Ephemeral, Message
from signalcraft.dev.fake_slack.faults import Faults, RateLimit

BOT_TOKEN: Final = "xoxb-fake"  # noqa: S105 - of the fake alone
SIGNING_SECRET: Final = "fake-signing-secret"  # noqa: S105 - likewise
SCOPES: Final = frozenset({"chat:write", "chat:write.public", "channels:history"})
#: Slack shows an error to the person who pressed a button that was not answered within three seconds.
PRESS_TIMEOUT_SECONDS: Final = 3.0
_RESPONSE_URL_USES: Final = 5
_RESPONSE_URL_SECONDS: Final = 1_800
_KEPT: Final = ("thread_ts", "reply_broadcast", "metadata", "blocks", "attachments")


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request that the Web API got, and the error it was answered with, if any."""

    method: str
    arguments: Mapping[str, Any] = field(repr=False)
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Press:
    """What came of a press: the app's answer, or no status if there was none within three seconds."""

    user: str
    message: Message = field(repr=False)
    status: int | None
    body: str
    seconds: float

    @property
    def is_refused(self) -> bool:
        """Return whether Slack would show that the app did not respond."""
        return self.status != 200


@dataclass
class _ResponseUrl:
    channel_id: str
    user: str
    ts: str
    until: float
    uses: int = _RESPONSE_URL_USES


class FakeSlack:
    """One workspace with one app. ``url`` is for ``SLACK_API_URL``, ``page`` for a person's browser.

    ``request_url`` is where presses go. ``rate_limit`` is off at first. Everything may be changed while it runs.
    """

    def __init__(
        self,
        channels: Sequence[str] = ("alerts", "payments"),
        *,
        token: str = BOT_TOKEN,
        signing_secret: str = SIGNING_SECRET,
        request_url: str = "",
    ) -> None:
        """Create a workspace with public ``channels``, to which the app was invited; their ids are ``C0ALERTS``."""
        self.token, self.signing_secret, self.request_url = token, signing_secret, request_url
        self.scopes = set(SCOPES)
        self.users = {"U1": "ann", "U2": "ben"}
        self.channels: dict[str, Channel] = {}
        self.ephemerals: list[Ephemeral] = []
        self.calls: list[Call] = []
        self.presses: list[Press] = []
        self.faults = Faults()
        self.rate_limit: RateLimit | None = None
        self.root = ""
        self.lock, self.stopped = RLock(), Event()
        self._response_urls: dict[str, _ResponseUrl] = {}
        self._last_ts = 0
        for name in channels:
            self.add_channel(name)

    @property
    def url(self) -> str:
        """Return the URL of the Web API."""
        return f"{self.root}api/"

    @property
    def page(self) -> str:
        """Return the URL of the page that shows the channels."""
        return self.root

    def add_channel(self, name: str, **options: Any) -> Channel:  # noqa: ANN401 - those of a channel
        """Create a channel."""
        channel = Channel(name=name, id="C0" + re.sub(r"[^A-Z0-9]", "", name.upper()), **options)
        self.channels[channel.id] = channel
        return channel

    def channel(self, name_or_id: str) -> Channel:
        """Return a channel by its name or id.

        Raises:
            KeyError: there is none.
        """
        name = name_or_id.removeprefix("#")
        for channel in list(self.channels.values()):
            if name in (channel.id, channel.name):
                return channel
        raise KeyError(name_or_id)

    def messages(self, channel: str = "alerts") -> list[Message]:
        """Return all messages of a channel, replies too, oldest first."""
        with self.lock:
            return self.channel(channel).messages

    def post(self, channel: Channel, arguments: Mapping[str, Any]) -> Message:
        """Store a new message."""
        with self.lock:
            message = Message(channel_id=channel.id, ts=self.next_ts(), arguments=dict(arguments))
            channel.by_ts[message.ts] = message
            return message

    def edit(self, message: Message, arguments: Mapping[str, Any]) -> Message:
        """Change a message as ``chat.update`` does: blocks and attachments that are not in ``arguments`` stay."""
        with self.lock:
            kept = {key: message.arguments[key] for key in _KEPT if key in message.arguments}
            edited = replace(
                message, arguments={**kept, **arguments}, edited_ts=self.next_ts(), edits=message.edits + 1
            )
            self.channels[message.channel_id].by_ts[message.ts] = edited
            return edited

    def whisper(self, channel_id: str, user: str, text: str, ts: str | None = None) -> None:
        """Show ``text`` to one person."""
        with self.lock:
            self.ephemerals.append(Ephemeral(channel_id=channel_id, user=user, text=text, ts=ts))

    def next_ts(self) -> str:
        """Return the ``ts`` of a new message: the time, and never one twice."""
        with self.lock:
            self._last_ts = max(self._last_ts + 1, time.time_ns() // 1_000)
            return f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"

    def press(
        self, message: Message, action_id: str, *, value: str | None = None, option: str | None = None, user: str = "U1"
    ) -> Press:
        """Press a button of ``message``, or choose ``option`` (its value) of a select, and return what came of it.

        ``value`` chooses among several buttons with one ``action_id``.

        Raises:
            LookupError: the message has no such button or option.
        """
        body = urlencode({"payload": json.dumps(self._payload(message, action_id, value, option, user))}).encode()
        began = time.monotonic()
        status, answer = self._send(body)
        press = Press(user=user, message=message, status=status, body=answer, seconds=time.monotonic() - began)
        with self.lock:
            self.presses.append(press)
        return press

    def sign(self, body: bytes, timestamp: str | None = None) -> dict[str, str]:
        """Return the headers with which Slack proves that ``body`` is its own."""
        stamp = timestamp if timestamp is not None else str(int(time.time()))
        base = b"v0:" + stamp.encode() + b":" + body
        digest = hmac.new(self.signing_secret.encode(), base, hashlib.sha256).hexdigest()
        return {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Slack-Request-Timestamp": stamp,
            "X-Slack-Signature": f"v0={digest}",
        }

    def _send(self, body: bytes) -> tuple[int | None, str]:
        headers = {"User-Agent": "Slackbot 1.0 (fake)", **self.sign(body)}
        try:
            with urllib3.PoolManager(retries=False, timeout=PRESS_TIMEOUT_SECONDS) as pool:
                response = pool.request("POST", self.request_url, body=body, headers=headers, redirect=False)
                return response.status, response.data.decode(errors="replace")
        except urllib3.exceptions.HTTPError as error:
            return None, type(error).__name__

    def _payload(
        self, message: Message, action_id: str, value: str | None, option: str | None, user: str
    ) -> dict[str, Any]:
        channel, name = self.channels[message.channel_id], self.users.get(user, user)
        return {
            "type": "block_actions",
            "team": {"id": TEAM_ID, "domain": "fake"},
            "user": {"id": user, "username": name, "name": name, "team_id": TEAM_ID},
            "api_app_id": APP_ID,
            "token": "deprecated",
            "container": {
                "type": "message",
                "message_ts": message.ts,
                "channel_id": channel.id,
                "is_ephemeral": False,
            },
            "trigger_id": f"{self.next_ts()}.{secrets.token_hex(16)}",
            "enterprise": None,
            "is_enterprise_install": False,
            "channel": {"id": channel.id, "name": "privategroup" if channel.is_private else channel.name},
            "message": message.as_json(),
            "state": {"values": {}},
            "response_url": self._response_url(message, user),
            "actions": [self._action(message, action_id, value, option)],
        }

    def _action(self, message: Message, action_id: str, value: str | None, option: str | None) -> dict[str, Any]:
        for block_id, element in message.actions:
            if element["action_id"] != action_id or (value is not None and element.get("value") != value):
                continue
            action = {**element, "block_id": block_id, "action_ts": self.next_ts()}
            if "options" not in element:
                return action
            for each in action.pop("options"):
                if each["value"] == option:
                    return {**action, "selected_option": each}
        raise LookupError(f"the message has no {action_id} {value or option or ''}".rstrip())

    def _response_url(self, message: Message, user: str) -> str:
        name = secrets.token_urlsafe(16)
        until = time.monotonic() + _RESPONSE_URL_SECONDS
        self._response_urls[name] = _ResponseUrl(message.channel_id, user, message.ts, until)
        return f"{self.root}actions/{TEAM_ID}/{name}"

    def respond(self, name: str, body: Mapping[str, Any]) -> bool:
        """Take an answer to a response URL, which has five of them and half an hour."""
        with self.lock:
            known = self._response_urls.get(name)
            if known is None or known.uses == 0 or time.monotonic() > known.until:
                return False
            known.uses -= 1
            channel = self.channels[known.channel_id]
            if body.get("replace_original"):
                self.edit(channel.by_ts[known.ts], body)
            elif body.get("delete_original"):
                del channel.by_ts[known.ts]
            elif body.get("response_type") == "in_channel":
                self.post(channel, body)
            else:
                self.whisper(known.channel_id, known.user, str(body.get("text", "")), known.ts)
            return True
