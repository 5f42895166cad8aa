"""The kind ``slack_webhook``: one message for each event to an incoming webhook of Slack.

Mattermost, Rocket.Chat and Discord (its URL with ``/slack``) take the same form, so it has a text and an attachment and
no blocks. A webhook gives the message no name, so nothing is edited: the kind ``slack`` does that.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self

import orjson
from marshmallow import Schema

from signalcraft.notify.contract import Message, Mode, Outcome, OutcomeKind, Secret
from signalcraft.notify.messages import HEADINGS
from signalcraft.notify.options import UrlField
from signalcraft.notify.receivers.http import HttpClient

_TITLE_LIMIT: Final = 300
_COLOURS: Final[Mapping[str, str]] = {
    "critical": "#b3261e",
    "high": "#d9480f",
    "med": "#e0a800",
    "low": "#4c6ef5",
    "info": "#868e96",
}
_RESOLVED_COLOUR: Final = "#2b8a3e"
#: Only these three mean anything in Slack's text: https://docs.slack.dev/messaging/formatting-message-text.
_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
#: Mattermost and Discord read a mention in plain text, so a word joiner separates its sign from its name.
_MENTION = re.compile(r"@(?=\w)")


class _Options(Schema):
    url = UrlField(required=True)


class SlackWebhookReceiver:
    """Posts to an incoming webhook."""

    kind: ClassVar[str] = "slack_webhook"
    mode: ClassVar[Mode] = Mode.EVENT
    options: ClassVar[type[Schema]] = _Options
    pace: float = 1.0  # Slack allows about one message a second and channel
    per_hour: int | None = None

    def __init__(self, name: str, url: Secret) -> None:
        """Create the receiver ``name``."""
        self.name = name
        self._url = url
        self._client = HttpClient()

    @classmethod
    def from_options(cls, name: str, options: Mapping[str, Any]) -> Self:
        """Create the receiver ``name`` from its options."""
        return cls(name, options["url"])

    def send(self, message: Message) -> Outcome:
        """Post ``message``; if its form is refused, as a line of text."""
        outcome = self._post(render(message))
        if outcome.kind is not OutcomeKind.REFUSED:
            return outcome
        return self._post({"text": _headline(message)})

    def _post(self, body: Mapping[str, Any]) -> Outcome:
        return self._client.post(self._url, orjson.dumps(body), {"Content-Type": "application/json"})

    def check(self) -> Sequence[str]:
        """Return nothing: only a message can tell whether the URL works."""
        return ()


def render(message: Message) -> dict[str, Any]:
    """Return the JSON body of ``message``."""
    if message.digest is not None:
        lines = [f"• {_group_line(group)}" for group in message.digest.worst]
        return {"text": "\n".join([_headline(message), *lines])}
    if message.group is None:
        return {"text": _headline(message)}
    colour = _RESOLVED_COLOUR if message.is_over else _COLOURS[message.group["severity"]]
    fields = [{"title": name, "value": escape(value), "short": True} for name, value in message.facts]
    link = message.url or message.link
    attachment = {
        "fallback": escape(message.title),
        "color": colour,
        "title": escape(message.title[:_TITLE_LIMIT]),
        "fields": fields,
        "mrkdwn_in": [],
    }
    return {"text": _headline(message), "attachments": [attachment | ({"title_link": link} if link else {})]}


def _headline(message: Message) -> str:
    heading = HEADINGS.get(message.reason, message.reason)
    severity = f" {message.group['severity']}" if message.group else ""
    return escape(f"{heading}{severity}: {message.title[:_TITLE_LIMIT]}")


def _group_line(group: Mapping[str, Any]) -> str:
    place = f"{group['severity']} · {group['project']} · {group['environment']}"
    return escape(f"{place}: {group['title'][:_TITLE_LIMIT]} ({group['count']})")


def escape(text: str) -> str:
    """Return ``text`` so that it stays text: no link, no mention, no formatting."""
    return _MENTION.sub("@\u2060", text.translate(_ESCAPES))
