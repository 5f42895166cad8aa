"""Render a message for Slack: blocks, attachments, and the plain text for notifications and for the last resort.

A sender's text goes into ``plain_text`` and ``rich_text`` alone, where nothing in it has a meaning. The colour of a
status needs an attachment: https://docs.slack.dev/reference/block-kit.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from signalcraft import sources
from signalcraft.notify import slack_buttons
from signalcraft.notify.contract import Card, Digest, Message
from signalcraft.notify.messages import heading, line_of, word
from signalcraft.notify.receivers.slack_webhook import escape
from signalcraft.sources import cleaning

Block = dict[str, Any]

_TITLE_LIMIT: Final = 300
_SENTENCE_LIMIT: Final = 2_000
_PART_LIMIT: Final = 120
_LINE_LIMIT: Final = 300
_URL_LIMIT: Final = 2_000
#: Of the text of a message that is edited.
_TEXT_LIMIT: Final = 3_000
_COLOURS: Final[Mapping[str, str]] = {
    "open": "#b3261e",
    "ack": "#e0a100",
    "snoozed": "#8a9199",
    "resolved": "#2b7a3e",
}
#: By which a message is found again.
EVENT_TYPE: Final = "signalcraft_notification"
#: What keeps Slack from making links, mentions and previews of a text.
_AS_IT_IS: Final[Mapping[str, Any]] = {"mrkdwn": False, "parse": "none", "link_names": False}
_NO_PREVIEWS: Final[dict[str, Any]] = {"unfurl_links": False, "unfurl_media": False}


def render(message: Message) -> dict[str, Any]:
    """Return the arguments of ``message`` for posting and editing."""
    if message.digest is not None:
        blocks, attachments = _digest(message, message.digest), []
    elif message.card is not None and message.group is not None and message.reply is None:
        blocks, attachments = [_headline(message)], [_attachment(message, message.card, message.group)]
    else:
        blocks, attachments = [_headline(message), *_sentence(message.text, unlike=message.title)], []
        if message.is_test:
            blocks.append(slack_buttons.block_of_test())
    return {**plain(message), "blocks": blocks, "attachments": attachments}


def plain(message: Message, *, has_metadata: bool = True) -> dict[str, Any]:
    """Return the arguments of ``message`` as plain text, without any form that Slack could refuse."""
    lines = [f"{_state(message)}: {_title(message)}", _where(message) if message.group else message.text]
    if message.digest is not None:
        lines += [line_of(group) for group in message.digest.worst]
    cleaned = "\n".join(line for line in (cleaning.line(each, _LINE_LIMIT) for each in lines) if line)
    form = {"text": cleaning.cut(escape(cleaned), _TEXT_LIMIT), "blocks": [], "attachments": [], **_AS_IT_IS}
    metadata = {"metadata": {"event_type": EVENT_TYPE, "event_payload": {"id": message.key}}}
    return form | (metadata if has_metadata else {})


def for_posting(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``arguments`` for a new message: those that an edit does not know, and no empty list."""
    return {name: value for name, value in arguments.items() if value != []} | _NO_PREVIEWS


def for_editing(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``arguments`` for an edit, which removes what it names as empty."""
    return {name: value for name, value in arguments.items() if name != "mrkdwn"}


def _title(message: Message) -> str:
    return cleaning.line(message.title, _TITLE_LIMIT) or message.reason


def _state(message: Message) -> str:
    """Return what the message says first: of a card its status, unless it is new."""
    if message.card is None or message.group is None or message.is_test:
        return heading(message)
    status = message.group["status"]
    return heading(message) if status == "open" else word(status).capitalize()


def _where(message: Message) -> str:
    group = message.group or {}
    return f"{group['project']}, {group['environment']} ({word(group['severity'])}). {_status(message)}"


def _status(message: Message) -> str:
    return f"{message.card.status}." if message.card else message.text


def _headline(message: Message) -> Block:
    parts = [_text(f"{_state(message)}: "), _text(_title(message), bold=True)]
    return _rich(_section(parts))


def _attachment(message: Message, card: Card, group: Mapping[str, Any]) -> dict[str, Any]:
    """Return all below the headline of a card, next to a bar in the colour of its status."""
    parts = [part for part in (cleaning.line(each, _PART_LIMIT) for each in card.context) if part]
    blocks = [
        *_sentence(_status(message)),
        *_links(message),
        {"type": "context", "elements": [_plain(" · ".join(parts), _SENTENCE_LIMIT)]},
        slack_buttons.block_of_test() if message.is_test else slack_buttons.block_of_group(group),
    ]
    fallback = cleaning.cut(escape(_where(message)), _SENTENCE_LIMIT)
    return {"color": _COLOURS[group["status"]], "fallback": fallback, "blocks": blocks}


def _links(message: Message) -> list[Block]:
    group = message.group or {}
    named = (
        (message.url, "Show in SignalCraft"),
        (message.link, f"Show in {sources.title(str(group.get('source', '')))}"),
        (group.get("runbook_url"), "Runbook"),
    )
    links = [_link(url, name) for url, name in named if url and _is_usable(url)]
    spaced = [element for link in links for element in (_text("   "), link)][1:]
    return [_rich(_section(spaced))] if spaced else []


def _digest(message: Message, digest: Digest) -> list[Block]:
    lines = []
    for group, url in zip(digest.worst, digest.urls, strict=True):
        line = cleaning.line(line_of(group), _LINE_LIMIT) or "?"
        lines.append(_section([_link(url, line) if url else _text(line)]))
    blocks = [_headline(message), *_sentence(message.text)]
    if lines:
        blocks.append(_rich({"type": "rich_text_list", "style": "bullet", "elements": lines}))
    if message.url:
        blocks.append(_rich(_section([_link(message.url, "Show all of them in SignalCraft")])))
    return blocks


def _sentence(text: str, *, unlike: str = "") -> list[Block]:
    shown = cleaning.line(text, _SENTENCE_LIMIT)
    return [{"type": "section", "text": _plain(shown, _SENTENCE_LIMIT)}] if shown and text != unlike else []


def _is_usable(url: str) -> bool:
    return url.startswith(("https://", "http://")) and url.isprintable() and " " not in url and len(url) <= _URL_LIMIT


def _plain(text: str, limit: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": cleaning.cut(text, limit), "emoji": False}


def _text(text: str, *, bold: bool = False) -> dict[str, Any]:
    return {"type": "text", "text": text} | ({"style": {"bold": True}} if bold else {})


def _link(url: str, text: str) -> dict[str, Any]:
    return {"type": "link", "url": url, "text": text}


def _section(elements: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "rich_text_section", "elements": list(elements)}


def _rich(element: dict[str, Any]) -> Block:
    return {"type": "rich_text", "elements": [element]}
