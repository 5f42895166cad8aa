"""The kind ``slack_webhook``: one message for each event to an incoming webhook of Slack.

Mattermost, Rocket.Chat and Discord (its URL with ``/slack``) take the same form, so it has a text and an attachment and
no blocks. A webhook gives the message no name, so nothing is edited: the kind ``slack`` does that.
"""

import html
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import orjson
from marshmallow import Schema

from signalcraft.notify.contract import Message, Outcome, OutcomeKind, Receiver, Secret
from signalcraft.notify.messages import colour, heading, line_of
from signalcraft.notify.options import UrlField
from signalcraft.notify.receivers.http import HttpClient
from signalcraft.sources import cleaning

_TITLE_LIMIT: Final = 300
#: Facts that the headline and the sentence say already.
_IN_TEXT: Final = frozenset({"Project", "Environment", "Severity", "Status", "Alerts", "First seen", "Last seen"})
#: Mattermost and Discord read mentions and links in plain text, so a word joiner separates their parts.
_MARKUP: Final = re.compile(r"@(?=\S)|\](?=\()")
#: Two posts, the second in plain form, are to be over within the time of one message.
_POST_SECONDS: Final = 5.0


class _Options(Schema):
    url = UrlField(required=True)


class SlackWebhookReceiver(Receiver):
    """Posts to an incoming webhook."""

    kind: ClassVar[str] = "slack_webhook"
    options: ClassVar[type[Schema]] = _Options
    pace: float = 1.0  # Slack allows about one message a second and channel

    def __init__(self, name: str, url: Secret) -> None:
        """Create the receiver ``name``."""
        self.name = name
        self._url = url
        self._client = HttpClient(url, total_seconds=_POST_SECONDS)

    def send(self, message: Message) -> Outcome:
        """Post ``message``; if its form is refused, as a line of text."""
        outcome = self._post(render(message))
        if outcome.kind is not OutcomeKind.REFUSED:
            return outcome
        return self._post({"text": _headline(message), "mrkdwn": False})

    def _post(self, body: Mapping[str, Any]) -> Outcome:
        return self._client.post(self._url, orjson.dumps(body))


def render(message: Message) -> dict[str, Any]:
    """Return the JSON body of ``message``."""
    body: dict[str, Any] = {"text": _headline(message), "mrkdwn": False}
    attachment = _attachment(message)
    return body | ({"attachments": [attachment]} if attachment else {})


def _attachment(message: Message) -> dict[str, Any]:
    text = "" if message.text == message.title else message.text
    if message.digest is not None:
        text = "\n".join([text, *(f"• {line_of(group)}" for group in message.digest.worst)])
    link, name = (message.url, "Show in SignalCraft") if message.url else (message.link, "Show at the source")
    attachment: dict[str, Any] = {"title": name, "title_link": link} if link else {}
    if text:
        attachment |= {"text": escape(text), "fallback": escape(text), "mrkdwn_in": []}
    fields = [
        {"title": name, "value": escape(value), "short": True} for name, value in message.facts if name not in _IN_TEXT
    ]
    if fields:
        attachment["fields"] = fields
    if message.group is not None:
        attachment["color"] = colour(message)
    return attachment


def _headline(message: Message) -> str:
    return escape(f"{heading(message)}: {cleaning.line(message.title, _TITLE_LIMIT) or message.reason}")


def escape(text: str) -> str:
    """Return ``text`` so that it stays text: no link, no mention, no formatting.

    To Slack only ``&``, ``<`` and ``>`` mean anything: https://docs.slack.dev/messaging/formatting-message-text.
    """
    return without_markup(html.escape(text, quote=False))


def without_markup(text: str) -> str:
    """Return ``text`` with its mentions and links of Markdown broken."""
    return _MARKUP.sub("\\g<0>\u2060", text)
