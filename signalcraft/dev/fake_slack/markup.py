"""What Slack's parser makes of a text: whom it pings, where it links, and how it looks.

Only ``<...>`` has a meaning: https://docs.slack.dev/messaging/formatting-message-text. Each kind of text has its rules:
a ``plain_text`` object and the text of a ``rich_text`` element are shown as they are.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup, escape

_REFERENCE: Final = re.compile(r"<([@#!]?)([^<>|\n]+)(?:\|([^<>\n]*))?>")
_BARE_URL: Final = re.compile(r"https?://[^\s<>|]+")
_BARE_NAME: Final = re.compile(r"(?<!\w)@(channel|here|everyone)\b")
_EMPHASIS: Final = (
    (re.compile(r"```(.+?)```", re.DOTALL), r"<pre>\1</pre>"),
    (re.compile(r"`([^`\n]+)`"), r"<code>\1</code>"),
    (re.compile(r"(?<!\w)\*([^*\n]+)\*(?!\w)"), r"<b>\1</b>"),
    (re.compile(r"(?<!\w)_([^_\n]+)_(?!\w)"), r"<i>\1</i>"),
    (re.compile(r"(?<!\w)~([^~\n]+)~(?!\w)"), r"<s>\1</s>"),
)
_EMOJI: Final[Mapping[str, str]] = {
    "bell": "🔔",
    "eyes": "👀",
    "fire": "🔥",
    "hourglass": "⌛",
    "large_blue_circle": "🔵",
    "large_green_circle": "🟢",
    "large_orange_circle": "🟠",
    "large_yellow_circle": "🟡",
    "red_circle": "🔴",
    "rotating_light": "🚨",
    "white_circle": "⚪",
    "white_check_mark": "✅",
    "warning": "⚠️",
    "zzz": "💤",
}
_EMOJI_NAME: Final = re.compile(r":([a-z0-9_+-]+):")
#: In UTC; Slack shows the reader's own time.
_DATE_FORMATS: Final[Mapping[str, str]] = {
    "{date_num}": "%Y-%m-%d",
    "{date}": "%B %d, %Y",
    "{date_short}": "%b %d, %Y",
    "{date_long}": "%A, %B %d, %Y",
    "{date_pretty}": "%B %d, %Y",
    "{date_short_pretty}": "%b %d, %Y",
    "{date_long_pretty}": "%A, %B %d, %Y",
    "{time}": "%H:%M",
    "{time_secs}": "%H:%M:%S",
}
#: Elements of ``rich_text`` that refer to something: to what, and by which key.
_ELEMENTS: Final[Mapping[str, tuple[str, str]]] = {
    "user": ("user", "user_id"),
    "usergroup": ("group", "usergroup_id"),
    "broadcast": ("range", "range"),
    "channel": ("channel", "channel_id"),
    "link": ("link", "url"),
}
_TEXT_OF_ATTACHMENT: Final = ("pretext", "title", "text", "footer", "author_name")


@dataclass(frozen=True, slots=True)
class Reference:
    """What a text refers to: ``user``, ``group`` and ``range`` are pings; ``channel`` and ``link`` are links."""

    kind: str
    target: str

    @property
    def is_ping(self) -> bool:
        """Return whether people are notified."""
        return self.kind in {"user", "group", "range"}


def references(message: Mapping[str, Any]) -> tuple[Reference, ...]:
    """Return all that a message pings and links to, from its arguments for ``chat.postMessage``.

    Links of ``text`` count only if it is shown, which is without blocks; its pings always do. A button's own link and
    an attachment's ``title_link`` are not part of a text and do not count.
    """
    names = _is_set(message.get("link_names")) or message.get("parse") == "full"
    found = list(_in_mrkdwn(str(message.get("text") or ""), bare=message.get("parse") != "none", names=names))
    if message.get("blocks"):
        found = [reference for reference in found if reference.is_ping]
    found += _in_blocks(message.get("blocks") or ())
    for attachment in message.get("attachments") or ():
        texts = [attachment.get(key, "") for key in _TEXT_OF_ATTACHMENT]
        texts += [text for field in attachment.get("fields") or () for text in (field.get("title"), field.get("value"))]
        for text in texts:
            found += _in_mrkdwn(str(text or ""), bare=True, names=names)
        found += _in_blocks(attachment.get("blocks") or ())
    return tuple(found)


def _is_set(value: object) -> bool:
    return str(value).lower() in {"1", "true"}


def _in_mrkdwn(text: str, *, bare: bool, names: bool = False) -> Iterator[Reference]:
    for sign, target, _ in _REFERENCE.findall(text):
        match sign:
            case "@":
                yield Reference("user", target)
            case "#":
                yield Reference("channel", target)
            case "!" if target.startswith("subteam^"):
                yield Reference("group", target.removeprefix("subteam^"))
            case "!" if not target.startswith("date^"):
                yield Reference("range", target)
            case "":
                yield Reference("link", target)
    rest = _REFERENCE.sub(" ", text)
    if bare:
        yield from (Reference("link", url) for url in _BARE_URL.findall(rest))
    if names:
        yield from (Reference("range", name) for name in _BARE_NAME.findall(rest))


def _in_blocks(value: Any) -> Iterator[Reference]:  # noqa: ANN401 - JSON
    """Walk blocks, their elements and texts."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        for each in value:
            yield from _in_blocks(each)
    if not isinstance(value, Mapping):
        return
    kind = str(value.get("type"))
    if kind == "mrkdwn":
        yield from _in_mrkdwn(str(value.get("text", "")), bare=not value.get("verbatim"))
    elif kind in _ELEMENTS:
        what, key = _ELEMENTS[kind]
        yield Reference(what, str(value.get(key)))
    else:
        for each in value.values():
            yield from _in_blocks(each)


def shown_plain(text: str) -> Markup:
    """Return the HTML of a ``plain_text`` object: nothing in it has a meaning but the name of an emoji."""
    return _with_emoji(escape(text))


def shown(text: str) -> Markup:
    """Return the HTML of a ``mrkdwn`` text. It has ``&lt;`` for ``<`` where a reference is not meant."""
    html, end = Markup(), 0
    for match in _REFERENCE.finditer(text):
        html += _prose(text[end : match.start()]) + _reference(*match.groups())
        end = match.end()
    return html + _prose(text[end:])


def _prose(text: str) -> Markup:
    html = str(escape(_unescaped(text)))
    for pattern, replacement in _EMPHASIS:
        html = pattern.sub(replacement, html)
    return _with_emoji(Markup(html.replace("\n", "<br>")))  # noqa: S704 - escaped above


def _unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _reference(sign: str, target: str, label: str | None) -> Markup:
    if sign == "!" and target.startswith("date^"):
        _, moment, form, *_ = [*target.split("^"), "", ""]
        return escape(date(int(moment), form)) if moment.isdigit() else escape(label or "")
    if sign:
        return Markup('<span class="ping">{}{}</span>').format("#" if sign == "#" else "@", label or target)
    return link(target, label or target)


def link(url: str, label: str) -> Markup:
    """Return a link, or only its label if the URL is one that a page must not have."""
    if not url.startswith(("https://", "http://", "mailto:")):
        return escape(label)
    return Markup('<a href="{}" rel="noreferrer">{}</a>').format(_unescaped(url), _unescaped(label))


def emoji(name: str) -> str:
    """Return the character of an emoji, or its name as it is written."""
    return _EMOJI.get(name, f":{name}:")


def _with_emoji(html: Markup) -> Markup:
    return Markup(_EMOJI_NAME.sub(lambda match: emoji(match[1]), str(html)))  # noqa: S704 - is HTML already


def date(timestamp: int, form: str) -> str:
    """Return a moment in a format of Slack's, in UTC."""
    moment = datetime.fromtimestamp(timestamp, UTC)
    for name, directive in _DATE_FORMATS.items():
        form = form.replace(name, moment.strftime(directive))
    return form.replace("{ago}", f"{moment:%b %d, %H:%M} UTC")
