"""Write the mail of a message: a text, and the same in HTML.

``Message-ID`` is the notification's, the same in every attempt; ``References`` is the group's, so that its mails are
one thread. The HTML needs no image and nothing from elsewhere, and has colours for light and dark.
"""

import html
from collections.abc import Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from signalcraft.notify.contract import Message
from signalcraft.notify.messages import colour, heading, line_of
from signalcraft.sources import cleaning

_SUBJECT_LIMIT: Final = 200
_TEXT_LIMIT: Final = 10_000


def mail_of(message: Message, *, sender: Address, to: Sequence[Address]) -> EmailMessage:
    """Return the mail of ``message``."""
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = _subject(message)
    mail["From"] = Address("SignalCraft", sender.username, sender.domain)
    mail["To"] = tuple(to)
    mail["Date"] = format_datetime(message.attempted_at)
    mail["Message-ID"] = f"<{message.notification_id}.signalcraft@{sender.domain}>"
    if message.thread_id:
        mail["References"] = mail["In-Reply-To"] = f"<{message.thread_id}.signalcraft@{sender.domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(_text(message))
    mail.add_alternative(_html(message), subtype="html")
    return mail


def _subject(message: Message) -> str:
    """Return the subject: the same for all mails about a group, so that mail programs keep them together."""
    group = message.group
    place = f"{group['project']} {group['environment']}" if group else "SignalCraft"
    test = "Test " if message.is_test else ""
    return cleaning.line(f"{test}[{place}] {message.title}", _SUBJECT_LIMIT) or place


def _clean(text: str) -> str:
    return cleaning.text(text, _TEXT_LIMIT) or ""


def _sentences(message: Message) -> str:
    return "" if message.text == message.title else _clean(message.text)


def _digest_lines(message: Message) -> list[str]:
    return [_clean(line_of(group)) for group in message.digest.worst] if message.digest else []


def _links(message: Message) -> list[tuple[str, str]]:
    links = ((message.url, "Show in SignalCraft"), (message.link, "Show at the source"))
    return [(href, name) for href, name in links if href]


def _text(message: Message) -> str:
    parts = [
        [f"{heading(message)}: {_clean(message.title)}"],
        [_sentences(message)],
        [f"{name + ':':14} {_clean(value)}" for name, value in message.facts],
        [f"- {line}" for line in _digest_lines(message)],
        [f"{name}: {href}" for href, name in _links(message)],
    ]
    return "\n\n".join(filter(None, ("\n".join(part) for part in parts))) + "\n"


#: Mail programs that know no stylesheet show what the attributes say: dark text on white.
_HTML: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><meta name="supported-color-schemes" content="light dark">
<style>
:root {{ color-scheme: light dark; }}
@media (prefers-color-scheme: dark) {{
  .page {{ background: #16181b !important; }}
  .card {{ background: #212428 !important; border-left-color: #34383d !important;
    border-right-color: #34383d !important; border-bottom-color: #34383d !important; }}
  .strong {{ color: #eceef0 !important; }}
  .quiet {{ color: #a3a9b0 !important; }}
  .line {{ border-color: #34383d !important; }}
}}
</style></head>
<body class="page" style="margin:0;padding:24px 12px;background:#f4f5f6;font:15px/1.5 system-ui,-apple-system,
'Segoe UI',Roboto,sans-serif">
<div class="card" style="max-width:600px;margin:0 auto;padding:24px 28px;background:#ffffff;border:1px solid #e3e5e8;
border-top:4px solid {colour};border-radius:8px;overflow-wrap:anywhere">
<p class="quiet" style="margin:0 0 6px;color:#5c6369;font-size:13px"><b style="display:inline-block;padding:1px 9px;
border-radius:9px;background:{colour};color:#ffffff">{heading}</b></p>
<h1 class="strong" style="margin:0 0 10px;color:#1c1e21;font-size:19px;line-height:1.35"><bdi>{title}</bdi></h1>
{body}</div>
<p class="quiet" style="max-width:600px;margin:12px auto 0;color:#7b8288;font-size:12px;text-align:center">Sent by
SignalCraft, because a route of yours says so. Answers to this address are not read.</p>
</body></html>
"""
_PARAGRAPH: Final = '<p class="strong" style="margin:0 0 16px;color:#33373b">{}</p>'
_ROW: Final = (
    '<tr><td class="quiet line" style="padding:5px 16px 5px 0;color:#5c6369;border-top:1px solid #eceef0;'
    'white-space:nowrap;vertical-align:top">{}</td><td class="strong line" style="padding:5px 0;color:#1c1e21;'
    'border-top:1px solid #eceef0"><bdi>{}</bdi></td></tr>'
)
_ITEM: Final = '<li class="strong" style="margin:0 0 6px;color:#1c1e21"><bdi>{}</bdi></li>'
_BUTTON: Final = (
    '<a href="{}" style="display:inline-block;margin:18px 10px 0 0;padding:8px 16px;border-radius:6px;'
    'background:#2f5fd0;color:#ffffff;text-decoration:none">{}</a>'
)
_LINK: Final = '<a href="{}" style="color:#4f7df0">{}</a>'


def _html(message: Message) -> str:
    sentences = _sentences(message)
    rows = "".join(_ROW.format(html.escape(name), html.escape(_clean(value))) for name, value in message.facts)
    items = "".join(_ITEM.format(html.escape(line)) for line in _digest_lines(message))
    links = zip((_BUTTON, _LINK), _links(message), strict=False)
    parts = [
        _PARAGRAPH.format(html.escape(sentences)) if sentences else "",
        f'<table role="presentation" style="width:100%;border-collapse:collapse;font-size:14px">{rows}</table>'
        if rows
        else "",
        f'<ol style="margin:0;padding-left:30px">{items}</ol>' if items else "",
        "".join(form.format(html.escape(href), html.escape(name)) for form, (href, name) in links),
    ]
    return _HTML.format(
        colour=colour(message),
        heading=html.escape(heading(message)),
        title=html.escape(_clean(message.title)),
        body="".join(parts),
    )
