"""An SMTP server that misbehaves as a test says."""

import asyncio
import contextlib
import email
import ipaddress
import socket
import ssl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class MailServer:
    """Keeps what arrives. ``replies`` are given in turn to the command they name; then all is accepted."""

    host: str = "127.0.0.1"
    port: int = 0
    replies: list[tuple[str, str]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"smtp://{self.host}:{self.port}"

    @property
    def mails(self) -> list[EmailMessage]:
        return [email.message_from_bytes(raw, policy=default) for raw in self.raw]  # type: ignore[arg-type, misc]

    async def _reply(self, command: str, server: SMTP, otherwise: str) -> str:
        if not self.replies or self.replies[0][0] != command:
            return otherwise
        reply = self.replies.pop(0)[1]
        if reply == "hang":
            await asyncio.sleep(60)
        if reply == "drop":
            server.transport.abort()
        return reply

    async def handle_MAIL(  # noqa: N802
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        address: str,
        options: list[str],
    ) -> str:
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        self.encrypted.append(session.ssl is not None)
        return await self._reply("MAIL", server, "250 OK")

    async def handle_RCPT(  # noqa: N802
        self,
        server: SMTP,
        session: Session,  # noqa: ARG002
        envelope: Envelope,
        address: str,
        options: list[str],  # noqa: ARG002
    ) -> str:
        reply = await self._reply("RCPT", server, "250 OK")
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: ARG002, N802
        reply = await self._reply("DATA", server, "250 OK")
        if reply.startswith("250") or reply == "drop":
            self.raw.append(envelope.original_content)
            self.recipients.append(list(envelope.rcpt_tos))
        return reply

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: ARG002, N802
        return await self._reply("QUIT", server, "221 Bye")

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:  # noqa: ANN401, ARG002
        login = (data.login.decode(), data.password.decode())
        self.logins.append(login)
        return AuthResult(success=login == ("ann", "smtp-pass/word"), handled=False)


class _Controller(Controller):
    """Listens on a port that is its own from the beginning: one that was only free may be taken meanwhile."""

    def _create_server(self) -> Any:  # noqa: ANN401 - untyped
        listener = socket.create_server((self.hostname, 0))
        self.port = listener.getsockname()[1]
        return self.loop.create_server(self._factory_invoker, sock=listener, ssl=self.ssl_context)


@contextmanager
def serving(*replies: tuple[str, str], host: str = "127.0.0.1", **options: Any) -> Iterator[MailServer]:  # noqa: ANN401
    state = MailServer(host=host, replies=list(replies))
    if options.pop("auth", False):
        options |= {"authenticator": state.authenticate, "auth_required": True, "auth_require_tls": False}
    controller = _Controller(state, hostname=host, ready_timeout=10, **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Requiring AUTH while not requiring TLS")  # which is the point here
        controller.start()
        state.port = controller.port
        try:
            yield state
        finally:
            with contextlib.suppress(Exception):
                controller.stop()


def self_signed(folder: Path, host: str) -> ssl.SSLContext:
    """Return a server's context with a certificate that no client trusts: ``cert.pem`` in ``folder``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    now = datetime.now(UTC)
    day = timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context
