"""Send mail by SMTP.

The connection is encrypted (``smtps://``, or STARTTLS) unless the server is on this machine.
"""

import smtplib
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any, ClassVar, Final
from urllib.parse import SplitResult, unquote, urlsplit

from marshmallow import Schema, ValidationError, fields, validate

from signalcraft.notify.contract import Message, Outcome, OutcomeKind, Receiver, Secret
from signalcraft.notify.options import LOOPBACK, OneOrMore, SecretField
from signalcraft.notify.receivers.deadline import Deadline
from signalcraft.notify.receivers.email.mail import mail_of

#: The replies to addresses that were not accepted, by address.
_Replies = Mapping[str, tuple[int, bytes]]

_OPERATION_SECONDS: Final = 5.0
_PORTS: Final[Mapping[str, int]] = {"smtp": 587, "smtps": 465}


class _AddressField(fields.Field[Address]):
    """An e-mail address: ``ops@example.org``."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Address:  # noqa: ANN401, ARG002 - marshmallow's signature
        try:
            address = Address(addr_spec=value if isinstance(value, str) else "")
            domain = address.domain.encode("idna").decode()
        except (ValueError, IndexError, HeaderParseError):
            raise ValidationError("must be an e-mail address") from None
        if not address.username or not domain:
            raise ValidationError("must be an e-mail address")
        return Address(username=address.username, domain=domain)


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
    to = OneOrMore(_AddressField(), required=True, validate=validate.Length(1, 50))
    per_hour = fields.Integer(strict=True, validate=validate.Range(1, 10_000), load_default=60)


class EmailReceiver(Receiver):
    """Sends mail."""

    kind: ClassVar[str] = "email"
    options: ClassVar[type[Schema]] = _Options

    def __init__(self, name: str, smtp: Secret, sender: Address, to: Sequence[Address], per_hour: int | None) -> None:
        """Create the receiver ``name``."""
        self.name = name
        self.per_hour = per_hour
        self._smtp = smtp
        self._sender = sender
        self._to = tuple(to)
        self._deadline = Deadline()

    def send(self, message: Message) -> Outcome:
        """Send ``message`` to all addresses, or to those that did not take it yet, over a connection of its own."""
        mail = mail_of(message, sender=self._sender, to=self._to)
        to = [each.addr_spec for each in self._to if not message.only_to or each.addr_spec in message.only_to]
        if not to:
            return Outcome(kind=OutcomeKind.SENT, code="no_address", detail="the others are no longer configured")
        return self._deadline.run(lambda: self._deliver(mail, to, is_rest=bool(message.only_to)))

    def check(self) -> Sequence[str]:
        """Return what is wrong with the server or the login, without sending."""
        outcome = self._deadline.run(lambda: self._deliver(None))
        if outcome.kind is OutcomeKind.SENT:
            return ()
        return [f"The SMTP server does not take the connection or the login ({outcome.code}): check its URL."]

    def _deliver(self, mail: EmailMessage | None, to: Sequence[str] = (), *, is_rest: bool = False) -> Outcome:
        """Connect and log in, and send ``mail`` if there is one; ``is_rest``: other addresses have it."""
        try:
            server = self._connect()
        except (OSError, smtplib.SMTPException) as error:
            return _of_connect_error(error)
        try:
            replies = server.send_message(mail, to_addrs=to) if mail else {}
        except smtplib.SMTPRecipientsRefused as error:
            return _of_refused_addresses(error.recipients, is_rest=is_rest)
        except (OSError, smtplib.SMTPException) as error:
            return _of_send_error(error)
        finally:
            _quit(server)
        return _of_accepted(replies)

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


def _log_in(server: smtplib.SMTP, parts: SplitResult) -> None:
    if parts.username:
        server.login(unquote(parts.username), unquote(parts.password or ""))


def _quit(server: smtplib.SMTP) -> None:
    """Say goodbye without waiting: what the server answers changes nothing about the mail."""
    with suppress(OSError, smtplib.SMTPException):
        server.putcmd("quit")
    server.close()


def _of_connect_error(error: Exception) -> Outcome:
    """Return the outcome of a connection or login that failed: nothing was sent. Only our codes are kept."""
    match error:
        case smtplib.SMTPAuthenticationError() if error.smtp_code >= 500:
            return Outcome(kind=OutcomeKind.BROKEN, code="auth")
        case smtplib.SMTPResponseException():
            return _by_number(error.smtp_code, permanent=OutcomeKind.BROKEN)
        case smtplib.SMTPNotSupportedError():
            return Outcome(kind=OutcomeKind.BROKEN, code="not_supported")
        case smtplib.SMTPException() if not isinstance(error, smtplib.SMTPServerDisconnected):
            return Outcome(kind=OutcomeKind.BROKEN, code="auth")  # no way to log in that both sides know
    codes = ((ssl.SSLError, "tls"), (socket.gaierror, "dns"))
    return Outcome(
        kind=OutcomeKind.RETRY, code=next((code for kind, code in codes if isinstance(error, kind)), "connect")
    )


def _of_send_error(error: Exception) -> Outcome:
    """Return the outcome of a mail that was refused, or whose connection was lost."""
    match error:
        case smtplib.SMTPSenderRefused():
            return _by_number(error.smtp_code, permanent=OutcomeKind.BROKEN)
        case smtplib.SMTPResponseException():
            return _by_number(error.smtp_code, permanent=OutcomeKind.REFUSED)
    return Outcome(kind=OutcomeKind.UNKNOWN, code="connection_lost")


def _of_accepted(replies: _Replies) -> Outcome:
    """Return the outcome of a mail that all addresses but those of ``replies`` took."""
    refused = [address for address, (number, _) in replies.items() if _is_permanent(number)]
    number = max((number for number, _ in replies.values()), default=250)
    return Outcome(
        kind=OutcomeKind.SENT,
        code=f"smtp_{number}",
        detail=_words(replies),
        undelivered=[address for address in replies if address not in refused],
        refused=refused,
    )


def _of_refused_addresses(replies: _Replies, *, is_rest: bool) -> Outcome:
    """Return the outcome of a mail that no address took. One that may take it later is worth another attempt."""
    number = min((number for number, _ in replies.values()), default=550)
    outcome = _by_number(number, permanent=OutcomeKind.REFUSED if is_rest else OutcomeKind.BROKEN)
    return replace(outcome, detail=_words(replies))


def _words(replies: _Replies) -> str:
    """Return which addresses did not take the mail, with our words for the server's."""
    return ", ".join(
        f"{address} {'refused' if _is_permanent(number) else 'delayed'} ({number})"
        for address, (number, _) in replies.items()
    )


def _by_number(number: int, *, permanent: OutcomeKind) -> Outcome:
    """Return the outcome of an SMTP reply: 5xx is permanent, all else is not (RFC 5321, 4.2.1)."""
    kind = permanent if _is_permanent(number) else OutcomeKind.RETRY
    return Outcome(kind=kind, code=f"smtp_{number}")


def _is_permanent(number: int) -> bool:
    return 500 <= number < 600
