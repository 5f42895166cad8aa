"""The kind ``email``: text and HTML by SMTP, one thread for each group.

The connection is encrypted (``smtps://``, or STARTTLS) unless the server is on this machine. ``Message-ID`` is the
notification's, the same in every attempt; ``References`` is the group's, so that its messages are one thread.
"""

import html
import smtplib
import ssl
from collections.abc import Mapping, Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, ClassVar, Final, Self
from urllib.parse import SplitResult, unquote, urlsplit

from marshmallow import Schema, ValidationError, fields, validate

from signalcraft.domain.errors import RecoverableError
from signalcraft.notify.contract import Message, Mode, Outcome, OutcomeKind, Secret
from signalcraft.notify.messages import HEADINGS
from signalcraft.notify.options import LOOPBACK, SecretField
from signalcraft.resilience import BoundedCall

_OPERATION_SECONDS: Final = 5.0
_TOTAL_SECONDS: Final = 13.0
_SUBJECT_LIMIT: Final = 200
_PORTS: Final[Mapping[str, int]] = {"smtp": 587, "smtps": 465}


class _Overdue(RecoverableError):  # noqa: N818 - reads as the errors of errors.py do
    """The server takes too long."""


class _AddressField(fields.Field[Address]):
    """An e-mail address: ``ops@example.org``."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Address:  # noqa: ANN401, ARG002 - marshmallow's signature
        try:
            address = Address(addr_spec=value if isinstance(value, str) else "")
        except (ValueError, IndexError):
            raise ValidationError("must be an e-mail address") from None
        if not address.username or not address.domain:
            raise ValidationError("must be an e-mail address")
        return address


class _SmtpField(SecretField):
    """The server's URL, as ``env:NAME``: ``smtp://user:password@host:587``, or ``smtps://`` for TLS from the start."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **others: Any) -> Secret:  # noqa: ANN401 - marshmallow's signature
        secret = super()._deserialize(value, attr, data, **others)
        try:
            parts = urlsplit(secret.value)
            usable = parts.scheme in _PORTS and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            usable = False
        if not usable:
            raise ValidationError("must be a URL like smtp://user:password@host:587 or smtps://host")
        return secret


class _Options(Schema):
    smtp = _SmtpField(required=True)
    sender = _AddressField(required=True, data_key="from")
    to = fields.List(_AddressField(), required=True, validate=validate.Length(1, 50))
    per_hour = fields.Integer(strict=True, validate=validate.Range(1, 10_000), load_default=60)


class EmailReceiver:
    """Sends mail."""

    kind: ClassVar[str] = "email"
    mode: ClassVar[Mode] = Mode.EVENT
    options: ClassVar[type[Schema]] = _Options
    pace: float = 0.0

    def __init__(self, name: str, smtp: Secret, sender: Address, to: Sequence[Address], per_hour: int | None) -> None:
        """Create the receiver ``name``."""
        self.name = name
        self.per_hour = per_hour
        self._smtp = smtp
        self._sender = sender
        self._to = tuple(to)
        self._bounded = BoundedCall(_Overdue)

    @classmethod
    def from_options(cls, name: str, options: Mapping[str, Any]) -> Self:
        """Create the receiver ``name`` from its options."""
        return cls(name, options["smtp"], options["sender"], options["to"], options["per_hour"])

    def send(self, message: Message) -> Outcome:
        """Send ``message`` to all addresses, over a connection of its own."""
        mail = self._mail(message)
        try:
            return self._bounded.run(lambda: self._deliver(mail), timeout=_TOTAL_SECONDS)
        except _Overdue:
            return Outcome(kind=OutcomeKind.UNKNOWN, code="timeout")

    def check(self) -> Sequence[str]:
        """Return what is wrong with the server or the login, without sending."""
        try:
            with self._connect():
                return ()
        except (OSError, smtplib.SMTPException) as error:
            outcome = _of_error(error, handed_over=False)
            return [f"The SMTP server does not take the login or the connection ({outcome.code})."]

    def _deliver(self, mail: EmailMessage) -> Outcome:
        handed_over = False
        try:
            with self._connect() as server:
                handed_over = True
                refused = server.send_message(mail)
        except (OSError, smtplib.SMTPException) as error:
            return _of_error(error, handed_over=handed_over)
        return Outcome(
            kind=OutcomeKind.SENT, code="sent", detail=f"{len(refused)} addresses refused" if refused else ""
        )

    def _connect(self) -> smtplib.SMTP:
        parts = urlsplit(self._smtp.value)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        context = ssl.create_default_context()
        if parts.scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=_OPERATION_SECONDS, context=context)
        else:
            server = smtplib.SMTP(host, port, timeout=_OPERATION_SECONDS)
        try:
            if parts.scheme == "smtp" and host not in LOOPBACK:
                server.starttls(context=context)
            _log_in(server, parts)
        except BaseException:
            server.close()
            raise
        return server

    def _mail(self, message: Message) -> EmailMessage:
        """Return the mail of ``message``."""
        mail = EmailMessage()
        mail["Subject"] = _subject(message)
        mail["From"] = self._sender
        mail["To"] = self._to
        mail["Date"] = format_datetime(message.attempted_at)
        mail["Message-ID"] = f"<{message.notification_id}@{self._sender.domain}>"
        if message.thread_id:
            mail["References"] = mail["In-Reply-To"] = f"<{message.thread_id}.signalcraft@{self._sender.domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(_text(message))
        mail.add_alternative(_html(message), subtype="html")
        return mail


def _log_in(server: smtplib.SMTP, parts: SplitResult) -> None:
    if parts.username:
        server.login(unquote(parts.username), unquote(parts.password or ""))


def _of_error(error: Exception, *, handed_over: bool) -> Outcome:
    """Return the outcome of an attempt that raised. Only our codes are kept, and SMTP's number."""
    match error:
        case smtplib.SMTPAuthenticationError():
            outcome = Outcome(kind=OutcomeKind.BROKEN, code="auth")
        case smtplib.SMTPNotSupportedError():
            outcome = Outcome(kind=OutcomeKind.BROKEN, code="starttls_missing")
        case smtplib.SMTPRecipientsRefused():
            outcome = _by_number(max((number for number, _ in error.recipients.values()), default=550))
        case smtplib.SMTPSenderRefused():
            outcome = _by_number(error.smtp_code)
        case smtplib.SMTPResponseException():
            outcome = _by_number(error.smtp_code, permanent=OutcomeKind.REFUSED)
        case ssl.SSLError():
            outcome = Outcome(kind=OutcomeKind.RETRY, code="tls")
        case _ if handed_over:
            outcome = Outcome(kind=OutcomeKind.UNKNOWN, code=_code(error, "connection_lost"))
        case _:
            outcome = Outcome(kind=OutcomeKind.RETRY, code=_code(error, "connect"))
    return outcome


def _code(error: Exception, otherwise: str) -> str:
    return "timeout" if isinstance(error, TimeoutError) else otherwise


def _by_number(number: int, *, permanent: OutcomeKind = OutcomeKind.BROKEN) -> Outcome:
    """Return the outcome of an SMTP reply: 4xx is temporary, 5xx is not (RFC 5321, 4.2.1)."""
    kind = OutcomeKind.RETRY if 400 <= number < 500 else permanent
    return Outcome(kind=kind, code=f"smtp_{number}")


def _subject(message: Message) -> str:
    """Return the subject: the same for all messages about a group, so that mail programs keep them together."""
    if message.group is None:
        return f"[SignalCraft] {message.title}"[:_SUBJECT_LIMIT]
    test = "TEST " if message.is_test else ""
    return f"{test}[{message.group['project']} {message.group['environment']}] {message.title}"[:_SUBJECT_LIMIT]


def _lines(message: Message) -> list[str]:
    if message.digest is None:
        return []
    return [
        f"{group['severity']:8} {group['project']} · {group['environment']}: {group['title']} ({group['count']})"
        for group in message.digest.worst
    ]


def _text(message: Message) -> str:
    facts = [f"{name + ':':14} {value}" for name, value in message.facts]
    links = [link for link in (message.url, message.link) if link]
    parts = [[message.title], [message.text] if message.text != message.title else [], facts, _lines(message), links]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


_HTML = """<div style="font-family:system-ui,sans-serif;max-width:640px;color:#1c1e21">
<p style="margin:0 0 4px;color:#5f6368">{heading}</p>
<h1 style="font-size:18px;margin:0 0 12px">{title}</h1>
{body}</div>"""


def _html(message: Message) -> str:
    rows = "".join(
        f'<tr><td style="padding:2px 16px 2px 0;color:#5f6368">{html.escape(name)}</td>'
        f"<td>{html.escape(value)}</td></tr>"
        for name, value in message.facts
    )
    groups = "".join(f"<li>{html.escape(line)}</li>" for line in _lines(message))
    links = " · ".join(
        f'<a href="{html.escape(href)}">{text}</a>'
        for href, text in ((message.url, "Open in SignalCraft"), (message.link, "Open at the source"))
        if href
    )
    body = (f"<table>{rows}</table>" if rows else "") + (f"<ol>{groups}</ol>" if groups else "") + f"<p>{links}</p>"
    heading = HEADINGS.get(message.reason, message.reason)
    return _HTML.format(heading=html.escape(heading), title=html.escape(message.title), body=body)
